package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hypertoken/internal/leaks"
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

// An application in a folder of its own depends on a clone as README says. The go command may download what the module
// cache does not have: on a machine that is new, the tests that ran before have not needed every go.mod.
func TestReadmesApplication(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell")
	}
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	program := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(readme)
	_, section, _ := strings.Cut(readme, "## Use it in your application")
	steps := regexp.MustCompile(`(?m)(^    \$ .*\n)+    .*\n`).FindString(section)
	var commands []string
	want := ""
	for line := range strings.Lines(steps) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ "); ok {
			commands = append(commands, command)
		} else {
			want = strings.TrimSpace(line)
		}
	}
	if len(program) != 2 || len(commands) != 5 || want == "" {
		t.Fatalf("README.md has the commands %q, which print %q", commands, want)
	}
	clone, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	if err := os.Mkdir(filepath.Join(parent, "saved"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(parent, "saved", "main.go"), []byte(program[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	workspace := regexp.MustCompile("`(go work init [^`]*)`").FindStringSubmatch(section)
	if workspace == nil {
		t.Fatal("README.md makes no workspace")
	}
	// A workspace takes the place of the requirement and what follows from it: commands 2 and 3.
	for folder, way := range map[string]struct {
		commands []string
		flags    []string
	}{
		"replaced":  {commands, []string{"GOFLAGS=-mod=mod", "GOWORK=off"}},
		"workspace": {[]string{commands[0], commands[1], workspace[1], commands[4]}, []string{"GOFLAGS=", "GOWORK="}},
	} {
		dir := filepath.Join(parent, folder)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(clone, filepath.Join(dir, "hypertoken")); err != nil {
			t.Skip(err)
		}
		// The program is saved once there is a folder.
		script := "set -e\n" + way.commands[0] + "\ncp ../../saved/main.go .\n" + strings.Join(way.commands[1:], "\n")
		c := exec.Command("sh", "-c", script)
		c.Dir = dir
		c.Env = append(append(os.Environ(), "GOSUMDB=off"), way.flags...)
		var said, logged strings.Builder
		c.Stdout, c.Stderr = &said, &logged
		if err := c.Run(); err != nil || strings.TrimSpace(said.String()) != want {
			t.Errorf("%s: it printed %q, want %q; %v: %s", folder, said.String(), want, err, logged.String())
		}
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
	leaks.Check(t)
	c := exec.Command(program)
	session(t, c)
	out, err := c.CombinedOutput()
	return string(out), err
}
