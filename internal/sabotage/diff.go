package sabotage

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Hunk is one change of a unified diff: some lines that follow each other in a file, and what
// takes their place.
type Hunk struct {
	File string // its path from the root of the module, with slashes
	// Section is what git writes behind the line numbers: the function that the change is in. It
	// helps a reader only.
	Section string
	// Line is where the old lines began when the patch was made, from 1. Apply does not need it:
	// code moves.
	Line int
	// Lines are the lines of the diff, without their ends. The first byte of each says what it is:
	// a space for a line that stays, - for one that is taken out, + for one that is put in.
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
	for len(lines) > 0 {
		line := lines[0]
		lines = lines[1:]
		switch {
		case strings.HasPrefix(line, "--- a/"):
			file = strings.TrimPrefix(line, "--- a/")
			if len(lines) == 0 || lines[0] != "+++ b/"+file {
				return nil, fmt.Errorf("the line %q is not followed by +++ b/ and the same file", line)
			}
			lines = lines[1:]
		case strings.HasPrefix(line, "@@ ") && file != "":
			h := Hunk{File: file}
			n, err := h.parse(line, lines)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			lines = lines[n:]
			list = append(list, h)
		case strings.HasPrefix(line, "diff --git "), strings.HasPrefix(line, "index "), line == "":
		default:
			return nil, fmt.Errorf("the line %q is no part of a diff that changes files", line)
		}
	}
	return list, nil
}

// parse reads a hunk from its head and the lines that follow, and returns how many of these it has.
func (h *Hunk) parse(head string, lines []string) (n int, err error) {
	ranges, section, closed := strings.Cut(strings.TrimPrefix(head, "@@ "), " @@")
	before, after, both := strings.Cut(ranges, " ")
	was, is := 1, 1
	if !closed || !both || !readRange(before, "-", &h.Line, &was) || !readRange(after, "+", new(int), &is) {
		return 0, fmt.Errorf("the line %q is no head of a hunk", head)
	}
	h.Section = strings.TrimSpace(section)
	for ; was > 0 || is > 0; n++ {
		if n == len(lines) {
			return 0, fmt.Errorf("%v ends too early", h)
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
			return 0, fmt.Errorf("%v has the line %q, which begins with none of +, - and a space", h, l)
		}
		h.Lines = append(h.Lines, l)
	}
	if was < 0 || is < 0 {
		return 0, fmt.Errorf("%v has more lines than its head says", h)
	}
	return n, nil
}

// readRange reads a range of lines as -12,3 or, if it is of one line, -12.
func readRange(s, sign string, line, count *int) bool {
	if n, _ := fmt.Sscanf(s, sign+"%d,%d", line, count); n == 2 {
		return true
	}
	n, _ := fmt.Sscanf(s, sign+"%d", line)
	return n == 1
}

// formatDiff returns the unified diff. Hunks of a file follow each other, in the order of their
// lines.
func formatDiff(hunks []Hunk) string {
	var b strings.Builder
	file, shift := "", 0
	for _, h := range hunks {
		if h.File != file {
			file, shift = h.File, 0
			fmt.Fprintf(&b, "--- a/%s\n+++ b/%s\n", file, file)
		}
		was, is := len(h.lines('+')), len(h.lines('-'))
		head := fmt.Sprintf("@@ -%d,%d +%d,%d @@ %s", h.Line, was, h.Line+shift, is, h.Section)
		fmt.Fprintln(&b, strings.TrimSpace(head))
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

// Apply returns the source of a file with the hunks applied. Code above them may have moved them
// up or down: each is applied where its old lines are found, which has to be exactly one place.
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
