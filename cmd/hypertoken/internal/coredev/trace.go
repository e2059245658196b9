package coredev

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hypertoken/internal/msgjson"
)

// Trace is a file in the folder tests of a crate. It has lines for `hypertoken run`; another file
// has the expected answers.
type Trace struct {
	// Path is the file of lines, Want the file of answers.
	Path, Want string
	// Lines has the lines, with a clock and entropy in each action, so that the answers are always
	// the same.
	Lines []byte
}

// Traces returns the traces of the crate in a directory, tests/*.jsonl, sorted by name.
func Traces(dir string) ([]Trace, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "tests", "*.jsonl"))
	if err != nil {
		return nil, err
	}
	traces := make([]Trace, len(paths))
	for i, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		traces[i] = Trace{Path: path, Want: strings.TrimSuffix(path, ".jsonl") + ".want",
			Lines: complete(bytes.TrimPrefix(text, []byte("\ufeff")))}
	}
	return traces, nil
}

// firstNow is the clock of the first line, in milliseconds since the epoch; each line is a second
// later.
const firstNow = 1_700_000_000_000

// complete adds a clock and entropy to each action that has none. They depend on the number of the
// line. A line that is no action is not changed: running it reports what is wrong.
func complete(text []byte) []byte {
	var out bytes.Buffer
	number := 0
	for line := range bytes.Lines(text) {
		number++
		members, err := msgjson.Object(bytes.TrimSpace(line))
		has := map[string]bool{}
		for _, m := range members {
			has[m.Key] = true
		}
		if err == nil && has["type"] {
			open := bytes.IndexByte(line, '{') + 1
			out.Write(line[:open])
			if !has["now"] {
				fmt.Fprintf(&out, `"now":%d,`, firstNow+1000*number)
			}
			if !has["entropy"] {
				fmt.Fprintf(&out, `"entropy":"%032x",`, number)
			}
			line = line[open:]
		}
		out.Write(line)
	}
	return out.Bytes()
}

// Compare compares the answers to a trace with the wanted ones. The error names the first line
// that differs.
func (t Trace) Compare(answers []byte) error {
	wanted, err := os.ReadFile(t.Want)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: it has no wanted answers: 'hypertoken core test --update' writes them to %s",
			t.Path, t.Want)
	}
	if err != nil {
		return err
	}
	want, got := strings.Split(strings.TrimSpace(string(wanted)), "\n"),
		strings.Split(strings.TrimSpace(string(answers)), "\n")
	for i := range max(len(want), len(got)) {
		line := func(lines []string) string {
			if i < len(lines) {
				return strings.TrimSuffix(lines[i], "\r")
			}
			return "nothing"
		}
		if w, g := line(want), line(got); w != g {
			return fmt.Errorf(
				"%s: answer %d differs\n  want %s\n  got  %s\nif that is right, 'hypertoken core test --update' writes it to %s",
				t.Path, i+1, w, g, t.Want)
		}
	}
	return nil
}

// Update makes the answers to a trace the wanted ones, and reports whether they differ from the
// ones before.
func (t Trace) Update(answers []byte) (bool, error) {
	if old, err := os.ReadFile(t.Want); err == nil && bytes.Equal(old, answers) {
		return false, nil
	}
	return true, os.WriteFile(t.Want, answers, 0o644)
}
