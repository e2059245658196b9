package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// README's program runs as it stands, and says what to do where its first line is missing.
func TestReadmesProgram(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("README.md has no program")
	}
	program := string(block[1])
	want := regexp.MustCompile(`fmt\.Println\(.*\) // (.*)`).FindStringSubmatch(program)
	if out, err := runFile(t, program); err != nil || strings.TrimSpace(out) != want[1] {
		t.Errorf("got %q, %v, want %q", out, err, want[1])
	}
	broken := regexp.MustCompile(`(?m)^\s*workerproc\.Main\(\).*$|^\s*"hypertoken/workerproc"$`).ReplaceAllString(program, "")
	if out, err := runFile(t, broken); err == nil || !strings.Contains(out, "call workerproc.Main first in main") {
		t.Errorf("without workerproc.Main: %q, %v", out, err)
	}
}

// runFile runs a program of one file.
func runFile(t *testing.T, source string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	program := strings.TrimSuffix(file, ".go") + ".exe"
	if out, err := exec.Command("go", "build", "-o", program, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	nothingIsLeft(t)
	c := exec.Command(program)
	session(t, c)
	out, err := c.CombinedOutput()
	return string(out), err
}
