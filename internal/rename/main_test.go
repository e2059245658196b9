package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hypertoken/internal/require"
)

// A copy of this module that is renamed builds, with all of its tests, and nothing in it names the module that it was.
func TestARenamedModule(t *testing.T) {
	require.Deep(t)
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	was, _, _ := strings.Cut(strings.TrimPrefix(string(mod), "module "), "\n")
	const path = "example.org/cards/engine"
	root := t.TempDir()
	copyModule(t, root)
	run := func(args ...string) string {
		t.Helper()
		c := exec.Command(args[0], args[1:]...)
		c.Dir = root
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if n, err := rename(root, path); err != nil || n < 100 {
		t.Fatal(n, err)
	}
	run("go", "vet", "./...") // builds it all
	run("go", "-C", "journal/disk", "vet", "./...")
	run("go", "-C", "examples/sqlitestore", "vet", "./...")
	if unformatted := run("gofmt", "-l", "cmd", "host", "internal", "integration"); unformatted != "" {
		t.Errorf("not formatted: %s", unformatted)
	}
	if name := strings.TrimSpace(run("go", "list", "./host")); name != path+"/host" {
		t.Errorf("a package is %s", name)
	}
	out := run("go", "run", "./cmd/hypertoken", "run", "examples/blackjack.jsonl")
	if !strings.Contains(out, `{"ok":true}`) {
		t.Errorf("the program says %q", out)
	}
	// Back: it is the copy that it was.
	if _, err := rename(root, was); err != nil {
		t.Fatal(err)
	}
	module(t, func(name string, _ fs.DirEntry) {
		want, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		if have, err := os.ReadFile(filepath.Join(root, name)); err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is another file after it was renamed and renamed back (%v)", name, err)
		}
	})
}

// module calls f for the files of this module that are not built and not downloaded.
func module(t *testing.T, f func(name string, e fs.DirEntry)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() != "dist" && slices.Contains(others, e.Name())):
			return fs.SkipDir
		case e.Type().IsRegular() && e.Name() != ".git":
			f(name, e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyModule(t *testing.T, root string) {
	t.Helper()
	module(t, func(name string, e fs.DirEntry) {
		b, err := os.ReadFile(filepath.Join("../..", name))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700)
		}
		info, failed := e.Info()
		if err == nil && failed == nil {
			err = os.WriteFile(filepath.Join(root, name), b, info.Mode())
		}
		if err != nil || failed != nil {
			t.Fatal(err, failed)
		}
	})
}

func TestMentions(t *testing.T) {
	named := mentions("cards")
	for text, want := range map[string]string{
		`"cards/host"`:                     `"example.org/name/host"`,
		`cards/host.(*engineMachine)`:      `example.org/name/host.(*engineMachine)`,
		`"cards/"+folder`:                  `"example.org/name/"+folder`,
		`-require=cards@v0.0.0`:            `-require=example.org/name@v0.0.0`,
		`-replace=cards=../cards`:          `-replace=example.org/name=../cards`,
		`./cmd/cards`:                      `./cmd/cards`,
		`/cards/cards.js`:                  `/cards/cards.js`,
		`bin/cards run`:                    `bin/cards run`,
		`my-cards/host`:                    `my-cards/host`,
		"cards: nobody reads":              "cards: nobody reads",
		`registers "cards/metrics", other`: `registers "example.org/name/metrics", other`,
	} {
		if got := named.ReplaceAllString(text, "${1}example.org/name${2}"); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
}

func TestDirectives(t *testing.T) {
	directed := directives("cards")
	for text, want := range map[string]string{
		"module cards/store":                   "module example.org/name/store",
		"\tcards v0.0.0":                       "\texample.org/name v0.0.0",
		"\tcards/store/disk v0.0.0":            "\texample.org/name/store/disk v0.0.0",
		"replace cards => ../..":               "replace example.org/name => ../..",
		"replace cards/store => ./cards/store": "replace example.org/name/store => ./cards/store",
		"\tgithub.com/cards v0.0.0":            "\tgithub.com/cards v0.0.0",
		"\tcardsharp v0.0.0":                   "\tcardsharp v0.0.0",
		"ignore ./cards/node_modules":          "ignore ./cards/node_modules",
	} {
		if got := directed.ReplaceAllString(text, "${1}example.org/name${2}${3}"); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
}

func TestWhatIsNoPath(t *testing.T) {
	root := t.TempDir()
	if _, err := rename(root, "example.org/name"); err == nil || !strings.Contains(err.Error(), "go.mod") {
		t.Errorf("no module: %v", err)
	}
	mod := []byte("module hypertoken\n\ngo 1.26\n")
	if err := os.WriteFile(filepath.Join(root, "go.mod"), mod, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"a b", "/x", "example.org/na?me", "-x"} {
		if _, err := rename(root, path); err == nil || !strings.Contains(err.Error(), "is no path for a module") {
			t.Errorf("%q: %v", path, err)
		}
	}
	if have, err := os.ReadFile(filepath.Join(root, "go.mod")); err != nil || !bytes.Equal(have, mod) {
		t.Errorf("go.mod is %s, %v", have, err)
	}
}
