package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each game has a file of its own, also where files that differ in case alone are one.
func TestGameFiles(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{"a", "A", "a.b", ".", "..", "../a", "ä", "%", "%41", "a b", "a\x00", "a.jsonl"} {
		file := gameFile(name)
		if got, ok := gameOfFile(file); !ok || got != name {
			t.Errorf("%q has the file %q, which is that of %q", name, file, got)
		}
		if low := strings.ToLower(file); seen[low] || filepath.Base(file) != file || file[0] == '.' {
			t.Errorf("%q has the file %q", name, file)
		}
		seen[strings.ToLower(file)] = true
	}
	for _, file := range []string{"a", "A.jsonl", ".jsonl", "%6.jsonl", "%61.jsonl", ".a.jsonl-123"} {
		if name, ok := gameOfFile(file); ok {
			t.Errorf("the file %q is that of %q", file, name)
		}
	}
}

// The last line of a file tells where its game ends, however long the line is.
func TestEndOfFile(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, row := range []struct {
		name, text string
		sequence   uint64
		digest     string
	}{
		{"a setup", `{"setup":{},"core":"00"}` + "\n", 0, ""},
		{"actions", `{"setup":{}}` + "\n" + `{"type":"a","sequence":1}` + "\n" + `{"type":"a","sequence":2}` + "\n", 2, ""},
		{"a long snapshot", `{"snapshot":"` + long + `","sequence":7,"digest":"00ff"}` + "\n", 7, "00ff"},
		{"a long line behind others", `{"setup":{}}` + "\n" + `{"type":"` + long + `","sequence":1}`, 1, ""},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		end, err := endOfFile(path)
		if err != nil || end.Sequence != row.sequence || end.Digest != row.digest {
			t.Errorf("%s: %d %q %v", row.name, end.Sequence, end.Digest, err)
		}
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("{\"setup\":{}}\n{\"type\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	if end, err := endOfFile(path); err == nil {
		t.Errorf("a line that is cut off: %+v", end)
	}
}
