package host

import (
	"encoding/binary"
	"iter"
	"time"

	"hypertoken/wasm"
)

// Entry is one committed action of an engine's journal.
type Entry struct {
	// Sequence counts the actions that changed the engine, from 1.
	Sequence uint64
	// Now is the clock that the action saw, in milliseconds since the epoch.
	Now int64
	// Entropy is what its randomness came from.
	Entropy [wasm.EntropySize]byte
	Type    string
	// Payload is MessagePack.
	Payload []byte
	// Checksum is the XXH64 of the result that was acknowledged.
	Checksum uint64
}

// journal is an engine's base, a setup or a snapshot, and the actions committed since. Entries are packed in one
// buffer, which is only ever appended to or replaced: whoever holds an older slice of it may go on reading.
type journal struct {
	// base is a snapshot, or the setup where there is none yet.
	base     []byte
	snapshot bool
	// baseSequence is that of the state that base holds, sequence the newest.
	baseSequence, sequence uint64
	entries                []byte
	// runTime is how long the entries ran, added up.
	runTime time.Duration
}

// The fixed part of a packed entry: now, entropy, checksum, lengths of type and payload.
const entryHeader = 8 + wasm.EntropySize + 8 + 4 + 4

// committed is an action with what its acknowledgment recorded.
type committed struct {
	action   *wasm.Action
	checksum uint64
	runTime  time.Duration
}

// append stores a group of actions whole.
func (j *journal) append(group ...committed) {
	le := binary.LittleEndian
	for _, c := range group {
		a := c.action
		b := le.AppendUint64(j.entries, uint64(a.Now))
		b = append(b, a.Entropy[:]...)
		b = le.AppendUint64(b, c.checksum)
		b = le.AppendUint32(b, uint32(len(a.Type)))
		b = le.AppendUint32(b, uint32(len(a.Payload)))
		b = append(b, a.Type...)
		j.entries = append(b, a.Payload...)
		j.sequence++
		j.runTime += c.runTime
	}
}

// due says whether the entries have outgrown what a replay should cost.
func (j *journal) due(o *Options) bool {
	return len(j.entries) > max(len(j.base), o.SnapshotBytes) || j.runTime > o.ReplayBudget
}

// replace makes a snapshot of the newest state the base.
func (j *journal) replace(snapshot []byte) {
	j.base, j.snapshot, j.baseSequence = snapshot, true, j.sequence
	j.entries, j.runTime = nil, 0
}

// all iterates the entries as they are now. Their payloads lie in the journal: they must not be changed.
func (j *journal) all() iter.Seq[Entry] {
	b, base := j.entries, j.baseSequence
	return func(yield func(Entry) bool) {
		sequence := base
		le := binary.LittleEndian
		for rest := b; len(rest) > 0; {
			sequence++
			e := Entry{Sequence: sequence, Now: int64(le.Uint64(rest))}
			copy(e.Entropy[:], rest[8:])
			e.Checksum = le.Uint64(rest[8+wasm.EntropySize:])
			types := int(le.Uint32(rest[16+wasm.EntropySize:]))
			payload := int(le.Uint32(rest[20+wasm.EntropySize:]))
			rest = rest[entryHeader:]
			e.Type, e.Payload = string(rest[:types]), rest[types:types+payload:types+payload]
			rest = rest[types+payload:]
			if !yield(e) {
				return
			}
		}
	}
}
