package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Each block of Rust in cores.md is, line by line, part of the game that it builds. cmd/hypertoken
// builds, tests and plays that game (testdata/core).
func TestTheCoresSnippetsAreTheGame(t *testing.T) {
	document, err := os.ReadFile("cores.md")
	if err != nil {
		t.Fatal(err)
	}
	var game strings.Builder
	for _, name := range []string{"src/lib.rs", "tests/game.rs"} {
		source, err := os.ReadFile("../examples/cores/eights/" + name)
		if err != nil {
			t.Fatal(err)
		}
		game.Write(source)
	}
	blocks := regexp.MustCompile("(?s)```rust\n(.*?)```").FindAllStringSubmatch(string(document), -1)
	if len(blocks) < 12 {
		t.Errorf("cores.md has %d snippets", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(game.String(), b[1]) {
			t.Errorf("the game does not have this snippet:\n%s", b[1])
		}
	}
}

// The commands of cores.md are those of the program, and its files those of the game.
func TestTheCoresCommandsNameFilesOfTheGame(t *testing.T) {
	document, err := os.ReadFile("cores.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^\$ .*`).FindAllString(string(document), -1)
	if len(commands) < 10 {
		t.Errorf("cores.md has %d commands", len(commands))
	}
	for _, c := range commands {
		for _, file := range regexp.MustCompile(`tests/\S+`).FindAllString(c, -1) {
			if _, err := os.Stat("../examples/cores/eights/" + file); err != nil {
				t.Errorf("%s: %v", c, err)
			}
		}
	}
}
