// Package sabotage breaks the product's guarantees on purpose, to see that the tests notice.
//
// A [Breach] is a small patch, a file in the folder breaches. No file of the product knows of it:
// the patch is applied to copies of the files, and the go command builds the tests with these
// copies instead (go build -overlay). The command catch does that for each breach, and fails if a
// test that has to notice one passes; `make sabotage` runs it.
//
// The test of this package checks within seconds that each patch still applies, and that its
// result is Go code that compiles. If code has moved or has changed so that a patch no longer
// applies, breaches/README.md says what to do.
package sabotage

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Folder has the breaches, a file NAME.patch each. It is a path from the root of the module.
const Folder = "internal/sabotage/breaches"

// Guarantees are the project's promises, by their number in ARCHITECTURE.md. There is no number 0.
var Guarantees = [...]string{
	1: "success is durable",
	2: "an error means no effect",
	3: "order",
	4: "crashes are absorbed",
	5: "poison is contained",
	6: "the application keeps working",
	7: "nothing leaks",
	8: "recovery is checked",
	9: "a broken engine is alone",
}

// Breach is a patch that breaks a guarantee.
type Breach struct {
	Name      string // of the file, without .patch
	Guarantee int    // its number: an index of Guarantees
	What      string // what is wrong with the product once the patch is applied
	NoticedBy []string
	Hunks     []Hunk
}

// Path returns the path of the breach's file, from the root of the module.
func (b *Breach) Path() string { return Folder + "/" + b.Name + ".patch" }

// Suites returns the tests that have to notice the breach, each of them.
func (b *Breach) Suites() ([]Suite, error) {
	if len(b.NoticedBy) == 0 {
		return nil, fmt.Errorf("%s names no tests that have to notice: add them to the line %q", b.Path(), noticedBy)
	}
	var list []Suite
	for _, name := range b.NoticedBy {
		s, ok := Suites[name]
		if !ok {
			return nil, fmt.Errorf("%s names %q, which is none of the suites in internal/sabotage/suites.go", b.Path(),
				name)
		}
		list = append(list, s)
	}
	return list, nil
}

// Load reads all breaches, and returns them by guarantee and name. root is the module's root
// folder.
func Load(root string) ([]*Breach, error) {
	paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(Folder), "*.patch"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("there is no breach in %s: run this in the root of the module", Folder)
	}
	var list []*Breach
	for _, path := range paths {
		b, err := Read(root, strings.TrimSuffix(filepath.Base(path), ".patch"))
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b *Breach) int {
		return cmp.Or(cmp.Compare(a.Guarantee, b.Guarantee), cmp.Compare(a.Name, b.Name))
	})
	return list, nil
}

// The lines before the diff.
const (
	guarantee = "Guarantee: "
	what      = "What: "
	noticedBy = "Noticed by: "
)

// Read reads the breach with this name. Its hunks need not apply.
func Read(root, name string) (*Breach, error) {
	b := &Breach{Name: name}
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(b.Path())))
	if err != nil {
		return nil, err
	}
	header, diff := string(text), ""
	if at := strings.Index(header, "\n--- "); at >= 0 {
		header, diff = header[:at], header[at+1:]
	}
	for line := range strings.Lines(header) {
		line = strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(line, guarantee); ok {
			b.Guarantee, err = strconv.Atoi(v)
			if err != nil || b.Guarantee < 1 || b.Guarantee >= len(Guarantees) {
				return nil, fmt.Errorf("%s: %q is no number of a guarantee, which is from 1 to %d",
					b.Path(), v, len(Guarantees)-1)
			}
		} else if v, ok := strings.CutPrefix(line, what); ok {
			b.What = v
		} else if v, ok := strings.CutPrefix(line, noticedBy); ok {
			b.NoticedBy = strings.Split(v, ", ")
		} else if line != "" {
			return nil, fmt.Errorf("%s: the line %q before the diff begins with none of %q", b.Path(), line,
				[]string{guarantee, what, noticedBy})
		}
	}
	if b.Hunks, err = ParseDiff(diff); err != nil {
		return nil, fmt.Errorf("%s: %w", b.Path(), err)
	}
	return b, nil
}

// Write writes the breach's file.
func (b *Breach) Write(root string) error {
	text := fmt.Sprintf("%s%d\n%s%s\n%s%s\n\n%s", guarantee, b.Guarantee, what, b.What,
		noticedBy, strings.Join(b.NoticedBy, ", "), formatDiff(b.Hunks))
	return os.WriteFile(filepath.Join(root, filepath.FromSlash(b.Path())), []byte(text), 0o666)
}

// Apply returns the files as the breach makes them, by their paths from the root of the module. It
// changes nothing on the disk. It fails if a hunk's old lines are not found in its file, or are
// found more than once.
func (b *Breach) Apply(root string) (map[string][]byte, error) {
	if len(b.Hunks) == 0 {
		return nil, fmt.Errorf("%s has no diff", b.Path())
	}
	files := map[string][]byte{}
	for _, file := range b.Files() {
		var hunks []Hunk
		for _, h := range b.Hunks {
			if h.File == file {
				hunks = append(hunks, h)
			}
		}
		source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err == nil {
			files[file], err = Apply(source, hunks)
		}
		if err != nil {
			return nil, fmt.Errorf("the breach %s no longer applies to %s: %w: write it anew, as %s/README.md says",
				b.Name, file, err, Folder)
		}
	}
	return files, nil
}

// Files returns the paths of the files that the breach changes.
func (b *Breach) Files() []string {
	var list []string
	for _, h := range b.Hunks {
		if !slices.Contains(list, h.File) {
			list = append(list, h.File)
		}
	}
	return list
}

// Overlay applies the breach, and writes what comes of it and a file for the go command's flag
// -overlay into dir, which exists. It returns the path of that file.
func (b *Breach) Overlay(root, dir string) (string, error) {
	files, err := b.Apply(root)
	if err != nil {
		return "", err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, text := range files {
		original, err1 := filepath.Abs(filepath.Join(root, filepath.FromSlash(file)))
		broken, err2 := filepath.Abs(filepath.Join(dir, strings.ReplaceAll(file, "/", "-")))
		if err := errors.Join(err1, err2, os.WriteFile(broken, text, 0o666)); err != nil {
			return "", err
		}
		overlay.Replace[original] = broken
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o666)
}
