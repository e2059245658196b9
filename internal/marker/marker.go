// Package marker encodes what a host keeps with a base: journal.Base.Details.
package marker

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/journal"
)

// The kinds of markers.
const (
	// Revert is the state of an earlier sequence: of a revert, an undo or a redo.
	Revert = "revert"
	// Upgrade is the state that another core has led to, as the core of Base.Core restores it.
	Upgrade = "upgrade"
	// Fork is a state of another engine, which an engine begins with.
	Fork = "fork"
)

// needs is what every base may say in its Details.
type needs struct {
	// Needs names what a host has to know to go on with the journal, beside what there was at first:
	// such as schedules. This version knows none.
	Needs []string `msgpack:"needs"`
}

// CheckNeeds fails if a base says that a host has to know something to go on with the journal. Details
// that can't be read say nothing.
func CheckNeeds(base *journal.Base) error {
	var n needs
	if len(base.Details) == 0 || msgpack.Unmarshal(base.Details, &n) != nil || len(n.Needs) == 0 {
		return nil
	}
	return fmt.Errorf("the journal needs a newer version, which knows %q", n.Needs)
}

// MostRedo is how many steps there are to redo at most: further ones are forgotten.
const MostRedo = 4096

// Marker says where the state of a base comes from, if it is not that of the actions before it.
type Marker struct {
	// Kind is one of the constants above.
	Kind string `msgpack:"kind"`
	// To is the sequence that a Revert went back to.
	To uint64 `msgpack:"to,omitempty"`
	// FromCore is the core before an Upgrade, DigestBefore the digest that it gave.
	FromCore     string `msgpack:"from_core,omitempty"`
	DigestBefore uint64 `msgpack:"digest_before,omitempty"`
	// FromEngine and FromSequence say what a Fork is a copy of.
	FromEngine   string `msgpack:"from_engine,omitempty"`
	FromSequence uint64 `msgpack:"from_sequence,omitempty"`
	// Digest is that of the state.
	Digest uint64 `msgpack:"digest"`
	// Current is the sequence of the step that is current: that which an undo undoes. 0 is none.
	Current uint64 `msgpack:"current,omitempty"`
	// Redo has the sequences of the steps that were undone, the next one to redo last.
	Redo []uint64 `msgpack:"redo,omitempty"`
}

// Encode returns the marker as a base's Details. It forgets what there is to redo beyond MostRedo
// steps.
func (m *Marker) Encode() []byte {
	if n := len(m.Redo); n > MostRedo {
		m.Redo = m.Redo[n-MostRedo:]
	}
	b, err := msgpack.Marshal(m)
	if err != nil {
		panic(err) // all of it can be encoded
	}
	return b
}

// Read reads the details of a base that is a marker.
func Read(base *journal.Base) (m Marker, err error) {
	if len(base.Details) > journal.MaxDetails {
		return m, fmt.Errorf("a marker of %d bytes, %d are allowed", len(base.Details), journal.MaxDetails)
	}
	if err := msgpack.Unmarshal(base.Details, &m); err != nil {
		return m, fmt.Errorf("the marker of sequence %d can't be read: %w", base.Sequence, err)
	}
	for _, s := range m.Redo {
		if s > base.Sequence {
			return m, fmt.Errorf("the marker of sequence %d has %d to redo", base.Sequence, s)
		}
	}
	if m.Current > base.Sequence || m.To > base.Sequence || m.Kind == "" {
		return m, fmt.Errorf("the marker of sequence %d, %q, goes back to %d and has the current step %d", base.Sequence,
			m.Kind, m.To, m.Current)
	}
	return m, nil
}
