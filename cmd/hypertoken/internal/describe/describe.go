package describe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"hypertoken/host"
)

// Core is the checked description of a core: every shape can be read, and all records that shapes
// name exist.
type Core struct {
	Actions []Action
	Records []Record
}

// Action is an action of a core.
type Action struct {
	Name, About string
	Fields      []Field
	// Rest is true if the payload may have other fields.
	Rest   bool
	Result *Shape
}

// Field is a field of a payload or a record.
type Field struct {
	Name, About string
	Optional    bool
	Shape       *Shape
}

// Record is a map with fields that have names.
type Record struct {
	Name, About string
	Fields      []Field
	// Rest is the shape of all further entries; nil if there are none.
	Rest *Shape
}

// eventsRecord is the name of the record that has a field for each event of the core: the event's
// name, and the shape of its payload.
const eventsRecord = "Events"

// rest is the name of a field in the list of actions that means that any other field is allowed.
const rest = "*"

// Of returns the description of a host's core.
func Of(ctx context.Context, h *host.Host) (*Core, error) {
	actions, err := h.Actions(ctx)
	if err != nil {
		return nil, err
	}
	records, err := h.Records(ctx)
	if err != nil {
		return nil, err
	}
	return New(actions, records)
}

// New checks the description of a core, and returns it. It fails
//   - if a shape can't be read, or names a record that does not exist,
//   - if a record must contain itself,
//   - if two records, two actions, or two fields of one of them have the same name.
func New(actions []host.ActionInfo, records []host.RecordInfo) (*Core, error) {
	c := &Core{}
	known := map[string]bool{}
	for _, r := range records {
		if !isRecordName(r.Name) || known[r.Name] || isScalar(r.Name) {
			return nil, fmt.Errorf("describe: no record can have the name %q, or there are two", r.Name)
		}
		known[r.Name] = true
	}
	shape := func(where, text string) (*Shape, error) {
		s, err := ParseShape(text)
		if err == nil {
			err = s.check(known)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", where, err)
		}
		return s, nil
	}
	var err error
	for _, r := range records {
		out := Record{Name: r.Name, About: plain(r.About)}
		if r.Rest != "" {
			if out.Rest, err = shape(r.Name, r.Rest); err != nil {
				return nil, err
			}
		}
		for _, f := range r.Fields {
			s, err := shape(r.Name+"."+f.Name, f.Shape)
			if err != nil {
				return nil, err
			}
			out.Fields = append(out.Fields, Field{Name: f.Name, About: plain(f.About), Optional: f.Optional, Shape: s})
		}
		if err := distinct(r.Name, out.Fields); err != nil {
			return nil, err
		}
		c.Records = append(c.Records, out)
	}
	if name := c.endless(); name != "" {
		return nil, fmt.Errorf("describe: no value can be a %q: it would have another one in it, without end", name)
	}
	named := map[string]bool{}
	for _, a := range actions {
		if named[a.Name] {
			return nil, fmt.Errorf("describe: there are two actions with the name %q", a.Name)
		}
		named[a.Name] = true
		out := Action{Name: a.Name, About: plain(a.About)}
		if out.Result, err = shape(a.Name, orAny(a.Result)); err != nil {
			return nil, err
		}
		for _, f := range a.Fields {
			if f.Name == rest {
				out.Rest = true
				continue
			}
			s, err := shape(a.Name+"."+f.Name, orAny(f.Shape))
			if err != nil {
				return nil, err
			}
			about := ""
			if f.Default != "" {
				about = "default " + plain(f.Default)
			}
			out.Fields = append(out.Fields, Field{Name: f.Name, About: about, Optional: !f.Required, Shape: s})
		}
		if err := distinct(a.Name, out.Fields); err != nil {
			return nil, err
		}
		c.Actions = append(c.Actions, out)
	}
	return c, nil
}

// orAny returns a shape. It is any if the core, an older one, does not describe the value.
func orAny(shape string) string {
	if shape == "" {
		return "any"
	}
	return shape
}

// endless returns the name of a record that needs another of its own kind in a field, directly or
// over others, or "".
func (c *Core) endless() string {
	records := map[string]*Record{}
	for i := range c.Records {
		records[c.Records[i].Name] = &c.Records[i]
	}
	const on, done = 1, 2
	state := map[string]int{}
	var visit func(name string) string
	visit = func(name string) string {
		switch state[name] {
		case on:
			return name
		case done:
			return ""
		}
		state[name] = on
		for _, f := range records[name].Fields {
			if !f.Optional && records[f.Shape.Name] != nil {
				if found := visit(f.Shape.Name); found != "" {
					return found
				}
			}
		}
		state[name] = done
		return ""
	}
	for _, r := range c.Records {
		if found := visit(r.Name); found != "" {
			return found
		}
	}
	return ""
}

func distinct(owner string, fields []Field) error {
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] {
			return fmt.Errorf("describe: %q has the field %q twice", owner, f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// check fails if a shape names a record that is not known.
func (s *Shape) check(known map[string]bool) error {
	if s.Name != "" && !isScalar(s.Name) && !known[s.Name] {
		return fmt.Errorf("describe: there is no record %q", s.Name)
	}
	for _, inner := range append([]*Shape{s.Items, s.Values}, s.OneOf...) {
		if inner != nil {
			if err := inner.check(known); err != nil {
				return err
			}
		}
	}
	return nil
}

// plain makes a text of a core safe for a comment: one line, without control characters and
// without the end of a comment.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "*/", "* /")
}

// names gives identifiers, each once.
type names map[string]bool

// identifier makes an identifier of any text: its letters and digits, the first of each word in
// upper case.
func (n names) identifier(text string) string {
	var b strings.Builder
	upper := true
	for _, r := range text {
		if r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			upper = true
			continue
		}
		if upper {
			r = unicode.ToUpper(r)
		}
		if b.Len() == 0 && unicode.IsDigit(r) {
			b.WriteByte('N')
		}
		b.WriteRune(r)
		upper = false
	}
	name := b.String()
	if name == "" {
		name = "X"
	}
	if head, ok := strings.CutSuffix(name, "Id"); ok {
		name = head + "ID"
	}
	unique := name
	for i := 2; n[unique]; i++ {
		unique = fmt.Sprint(name, i)
	}
	n[unique] = true
	return unique
}

// Record returns the record of a name, or nil.
func (c *Core) Record(name string) *Record {
	i := slices.IndexFunc(c.Records, func(r Record) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Records[i]
}

// Action returns the action of a name, or nil.
func (c *Core) Action(name string) *Action {
	i := slices.IndexFunc(c.Actions, func(a Action) bool { return a.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Actions[i]
}
