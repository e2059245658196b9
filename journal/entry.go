package journal

import (
	"iter"

	"hypertoken/internal/pack"
)

// EntropySize is the size of an action's entropy in bytes.
const EntropySize = 16

// Action is one call of a core's function: all of its input but the state. Its encoding is a
// MessagePack array of four or five items:
//
//	[now int, entropy bin(16), type str, payload bin]
//	[now int, entropy bin(16), type str, payload bin, if_sequence uint]
//
// [AppendAction] writes it and [ReadAction] reads it. It is a frame's body on the way to a worker,
// too, so a host encodes an action once.
type Action struct {
	// Now is the clock that the action sees, in milliseconds since 1970-01-01 UTC.
	Now int64
	// Entropy is the source of the action's randomness.
	Entropy [EntropySize]byte
	// Type is the action's name, such as "stack:draw", in UTF-8.
	Type []byte
	// Payload is one MessagePack value, or empty for none.
	Payload []byte
	// Conditional says that the action was to run at the sequence IfSequence only. A replay does
	// not ask.
	Conditional bool
	// IfSequence is the sequence that the engine had to have just before the action; 0 if
	// Conditional is false.
	IfSequence uint64
}

// AppendAction appends the encoding of an action to b and returns the extended slice. The type and
// the payload are those of the parameters, not those of a, so that a caller who has a string need
// not copy it.
func AppendAction(b []byte, a *Action, actionType string, payload []byte) []byte {
	items := 4
	if a.Conditional {
		items = 5
	}
	b = pack.AppendInt(pack.AppendArray(b, items), a.Now)
	b = pack.AppendString(pack.AppendBin(b, a.Entropy[:]), actionType)
	b = pack.AppendBin(b, payload)
	if a.Conditional {
		b = pack.AppendUint(b, a.IfSequence)
	}
	return b
}

// ReadAction reads the action at the start of b and returns the bytes behind it. Type and Payload
// are parts of b. It fails if b does not start with an action.
func ReadAction(b []byte) (a Action, rest []byte, err error) {
	r := pack.Reader{Rest: b}
	readAction(&r, &a)
	return a, r.Rest, r.Err
}

func readAction(r *pack.Reader, a *Action) {
	n := r.ArrayOf(4, 5)
	a.Now = r.Int()
	if e := r.Bytes(); len(e) == EntropySize {
		copy(a.Entropy[:], e)
	} else {
		r.Fail("%d bytes of entropy, want %d", len(e), EntropySize)
	}
	a.Type, a.Payload = r.Bytes(), r.Bytes()
	if n == 5 {
		a.Conditional, a.IfSequence = true, r.Uint()
	}
}

// Entry is a committed action of a journal. Its encoding is a MessagePack array of two items, the
// action and the checksum:
//
//	[action, checksum uint]
//
// Encoded entries lie one after the other with nothing between them, in [Stored.Entries] as in the
// frames that replay a journal on a worker. The sequence of an entry is not in it: the first entry
// has the sequence of its base plus 1.
type Entry struct {
	Action
	// Checksum is the XXH64 of the result that was acknowledged.
	Checksum uint64
}

// AppendEntry appends the encoding of an entry to b and returns the extended slice. action is
// encoded already: a [Record.Action]. It is copied.
func AppendEntry(b, action []byte, checksum uint64) []byte {
	return pack.AppendUint(append(pack.AppendArray(b, 2), action...), checksum)
}

// ReadEntry reads the entry at the start of b and returns the bytes behind it. The entry's Type
// and Payload are parts of b. It fails if b does not start with an entry.
func ReadEntry(b []byte) (e Entry, rest []byte, err error) {
	r := pack.Reader{Rest: b}
	r.ArrayOf(2, 2)
	readAction(&r, &e.Action)
	e.Checksum = r.Uint()
	return e, r.Rest, r.Err
}

// Entries iterates over encoded entries, oldest first. Each entry's Type and Payload are parts of
// b. If b is damaged, the last pair is an empty entry and the error.
func Entries(b []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for rest := b; len(rest) > 0; {
			e, after, err := ReadEntry(rest)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
			rest = after
		}
	}
}
