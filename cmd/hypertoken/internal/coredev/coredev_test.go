package coredev

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hypertoken/internal/jsonl"
	"hypertoken/internal/msgjson"
)

func TestActionsOfATraceGetAClockAndEntropy(t *testing.T) {
	const zeros = "0000000000000000000000000000000"
	for _, c := range []struct{ name, text, want string }{
		{"neither", `{"type":"a"}`, `{"now":1700000001000,"entropy":"` + zeros + `1","type":"a"}`},
		{"a clock", `{"now":5,"type":"a"}`, `{"entropy":"` + zeros + `1","now":5,"type":"a"}`},
		{"both", `{"now":5,"entropy":"e","type":"a"}`, `{"now":5,"entropy":"e","type":"a"}`},
		{"by the line", "{\"state\":true}\n\n  {\"type\":\"a\"}\n",
			"{\"state\":true}\n\n  {\"now\":1700000003000,\"entropy\":\"" + zeros + "3\",\"type\":\"a\"}\n"},
		{"no action", `{"setup":{"type":"a"}}`, `{"setup":{"type":"a"}}`},
		{"no line", "nonsense {\"type\":\"a\"}\n{", "nonsense {\"type\":\"a\"}\n{"},
		{"nothing", "", ""},
	} {
		if got := string(complete([]byte(c.text))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// FuzzComplete completes any bytes. Lines stay lines, and a line that can be used can still be
// used.
func FuzzComplete(f *testing.F) {
	for _, text := range []string{"{\"type\":\"a\"}\n{\"now\":1,\"type\":\"a\"}", "{\"setup\":{}}\n", "{}",
		"{ \"type\" : \"a\" }", "\xff{\"type\":1}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		after := complete(text)
		before, lines := bytes.Split(text, []byte("\n")), bytes.Split(after, []byte("\n"))
		if len(before) != len(lines) {
			t.Fatalf("%d lines became %d", len(before), len(lines))
		}
		for i := range lines {
			_, was := jsonl.Parse(jsonl.Line{Text: before[i]}, nil)
			q, is := jsonl.Parse(jsonl.Line{Text: lines[i]}, nil)
			if (was == nil) != (is == nil) {
				t.Fatalf("%q became %q: %v, %v", before[i], lines[i], was, is)
			}
			if is == nil && q.Kind == jsonl.Action {
				members, err := msgjson.Object(lines[i])
				if err != nil || len(members) < 3 {
					t.Fatalf("%q lacks a clock or entropy: %v", lines[i], err)
				}
			}
		}
		_ = steps(Trace{Lines: after})
	})
}

func TestAnswersAreHeldAgainstThoseWanted(t *testing.T) {
	want := filepath.Join(t.TempDir(), "game.want")
	trace := Trace{Path: "game.jsonl", Want: want}
	if err := trace.Compare([]byte("1\n")); err == nil || !strings.Contains(err.Error(), "--update") {
		t.Errorf("without wanted answers: %v", err)
	}
	if changed, err := trace.Update([]byte("1\n2\n")); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if changed, err := trace.Update([]byte("1\n2\n")); err != nil || changed {
		t.Errorf("the same once more: %v, %v", changed, err)
	}
	for answers, differs := range map[string]string{"1\n2\n": "",
		"1\n":       "answer 2 differs\n  want 2\n  got  nothing",
		"1\n2\n3\n": "answer 3 differs\n  want nothing\n  got  3"} {
		err := trace.Compare([]byte(answers))
		if (err == nil) != (differs == "") || err != nil && !strings.Contains(err.Error(), differs) {
			t.Errorf("%q: %v, want %q", answers, err, differs)
		}
	}
	if err := os.WriteFile(want, []byte("1\r\n2\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trace.Compare([]byte("1\n2\n")); err != nil {
		t.Errorf("with the line ends of Windows: %v", err)
	}
}

// The path of hypertoken-core is relative within the checkout, absolute outside it.
func TestThePathOfTheLibrary(t *testing.T) {
	root := t.TempDir()
	library := filepath.Join(root, "checkout", "core-rs")
	if err := os.MkdirAll(library, 0o700); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(library, "Cargo.toml")
	if err := os.WriteFile(manifest, []byte("[workspace]\n\n[package]\nname = \"hypertoken-core\"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		filepath.Join(root, "checkout", "games", "mine"): "../../core-rs",
		filepath.Join(root, "checkout", "mine"):          "../core-rs",
		filepath.Join(root, "mine"):                      filepath.ToSlash(library),
	} {
		if got, err := libraryPath(dir, library); got != want || err != nil {
			t.Errorf("from %s: %s, %v, want %s", dir, got, err, want)
		}
	}
	if got := FindLibrary(root, filepath.Join(root, "checkout", "deep", "er")); got != library {
		t.Errorf("from below the checkout: %q", got)
	}
	if got := FindLibrary(root); got != "" {
		t.Errorf("from above: %q", got)
	}
	if err := os.WriteFile(manifest, []byte("[package]\nname = \"other\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var usage *UsageError
	if _, err := libraryPath(root, library); !errors.As(err, &usage) {
		t.Errorf("another crate: %v", err)
	}
}

// Every file of the template is written, and nothing of a placeholder is left.
func TestTheTemplateIsWrittenWhole(t *testing.T) {
	entries, err := template.ReadDir("template")
	if err != nil || len(entries) != len(files) {
		t.Errorf("the template has %d files, %d are written: %v", len(entries), len(files), err)
	}
	dir := filepath.Join(t.TempDir(), "my-game")
	written, err := Create(dir, Source{Git: "https://example.org/hypertoken.git"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range written {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bytes.Contains(text, []byte("@")) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}
