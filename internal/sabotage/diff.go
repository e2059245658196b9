package sabotage

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Hunk is one change of a unified diff: some lines that follow each other in a file, and what takes their place.
type Hunk struct {
	File string // its path from the root of the module, with slashes
	// Section is what git writes behind the line numbers: the function that the change is in. It helps a reader only.
	Section string
	// Line is where the old lines began when the patch was made, from 1. Apply does not need it: code moves.
	Line int
	// Lines are the lines of the diff, without their ends. The first byte of each says what it is: a space for a line that
	// stays, - for one that is taken out, + for one that is put in.
	Lines []string
}

// String returns how an error names the hunk.
func (h *Hunk) String() string {
	return strings.TrimSpace(fmt.Sprintf("the hunk @@ -%d @@ %s", h.Line, h.Section))
}

// lines returns the lines that the hunk has without those that begin with leftOut.
func (h *Hunk) lines(leftOut byte) []string {
	var list []string
	for _, l := range h.Lines {
		if l[0] != leftOut {
			list = append(list, l[1:])
		}
	}
	return list
}

// ParseDiff reads a unified diff. It knows only changes of files that exist before and after.
func ParseDiff(diff string) ([]Hunk, error) {
	var list []Hunk
	file := ""
	lines := strings.Split(strings.TrimSuffix(diff, "\n"), "\n")
	for n := 0; n < len(lines); n++ {
		line := lines[n]
		switch {
		case strings.HasPrefix(line, "--- a/"):
			file = strings.TrimPrefix(line, "--- a/")
			if n+1 == len(lines) || lines[n+1] != "+++ b/"+file {
				return nil, fmt.Errorf("the line %q is not followed by one that begins with +++ b/ and names the same file", line)
			}
			n++
		case strings.HasPrefix(line, "@@ "):
			h := Hunk{File: file}
			was, is := 1, 1
			ranges, section, ok := strings.Cut(strings.TrimPrefix(line, "@@ "), " @@")
			before, after, both := strings.Cut(ranges, " ")
			if !ok || !both || file == "" || !readRange(before, "-", &h.Line, &was) || !readRange(after, "+", new(int), &is) {
				return nil, fmt.Errorf("the line %q is no head of a hunk", line)
			}
			h.Section = strings.TrimSpace(section)
			for was > 0 || is > 0 {
				n++
				if n == len(lines) {
					return nil, fmt.Errorf("%s: %v ends too early", file, &h)
				}
				l := cmp.Or(lines[n], " ") // an editor may have taken the space of an empty line away
				switch l[0] {
				case ' ':
					was, is = was-1, is-1
				case '-':
					was--
				case '+':
					is--
				default:
					return nil, fmt.Errorf("%s: %v has the line %q, which begins with none of +, - and a space", file, &h, l)
				}
				h.Lines = append(h.Lines, l)
			}
			if was < 0 || is < 0 {
				return nil, fmt.Errorf("%s: %v has more lines than its head says", file, &h)
			}
			list = append(list, h)
		case strings.HasPrefix(line, "diff --git "), strings.HasPrefix(line, "index "), line == "":
		default:
			return nil, fmt.Errorf("the line %q is no part of a diff that changes files", line)
		}
	}
	return list, nil
}

// readRange reads a range of lines as -12,3 or, if it is of one line, -12.
func readRange(s, sign string, line, count *int) bool {
	if n, _ := fmt.Sscanf(s, sign+"%d,%d", line, count); n == 2 {
		return true
	}
	n, _ := fmt.Sscanf(s, sign+"%d", line)
	return n == 1
}

// formatDiff returns the unified diff. Hunks of a file follow each other, in the order of their lines.
func formatDiff(hunks []Hunk) string {
	var b strings.Builder
	file, shift := "", 0
	for _, h := range hunks {
		if h.File != file {
			file, shift = h.File, 0
			fmt.Fprintf(&b, "--- a/%s\n+++ b/%s\n", file, file)
		}
		was, is := len(h.lines('+')), len(h.lines('-'))
		fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("@@ -%d,%d +%d,%d @@ %s", h.Line, was, h.Line+shift, is, h.Section)))
		for _, l := range h.Lines {
			fmt.Fprintln(&b, l)
		}
		shift += is - was
	}
	return b.String()
}

// Find returns where the old lines of the hunk begin in the source of a file, from 1: every place.
func (h *Hunk) Find(source []byte) []int {
	lines, old := strings.Split(string(source), "\n"), h.lines('+')
	var places []int
	for n := 0; len(old) > 0 && n+len(old) <= len(lines); n++ {
		if slices.Equal(lines[n:n+len(old)], old) {
			places = append(places, n+1)
		}
	}
	return places
}

// Apply returns the source of a file with the hunks applied. Code above them may have moved them up or down: each is
// applied where its old lines are found, which has to be exactly one place.
func Apply(source []byte, hunks []Hunk) ([]byte, error) {
	type change struct {
		*Hunk
		line int
	}
	var changes []change
	for k := range hunks {
		h := &hunks[k]
		switch places := h.Find(source); len(places) {
		case 0:
			return nil, fmt.Errorf("the old lines of %v are not there", h)
		case 1:
			changes = append(changes, change{h, places[0]})
		default:
			return nil, fmt.Errorf("the old lines of %v are there %d times, at the lines %v", h, len(places), places)
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.line, b.line) })
	lines := strings.Split(string(source), "\n")
	var out []string
	next := 1
	for _, c := range changes {
		if c.line < next {
			return nil, fmt.Errorf("%v changes lines that another hunk has", c.Hunk)
		}
		out = append(out, lines[next-1:c.line-1]...)
		out = append(out, c.lines('-')...)
		next = c.line + len(c.lines('+'))
	}
	out = append(out, lines[next-1:]...)
	text := strings.Join(out, "\n")
	if text == string(source) {
		return nil, errors.New("it changes nothing")
	}
	return []byte(text), nil
}
