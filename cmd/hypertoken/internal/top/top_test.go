package top

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write golden files")

// golden holds what came against a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update writes it anew. Got:\n%s\nwant:\n%s", file, got, want)
	}
}

// uncolored takes styles out of a screen, and fails to where there is any other way to steer a terminal.
func uncolored(s string) string { return styles.ReplaceAllString(s, "") }

var styles = regexp.MustCompile("\x1b\\[[0-9;]*m")
