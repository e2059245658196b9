package jsonl

import (
	"fmt"
	"slices"
	"strings"

	"hypertoken/cmd/hypertoken/internal/nearest"
	"hypertoken/internal/msgjson"
)

// Kind is the kind of a line: a setup, an action, a batch, or a question for the state or the
// digest.
type Kind int

// The kinds.
const (
	Action Kind = iota
	Setup
	State
	Digest
	Batch
)

// form describes a kind of line: the member that a line of this kind has, and the other members
// that it may have.
type form struct {
	kind   Kind
	member string
	others []string
}

var forms = []form{
	{Setup, "setup", []string{"timeout", "want"}},
	{Action, "type", []string{"payload", "now", "entropy", "key", "if_sequence", "timeout", "want"}},
	{State, "state", []string{"at", "timeout", "want"}},
	{Digest, "digest", []string{"at", "timeout", "want"}},
	{Batch, "batch", []string{"mode", "now", "key", "if_sequence", "timeout", "want"}},
}

// oneOf lists the members of which a line has exactly one.
const oneOf = "setup, type, state, digest or batch"

// memberForm is the form of an action within a batch.
var memberForm = form{Action, "type", []string{"payload", "now", "entropy"}}

// known are the members of all forms.
var known = func() []string {
	var all []string
	for _, f := range forms {
		all = append(all, f.member)
		for _, other := range f.others {
			if !slices.Contains(all, other) {
				all = append(all, other)
			}
		}
	}
	return all
}()

// takes reports whether a line of this form may have a member.
func (f *form) takes(key string) bool { return key == f.member || slices.Contains(f.others, key) }

// check fails if a line, or an action within a batch, has a member that does not belong to its
// form.
func (f *form) check(members []msgjson.Member) error {
	for _, m := range members {
		if !f.takes(m.Key) {
			return badLine("%s does not go with %s, which takes %s", m.Key, f.member, list(f.others, "and"))
		}
	}
	return nil
}

// unknown returns the error for the first member that no line may have.
func unknown(members []msgjson.Member) error {
	for _, m := range members {
		if slices.Contains(known, m.Key) {
			continue
		}
		if near := nearest.To(m.Key, known); near != "" {
			isForm := func(m msgjson.Member) bool { return formIndex(m.Key) >= 0 }
			return &LineError{Message: fmt.Sprintf("there is no member %q: do you mean %q?", clip(m.Key), near),
				Setup: near == "setup" && !slices.ContainsFunc(members, isForm)}
		}
		return badLine("there is no member %q: a line has one of %s, and may have %s", clip(m.Key), oneOf,
			list(others, "or"))
	}
	return nil
}

// unknown returns the error of the first member that a line of this form does not have.
func (f *form) unknown(members []msgjson.Member) error {
	for _, m := range members {
		if slices.Contains(known, m.Key) {
			continue
		}
		if near := nearest.To(m.Key, append([]string{f.member}, f.others...)); near != "" {
			return badLine("there is no member %q: do you mean %q?", clip(m.Key), near)
		}
		return badLine("there is no member %q: want %s, and maybe %s", clip(m.Key), f.member, list(f.others, "or"))
	}
	return nil
}

// others are the members that do not decide the kind of a line.
var others = slices.DeleteFunc(slices.Clone(known), func(key string) bool {
	return formIndex(key) >= 0
})

// formIndex returns the index of the form that a member makes a line, or -1.
func formIndex(key string) int {
	return slices.IndexFunc(forms, func(f form) bool { return f.member == key })
}

// formOf returns the form of a line with these members, all of which are known.
func formOf(members []msgjson.Member) (*form, error) {
	var found *form
	for _, m := range members {
		switch i := formIndex(m.Key); {
		case i < 0:
		case found != nil:
			return nil, badLine("want only one of %s", oneOf)
		default:
			found = &forms[i]
		}
	}
	if found == nil {
		return nil, badLine("want one of %s", oneOf)
	}
	return found, nil
}

// list joins words: a, b and c.
func list(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}

// clip bounds the part of a line that an error repeats.
func clip(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "..."
	}
	return s
}
