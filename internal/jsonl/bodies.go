package jsonl

import (
	"hypertoken/internal/msgjson"
)

// Bodies of requests that are one JSON object, and no line.

var (
	revertForm = form{Revert, "to", []string{"key", "if_sequence"}}
	forkForm   = form{0, "name", []string{"at"}}
)

// ParseRevert reads the body of a request to go back to a sequence.
func ParseRevert(text []byte) (*Request, error) {
	q := &Request{Kind: Revert}
	err := readBody(text, &revertForm, func(m msgjson.Member) (err error) {
		if m.Key == "to" {
			q.To, err = sequence(m)
			return err
		}
		option, err := dispatchOption(m)
		q.Options = append(q.Options, option)
		return err
	})
	return q, err
}

// ForkRequest is the body of a request for a copy of an engine.
type ForkRequest struct {
	// Name is that of the copy.
	Name string
	// At is the sequence of the state that is copied, if HasAt is true. Otherwise it is the newest.
	At    uint64
	HasAt bool
}

// ParseFork reads the body of a request for a copy of an engine.
func ParseFork(text []byte) (f ForkRequest, err error) {
	return f, readBody(text, &forkForm, func(m msgjson.Member) (err error) {
		if m.Key == "at" {
			f.HasAt = true
			f.At, err = sequence(m)
			return err
		}
		var ok bool
		if f.Name, ok = str(m); !ok {
			return badLine("name: want a string")
		}
		return nil
	})
}

// readBody reads the members of a body, which have to be those of a form.
func readBody(text []byte, f *form, read func(msgjson.Member) error) error {
	members, err := msgjson.Object(text)
	if err != nil {
		return badLine("the body: %v", err)
	}
	hasMember := false
	for _, m := range members {
		if !f.takes(m.Key) {
			return badLine("there is no member %q: want %s, and maybe %s", clip(m.Key), f.member, list(f.others, "or"))
		}
		if err := read(m); err != nil {
			return err
		}
		hasMember = hasMember || m.Key == f.member
	}
	if !hasMember {
		return badLine("want %s", f.member)
	}
	return nil
}
