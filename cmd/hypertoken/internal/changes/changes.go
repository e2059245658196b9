// Package changes says what is different between two values of a core, such as two states of a
// game.
package changes

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/msgjson"
	"hypertoken/internal/printable"
)

// Kind is what has happened to a part of a value.
type Kind uint8

// The kinds.
const (
	// Added is a member or an element that only the later value has.
	Added Kind = iota
	// Removed is a member or an element that only the earlier value has.
	Removed
	// Replaced is a part in whose place there is another one.
	Replaced
	// Reordered is an array whose elements are in another order.
	Reordered
)

// Step is a step on the way into a value: the key of a member, or the index of an element.
type Step struct {
	Key string
	// Index is that of an element, if IsIndex is true.
	Index   int
	IsIndex bool
}

// Change is one difference between two values.
type Change struct {
	Kind Kind
	// Path is where the change is in the value that the changes before it have made of the earlier
	// one. So the changes, made in order, lead from the earlier value to the later one.
	Path []Step
	// Place is where the change is for a reader: in the earlier value for what is removed, in the
	// later one otherwise.
	Place []Step
	// Before is the part of the earlier value, After that of the later one, in MessagePack. Before is
	// nil for what is added, After for what is removed.
	Before, After msgpack.RawMessage
}

// Between returns the changes that lead from one value to another, both in MessagePack. It returns
// none if the values are the same. Elements of arrays that have a member "id" are the same element
// if their ids are. Between fails for bytes that are no value.
func Between(before, after []byte) ([]Change, error) {
	a, err := read(before)
	if err != nil {
		return nil, fmt.Errorf("the earlier value: %w", err)
	}
	b, err := read(after)
	if err != nil {
		return nil, fmt.Errorf("the later value: %w", err)
	}
	var d differ
	d.compare(a, b)
	return d.changes, nil
}

// differ collects the changes between two values.
type differ struct {
	before, after []Step // where it is, in the earlier value and in the later one
	changes       []Change
}

// note adds a change at the place where the differ is.
func (d *differ) note(kind Kind, a, b *node) {
	c := Change{Kind: kind, Path: slices.Clone(d.after), Place: slices.Clone(d.after)}
	if kind == Removed {
		c.Place = slices.Clone(d.before)
	}
	if a != nil {
		c.Before = a.raw
	}
	if b != nil {
		c.After = b.raw
	}
	d.changes = append(d.changes, c)
}

// within runs f one step deeper.
func (d *differ) within(before, after Step, f func()) {
	d.before, d.after = append(d.before, before), append(d.after, after)
	f()
	d.before, d.after = d.before[:len(d.before)-1], d.after[:len(d.after)-1]
}

// compare notes the changes from one part to another, either of which may be nil.
func (d *differ) compare(a, b *node) {
	switch {
	case a == nil:
		d.note(Added, nil, b)
	case b == nil:
		d.note(Removed, a, nil)
	case a.sum == b.sum:
	case a.kind == object && b.kind == object:
		d.compareObjects(a, b)
	case a.kind == array && b.kind == array:
		d.compareArrays(a, b)
	default:
		d.note(Replaced, a, b)
	}
}

func (d *differ) compareObjects(a, b *node) {
	keys := append(slices.Clone(a.keys), b.keys...)
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		step := Step{Key: key}
		d.within(step, step, func() { d.compare(a.member(key), b.member(key)) })
	}
}

func (d *differ) compareArrays(a, b *node) {
	if isReordered(a.items, b.items) {
		d.note(Reordered, a, b)
		return
	}
	i, j := 0, 0
	element := func(x, y *node) {
		d.within(Step{Index: i, IsIndex: true}, Step{Index: j, IsIndex: true}, func() { d.compare(x, y) })
		if x != nil {
			i++
		}
		if y != nil {
			j++
		}
	}
	// Elements between two that stay are compared one by one, unless their ids tell them apart.
	gap := func(x, y []*node) {
		for len(x) > 0 && len(y) > 0 {
			switch {
			case x[0].hasID:
				element(x[0], nil)
				x = x[1:]
			case y[0].hasID:
				element(nil, y[0])
				y = y[1:]
			default:
				element(x[0], y[0])
				x, y = x[1:], y[1:]
			}
		}
		for _, one := range x {
			element(one, nil)
		}
		for _, one := range y {
			element(nil, one)
		}
	}
	x, y := a.items, b.items
	for _, p := range common(x, y) {
		gap(x[i:p.i], y[j:p.j])
		element(x[p.i], y[p.j])
	}
	gap(x[i:], y[j:])
}

// isReordered reports whether two arrays have the same elements, two of them or more, in another
// order.
func isReordered(a, b []*node) bool {
	if len(a) != len(b) || len(a) < 2 {
		return false
	}
	counts := map[sum]int{}
	for k := range a {
		counts[a[k].sum]++
		counts[b[k].sum]--
	}
	for _, n := range counts {
		if n != 0 {
			return false
		}
	}
	return true
}

// pair is an element of each of two arrays.
type pair struct{ i, j int }

// maxCells bounds the work for two arrays: the product of the lengths of the parts that differ.
const maxCells = 1 << 22

// common returns elements that two arrays have in common, in the order of both: as many as there
// are, unless the arrays are too long to find out.
func common(a, b []*node) (pairs []pair) {
	first := 0
	for first < min(len(a), len(b)) && a[first].identity == b[first].identity {
		pairs = append(pairs, pair{first, first})
		first++
	}
	last := 0
	for last < min(len(a), len(b))-first && a[len(a)-1-last].identity == b[len(b)-1-last].identity {
		last++
	}
	pairs = append(pairs, longest(a[first:len(a)-last], b[first:len(b)-last], first)...)
	for k := last; k > 0; k-- {
		pairs = append(pairs, pair{len(a) - k, len(b) - k})
	}
	return pairs
}

// longest returns the longest common subsequence of two arrays. offset is added to the indexes.
func longest(a, b []*node, offset int) (pairs []pair) {
	if len(a) == 0 || len(b) == 0 || len(a) > maxCells/len(b) {
		return nil
	}
	// lengths[i*w+j] is how much a[i:] and b[j:] have in common.
	w := len(b) + 1
	lengths := make([]uint16, (len(a)+1)*w)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i].identity == b[j].identity {
				lengths[i*w+j] = lengths[(i+1)*w+j+1] + 1
			} else {
				lengths[i*w+j] = max(lengths[(i+1)*w+j], lengths[i*w+j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].identity == b[j].identity:
			pairs = append(pairs, pair{offset + i, offset + j})
			i++
			j++
		case lengths[(i+1)*w+j] >= lengths[i*w+j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}

// AppendText appends a change as a line for people, without a newline: its place as jq takes it,
// and the values, of each at most so many characters.
func (c *Change) AppendText(line []byte, most int) ([]byte, error) {
	place := jq(c.Place)
	var before, after string
	var err error
	if c.Before != nil {
		before, err = clipped(c.Before, most)
	}
	if c.After != nil && err == nil {
		after, err = clipped(c.After, most)
	}
	if err != nil {
		return line, fmt.Errorf("%s: %w", place, err)
	}
	switch c.Kind {
	case Added:
		return fmt.Appendf(line, "+ %s: %s", place, after), nil
	case Removed:
		return fmt.Appendf(line, "- %s: %s", place, before), nil
	case Reordered:
		return fmt.Appendf(line, "~ %s: in another order: %s", place, after), nil
	}
	return fmt.Appendf(line, "~ %s: %s -> %s", place, before, after), nil
}

// AppendJSON appends a change as an operation of a JSON Patch (RFC 6902), with the member "was" for
// what was there before. The operations of all changes, in order, are a patch that leads from the
// earlier value to the later one.
func (c *Change) AppendJSON(line []byte) ([]byte, error) {
	word := "replace"
	switch c.Kind {
	case Added:
		word = "add"
	case Removed:
		word = "remove"
	}
	path, err := msgpack.Marshal(pointer(c.Path))
	if err != nil {
		return line, err
	}
	line, err = msgjson.Append(fmt.Appendf(line, `{"op":"%s","path":`, word), path)
	if err == nil && c.After != nil {
		line, err = msgjson.Append(append(line, `,"value":`...), c.After)
	}
	if err == nil && c.Before != nil {
		line, err = msgjson.Append(append(line, `,"was":`...), c.Before)
	}
	return append(line, '}'), err
}

// clipped returns a value as JSON of at most so many characters.
func clipped(value []byte, most int) (string, error) {
	text, err := msgjson.Append(nil, value)
	if err != nil {
		return "", err
	}
	line := []rune(printable.Line(string(bytes.ToValidUTF8(text, nil)), 0))
	if len(line) > most {
		return string(line[:most-3]) + "...", nil
	}
	return string(line), nil
}

// jq returns a path as jq takes it, such as .stack.cards[3].id.
func jq(path []Step) string {
	if len(path) == 0 {
		return "."
	}
	var b strings.Builder
	for k, s := range path {
		switch {
		case s.IsIndex:
			if k == 0 {
				b.WriteByte('.')
			}
			fmt.Fprintf(&b, "[%d]", s.Index)
		case isWord(s.Key):
			b.WriteString("." + s.Key)
		default:
			if k == 0 {
				b.WriteByte('.')
			}
			b.WriteString("[" + printable.Line(strconv.Quote(s.Key), 0) + "]")
		}
	}
	return b.String()
}

// isWord reports whether jq takes a key without quotes.
func isWord(key string) bool {
	for k, r := range key {
		isLetter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !isLetter && (k == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return key != ""
}

// pointer returns a path as a JSON Pointer (RFC 6901).
func pointer(path []Step) string {
	var b strings.Builder
	for _, s := range path {
		b.WriteByte('/')
		if s.IsIndex {
			b.WriteString(strconv.Itoa(s.Index))
		} else {
			b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(s.Key))
		}
	}
	return b.String()
}
