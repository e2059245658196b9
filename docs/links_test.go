package docs

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// foreign are folders whose documents are not this repository's: those of git, of other packages,
// and of builds.
var foreign = []string{".git", "node_modules", "target", "bin"}

// Each relative link of each document leads to a file or folder of the repository, and each anchor
// to a heading.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	const root = ".."
	links := 0
	for _, name := range documents(t, root) {
		for _, link := range linksOf(read(t, name)) {
			target, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: the link %q is no address: %v", name, link, err)
				continue
			}
			if target.Scheme != "" {
				continue
			}
			links++
			file := name
			if target.Path != "" {
				file = filepath.Join(filepath.Dir(name), filepath.FromSlash(target.Path))
			}
			if err := resolve(t, file, target.Fragment); err != "" {
				t.Errorf("%s: the link %q leads nowhere: %s", name, link, err)
			}
		}
	}
	if links < 30 {
		t.Errorf("the documents have %d links", links)
	}
}

// resolve says why a link to a file, and to an anchor in it if there is one, leads nowhere. It
// returns "" if it does not.
func resolve(t *testing.T, file, anchor string) string {
	t.Helper()
	if _, err := os.Stat(file); err != nil {
		return err.Error()
	}
	if anchor == "" {
		return ""
	}
	if filepath.Ext(file) != ".md" {
		return "only a document has anchors"
	}
	anchors := anchorsOf(read(t, file))
	if !slices.Contains(anchors, anchor) {
		return "the anchors there are " + strings.Join(anchors, ", ")
	}
	return ""
}

// A link that leads nowhere has to be found, or the test above says nothing.
func TestALinkThatLeadsNowhereIsFound(t *testing.T) {
	for _, c := range []struct {
		file, anchor string
		resolves     bool
	}{
		{"guide.md", "", true},
		{"guide.md", "lines", true},
		{"../docs", "", true},
		{"guide.md", "no-such-heading", false},
		{"no-such-file.md", "", false},
		{"links_test.go", "lines", false},
	} {
		if why := resolve(t, c.file, c.anchor); (why == "") != c.resolves {
			t.Errorf("%s#%s: %q, want that it resolves: %v", c.file, c.anchor, why, c.resolves)
		}
	}
	text := "# A [b](c.md) `d`\n\n```\n[e](f.md)\n# no heading\n```\n[g]: h.md#i\n## A b d\n## X-ray: 1.5 %, y_z\n`[j](k.md)`\n"
	if got, want := linksOf(text), []string{"c.md", "h.md#i"}; !slices.Equal(got, want) {
		t.Errorf("the links are %q, want %q", got, want)
	}
	if got, want := anchorsOf(text), []string{"a-b-d", "a-b-d-1", "x-ray-15--y_z"}; !slices.Equal(got, want) {
		t.Errorf("the anchors are %q, want %q", got, want)
	}
}

// documents returns the names of all documents below a folder.
func documents(t *testing.T, root string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains(foreign, e.Name()):
			return fs.SkipDir
		case !e.IsDir() && filepath.Ext(name) == ".md":
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	fence      = regexp.MustCompile("(?ms)^```.*?^```[^\n]*$")
	code       = regexp.MustCompile("`[^`\n]*`")
	inlineLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	definition = regexp.MustCompile(`(?m)^\[[^\]]+\]: (\S+)$`)
	heading    = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	linkText   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// linksOf returns where the links of a document lead to, those of its code left out.
func linksOf(text string) (links []string) {
	text = code.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
	for _, form := range []*regexp.Regexp{inlineLink, definition} {
		for _, m := range form.FindAllStringSubmatch(text, -1) {
			links = append(links, m[1])
		}
	}
	return links
}

// anchorsOf returns the anchors of a document's headings, as GitHub makes them: lower case, spaces
// as hyphens, no other punctuation; a heading that repeats an earlier one gets a number.
func anchorsOf(text string) (anchors []string) {
	seen := map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linkText.ReplaceAllString(m[1], "$1"))
		n := seen[anchor]
		seen[anchor]++
		if n > 0 {
			anchor += "-" + strconv.Itoa(n)
		}
		anchors = append(anchors, anchor)
	}
	return anchors
}
