package jsonl

import (
	"fmt"
	"slices"
	"strings"

	"hypertoken/internal/msgjson"
	"hypertoken/internal/nearest"
)

// Kind is the kind of a line.
type Kind int

// The kinds.
const (
	Action Kind = iota
	Setup
	State
	Digest
	Batch
	Revert
	Undo
	Redo
	// Snapshot, Marker and Note are lines of exports.
	Snapshot
	Marker
	Note
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
	{Revert, "revert", []string{"key", "if_sequence", "timeout", "want"}},
	{Undo, "undo", []string{"key", "if_sequence", "timeout", "want"}},
	{Redo, "redo", []string{"key", "if_sequence", "timeout", "want"}},
}

// exportForms are forms and what lines of an export have beside.
var exportForms = func() []form {
	all := append(slices.Clone(forms),
		form{Snapshot, "snapshot", []string{"sequence", "core", "digest", "keys", "timeout", "want"}},
		form{Marker, "marker", []string{"to", "from_core", "digest_before", "from_engine", "from_sequence", "current",
			"redo", "snapshot", "sequence", "core", "digest", "keys", "timeout", "want"}},
		form{Note, "note", []string{"key", "sum", "result", "sequence", "changed", "timeout", "want"}})
	for k := range all {
		switch all[k].kind {
		case Setup:
			all[k].others = append([]string{"core"}, all[k].others...)
		case Action:
			all[k].others = append(slices.Clone(all[k].others), "sequence", "checksum", "batch")
		}
	}
	return all
}()

// grammar is which lines there are.
type grammar struct {
	forms []form
	// oneOf lists the members of which a line has exactly one.
	oneOf string
	// known are the members of all forms, others those that do not decide the kind of a line.
	known, others []string
	// lists are the members that are arrays of objects.
	lists []string
}

var (
	// plain are the lines that clients send. exported are these, and the lines of exports.
	plain    = newGrammar(forms, "batch")
	exported = newExportGrammar()
)

func newExportGrammar() *grammar {
	g := newGrammar(exportForms, "batch", "keys")
	// Errors name what people write, and nobody writes an export.
	g.oneOf, g.others = plain.oneOf, plain.others
	return g
}

func newGrammar(forms []form, lists ...string) *grammar {
	g := &grammar{forms: forms, lists: lists}
	var members []string
	for _, f := range forms {
		members = append(members, f.member)
		for _, key := range append([]string{f.member}, f.others...) {
			if !slices.Contains(g.known, key) {
				g.known = append(g.known, key)
			}
		}
	}
	g.oneOf = list(members, "or")
	g.others = slices.DeleteFunc(slices.Clone(g.known), func(key string) bool { return g.index(key) >= 0 })
	return g
}

// memberForm is the form of an action within a batch.
var memberForm = form{Action, "type", []string{"payload", "now", "entropy"}}

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
func (g *grammar) unknown(members []msgjson.Member) error {
	for _, m := range members {
		if slices.Contains(g.known, m.Key) {
			continue
		}
		if near := nearest.To(m.Key, g.known); near != "" {
			isForm := func(m msgjson.Member) bool { return g.index(m.Key) >= 0 }
			return &LineError{Message: fmt.Sprintf("there is no member %q: do you mean %q?", clip(m.Key), near),
				Setup: near == "setup" && !slices.ContainsFunc(members, isForm)}
		}
		return badLine("there is no member %q: a line has one of %s, and may have %s", clip(m.Key), g.oneOf,
			list(g.others, "or"))
	}
	return nil
}

// unknown returns the error of the first member that a line of this form does not have.
func (f *form) unknown(members []msgjson.Member) error {
	for _, m := range members {
		if slices.Contains(plain.known, m.Key) {
			continue
		}
		if near := nearest.To(m.Key, append([]string{f.member}, f.others...)); near != "" {
			return badLine("there is no member %q: do you mean %q?", clip(m.Key), near)
		}
		return badLine("there is no member %q: want %s, and maybe %s", clip(m.Key), f.member, list(f.others, "or"))
	}
	return nil
}

// index returns the index of the form that a member makes a line, or -1.
func (g *grammar) index(key string) int {
	return slices.IndexFunc(g.forms, func(f form) bool { return f.member == key })
}

// formOf returns the form of a line with these members, all of which are known. A member that is
// of that form and makes another line by itself, as the digest of a snapshot, decides nothing.
func (g *grammar) formOf(members []msgjson.Member) (*form, error) {
	var found *form
	for _, m := range members {
		i := g.index(m.Key)
		switch {
		case i < 0 || (found != nil && found.takes(m.Key)):
		case found == nil || g.forms[i].takes(found.member):
			found = &g.forms[i]
		default:
			return nil, badLine("want only one of %s", g.oneOf)
		}
	}
	if found == nil {
		return nil, badLine("want one of %s", g.oneOf)
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
