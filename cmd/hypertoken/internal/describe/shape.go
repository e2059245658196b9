// Package describe reads the shapes with which a core describes its payloads, results and state.
// It writes them as types of Go and TypeScript, and as text. core-rs/ABI.md has the notation of
// shapes.
package describe

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Shape describes values. One of its fields is set; the others are zero.
type Shape struct {
	// Name is any, null, bool, number, int or string, or the name of a record.
	Name string
	// Literal is the one string that the value may be.
	Literal *string
	// Items is the shape of an array's items.
	Items *Shape
	// Values is the shape of a map's values.
	Values *Shape
	// OneOf has two or more shapes, of which the value has one.
	OneOf []*Shape
}

// The bounds of a shape that ParseShape reads: its bytes, and how deep it is nested.
const (
	maxShape = 1 << 10
	maxDepth = 32
)

// ParseShape reads a shape of at most 1024 bytes that is nested at most 32 deep.
func ParseShape(text string) (*Shape, error) {
	if len(text) > maxShape {
		return nil, fmt.Errorf("describe: a shape of %d bytes is longer than %d", len(text), maxShape)
	}
	p := parser{rest: text}
	s, err := p.union(0)
	if err == nil && p.rest != "" {
		err = fmt.Errorf("%q is left over", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("describe: the shape %q: %w", text, err)
	}
	return s, nil
}

type parser struct{ rest string }

func (p *parser) take(token string) bool {
	rest, ok := strings.CutPrefix(p.rest, token)
	p.rest = rest
	return ok
}

func (p *parser) union(depth int) (*Shape, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	var all []*Shape
	for {
		s, err := p.array(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
		if !p.take("|") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return &Shape{OneOf: all}, nil
}

func (p *parser) array(depth int) (*Shape, error) {
	s, err := p.one(depth)
	for n := 0; err == nil && p.take("[]"); n++ {
		if n >= maxDepth {
			return nil, fmt.Errorf("it is nested more than %d deep", maxDepth)
		}
		s = &Shape{Items: s}
	}
	return s, err
}

func (p *parser) one(depth int) (*Shape, error) {
	switch {
	case p.take("("):
		s, err := p.union(depth + 1)
		if err == nil && !p.take(")") {
			err = fmt.Errorf("a parenthesis is not closed")
		}
		return s, err
	case p.take("map<"):
		s, err := p.union(depth + 1)
		if err == nil && !p.take(">") {
			err = fmt.Errorf("map< is not closed")
		}
		return &Shape{Values: s}, err
	case p.take("'"):
		literal, rest, ok := strings.Cut(p.rest, "'")
		if !ok {
			return nil, fmt.Errorf("a string is not closed")
		}
		if strings.ContainsFunc(literal, func(r rune) bool { return !unicode.IsPrint(r) }) ||
			!utf8.ValidString(literal) {
			return nil, fmt.Errorf("the string %q can't be printed", literal)
		}
		p.rest = rest
		return &Shape{Literal: &literal}, nil
	}
	n := 0
	for n < len(p.rest) && isNameByte(p.rest[n], n) {
		n++
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	if name == "" || !isScalar(name) && (name[0] < 'A' || name[0] > 'Z') {
		return nil, fmt.Errorf("%q begins no shape", name+p.rest)
	}
	return &Shape{Name: name}, nil
}

func isNameByte(b byte, at int) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || at > 0 && '0' <= b && b <= '9'
}

func isScalar(name string) bool {
	switch name {
	case "any", "null", "bool", "number", "int", "string":
		return true
	}
	return false
}

// isRecordName reports whether a record may have this name: an upper-case letter, then letters and
// digits.
func isRecordName(name string) bool {
	for i := range len(name) {
		if !isNameByte(name[i], i) {
			return false
		}
	}
	return name != "" && len(name) <= 64 && 'A' <= name[0] && name[0] <= 'Z'
}

// String returns the shape in the notation that ParseShape reads.
func (s *Shape) String() string {
	switch {
	case s.Literal != nil:
		return "'" + *s.Literal + "'"
	case s.Items != nil && s.Items.OneOf != nil:
		return "(" + s.Items.String() + ")[]"
	case s.Items != nil:
		return s.Items.String() + "[]"
	case s.Values != nil:
		return "map<" + s.Values.String() + ">"
	case s.OneOf != nil:
		all := make([]string, len(s.OneOf))
		for i, o := range s.OneOf {
			if all[i] = o.String(); o.OneOf != nil {
				all[i] = "(" + all[i] + ")"
			}
		}
		return strings.Join(all, "|")
	}
	return s.Name
}

// orNull returns the shape without null, and whether null was one of its shapes.
func (s *Shape) orNull() (*Shape, bool) {
	var others []*Shape
	for _, o := range s.OneOf {
		if o.Name != "null" {
			others = append(others, o)
		}
	}
	switch {
	case len(others) == len(s.OneOf):
		return s, false
	case len(others) == 1:
		return others[0], true
	}
	return &Shape{OneOf: others}, true
}

// isText reports whether the value is always a string: any string, or one of some.
func (s *Shape) isText() bool {
	for _, o := range s.OneOf {
		if !o.isText() {
			return false
		}
	}
	return s.Literal != nil || s.Name == "string" || len(s.OneOf) > 0
}
