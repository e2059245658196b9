package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hypertoken/internal/require"
	"hypertoken/internal/sabotage"
)

const (
	clean  = "package p\n\nfunc f() {\n\tg()\n}\n\nfunc g() {\n\tg()\n\th()\n}\n"
	broken = "package p\n\nfunc f() {\n\tg()\n}\n\nfunc g() {\n\tg()\n}\n"
)

// A module with a file, in a repository.
func newModule(t *testing.T) (root string) {
	t.Helper()
	require.Tool(t, "git")
	root = t.TempDir()
	write(t, root, "p/p.go", clean)
	if err := os.MkdirAll(filepath.Join(root, sabotage.Folder), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}} {
		if _, err := git(root, args...); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func write(t *testing.T, root, file, text string) {
	t.Helper()
	path := filepath.Join(root, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, root, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A recorded breach makes of the file what it was when it was recorded, and the file is as before.
// The next record keeps the lines before the diff.
func TestRecord(t *testing.T) {
	root := newModule(t)
	write(t, root, "p/p.go", broken)
	if err := recordBreach(root, "no-h", nil); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root, "p/p.go"); got != clean {
		t.Errorf("the file is %q", got)
	}
	b, err := sabotage.Read(root, "no-h")
	if err != nil {
		t.Fatal(err)
	}
	if files, err := b.Apply(root); err != nil || string(files["p/p.go"]) != broken {
		t.Errorf("got %q, %v", files, err)
	}
	if h := b.Hunks[0]; h.Section != "func g()" || len(h.Lines) != 3 {
		t.Errorf("got the hunk %+v", h)
	}
	b.Guarantee, b.What, b.NoticedBy = 7, "h is not called", []string{"hang", "events"}
	if err := b.Write(root); err != nil {
		t.Fatal(err)
	}
	write(t, root, "p/p.go", strings.Replace(clean, "h()", "i()", 1))
	if err := recordBreach(root, "no-h", nil); err != nil {
		t.Fatal(err)
	}
	again, err := sabotage.Read(root, "no-h")
	if err != nil || again.Guarantee != 7 || again.What != b.What || !slices.Equal(again.NoticedBy, b.NoticedBy) {
		t.Errorf("got %+v, %v", again, err)
	}
	if text := read(t, root, again.Path()); !strings.Contains(text, "-\th()\n+\ti()\n") {
		t.Errorf("got %s", text)
	}
}

// Lines that a file has twice get as much context as tells them apart.
func TestRecordTellsPlacesApart(t *testing.T) {
	root := newModule(t)
	write(t, root, "p/p.go", strings.Replace(clean, "\tg()\n\th()", "\tj()\n\th()", 1))
	if err := recordBreach(root, "j", nil); err != nil {
		t.Fatal(err)
	}
	b, err := sabotage.Read(root, "j")
	if err != nil {
		t.Fatal(err)
	}
	if files, err := b.Apply(root); err != nil || !strings.Contains(string(files["p/p.go"]), "\tj()\n\th()") {
		t.Errorf("got %q, %v", files, err)
	}
}

// What is no breach is not recorded, and not taken back.
func TestRecordLeavesOtherChangesAlone(t *testing.T) {
	root := newModule(t)
	if err := recordBreach(root, "none", nil); err == nil || !strings.Contains(err.Error(), "not staged") {
		t.Errorf("with no change: got %v", err)
	}
	large := clean + strings.Repeat("\nfunc _() {}\n", mostLines)
	write(t, root, "p/p.go", large)
	if err := recordBreach(root, "large", nil); err == nil || !strings.Contains(err.Error(), "no small change") {
		t.Errorf("with a large change: got %v", err)
	}
	if read(t, root, "p/p.go") != large {
		t.Error("a large change is taken back")
	}
	// The work of a user is staged, as README.md says.
	if _, err := git(root, "add", "-A"); err != nil {
		t.Fatal(err)
	}
	write(t, root, "p/p.go", strings.Replace(large, "\th()\n", "", 1))
	if err := recordBreach(root, "small", nil); err != nil {
		t.Error(err)
	}
	if read(t, root, "p/p.go") != large {
		t.Error("what was staged is gone")
	}
}

func TestFollow(t *testing.T) {
	for _, row := range []struct {
		name  string
		files map[string]string // after the move
		want  string            // the file that the breach has then; none if it can't be found
	}{
		{"to another file", map[string]string{"p/p.go": "package p\n", "q/q.go": "// Q.\n" + clean}, "q/q.go"},
		{"within its file", map[string]string{"p/p.go": strings.Replace(clean, "\n", "\n\nvar v int\n", 1)}, "p/p.go"},
		{"to a test", map[string]string{"p/p.go": "package p\n", "p/p_test.go": clean}, ""},
		{"to two files", map[string]string{"p/p.go": "package p\n", "q/q.go": clean, "r/r.go": clean}, ""},
		{"and is another", map[string]string{"p/p.go": strings.Replace(clean, "h()", "i()", 1)}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := newModule(t)
			write(t, root, "p/p.go", broken)
			if err := recordBreach(root, "no-h", nil); err != nil {
				t.Fatal(err)
			}
			for file, text := range row.files {
				write(t, root, file, text)
			}
			err := followCode(root)
			b, err2 := sabotage.Read(root, "no-h")
			if err2 != nil {
				t.Fatal(err2)
			}
			if row.want == "" {
				if err == nil || b.Hunks[0].File != "p/p.go" {
					t.Errorf("got %v, and %s", err, b.Hunks[0].File)
				}
				return
			}
			if err != nil || b.Hunks[0].File != row.want {
				t.Errorf("got %v, and %s", err, b.Hunks[0].File)
			}
			if files, err := b.Apply(root); err != nil || strings.Contains(string(files[row.want]), "h()") {
				t.Errorf("got %q, %v", files, err)
			}
		})
	}
}
