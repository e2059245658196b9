package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hypertoken/internal/sabotage"
)

// mostLines is how many lines a breach may take out and put in.
const mostLines = 40

// recordBreach writes the breach from what the working tree has and git's index has not, and takes
// it back. It looks at the Go files of the product only, or at those named. An existing breach
// keeps the lines before its diff; a new one gets lines to fill in. Nothing is lost: all that is
// taken back is in the breach.
func recordBreach(root, name string, files []string) error {
	b, err := sabotage.Read(root, name)
	isNew := errors.Is(err, fs.ErrNotExist)
	if isNew {
		b = &sabotage.Breach{Name: name, Guarantee: 1, What: "say what is wrong with it", NoticedBy: []string{"suites"}}
	} else if err != nil {
		return err
	}
	if len(files) == 0 {
		files = []string{"*.go", ":!*_test.go", ":!internal/sabotage"}
	}
	const mostContext = 20
	for context := 1; ; context++ {
		diff, err := git(root, append([]string{"diff", "--no-ext-diff", "--no-color", "--no-renames", "--relative",
			"--src-prefix=a/", "--dst-prefix=b/", "-U" + strconv.Itoa(context), "--"}, files...)...)
		if err != nil {
			return err
		}
		if len(diff) == 0 {
			return errors.New("-record: no Go file of the product has a change that is not staged")
		}
		if b.Hunks, err = sabotage.ParseDiff(string(diff)); err != nil {
			return fmt.Errorf("-record: git diff: %w", err)
		}
		err = checkRecorded(root, b)
		if err == nil {
			break
		} else if context == mostContext {
			return fmt.Errorf("-record: even with %d lines around it: %w", context, err)
		}
	}
	changed := 0
	for _, h := range b.Hunks {
		for _, l := range h.Lines {
			if l[0] != ' ' {
				changed++
			}
		}
	}
	if changed > mostLines {
		return fmt.Errorf("-record: %d lines in %s are no small change: stage those that are no part of it "+
			"(git add), or name its files behind -record %s", changed, strings.Join(b.Files(), ", "), name)
	}
	if err := b.Write(root); err != nil {
		return err
	}
	if _, err := git(root, append([]string{"checkout", "--"}, b.Files()...)...); err != nil {
		return err
	}
	fmt.Printf("%s has %d changed lines; taken back in %s\n", b.Path(), changed, strings.Join(b.Files(), ", "))
	if isNew {
		fmt.Printf("fill in the first three lines of %s; internal/sabotage/suites.go has the names of suites\n",
			b.Path())
	}
	return nil
}

// checkRecorded applies the breach to the files in git's index, and fails unless they become what
// the working tree has.
func checkRecorded(root string, b *sabotage.Breach) error {
	for _, file := range b.Files() {
		was, err := git(root, "show", ":./"+file)
		if err != nil {
			return err
		}
		is, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			return err
		}
		hunks := slices.DeleteFunc(slices.Clone(b.Hunks), func(h sabotage.Hunk) bool { return h.File != file })
		if got, err := sabotage.Apply(was, hunks); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		} else if !bytes.Equal(got, is) {
			return fmt.Errorf("%s: what git diff says does not lead to what the file is", file)
		}
		for k := range b.Hunks {
			if h := &b.Hunks[k]; h.File == file {
				h.Section = functionOf(h, was)
			}
		}
	}
	return nil
}

// functionOf returns the first line of the function that the hunk changes. Git gives the one
// before, if the hunk's own lines have the first line of the function.
func functionOf(h *sabotage.Hunk, source []byte) string {
	lines := strings.Split(string(source), "\n")
	at := h.Line - 1
	for _, l := range h.Lines {
		if l[0] != ' ' {
			break
		}
		at++
	}
	for at = min(at, len(lines)) - 1; at >= 0; at-- {
		if strings.HasPrefix(lines[at], "func ") {
			return strings.TrimSuffix(lines[at], " {")
		}
	}
	return ""
}

func git(root string, args ...string) ([]byte, error) {
	c := exec.Command("git", args...)
	c.Dir = root
	out, err := c.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(exit.Stderr))
	}
	return out, err
}
