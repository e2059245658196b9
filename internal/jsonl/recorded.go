package jsonl

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
	"hypertoken/internal/marker"
	"hypertoken/internal/msgjson"
	"hypertoken/journal"
)

// Recorded is what a line of an export says of the game that was recorded.
type Recorded struct {
	// Core is the SHA-256 of the core in hexadecimal; "" if the line does not say.
	Core string
	// Sequence is that of the action or of the snapshot, if HasSequence is true.
	Sequence    uint64
	HasSequence bool
	// Checksum is the XXH64 of the action's result, if HasChecksum is true.
	Checksum    uint64
	HasChecksum bool
	// Digest is that of the snapshot's state, if HasDigest is true.
	Digest    host.Digest
	HasDigest bool
	// Batch is the sequence of the first action of the batch that the action belongs to; 0 if none.
	Batch uint64
	// Snapshot is the base that the game goes on from, and Keys are its keys.
	Snapshot []byte
	Keys     []journal.KeyRecord
	// Remembered is what a note says of a batch that had a key.
	Remembered journal.KeyRecord
	// origin says where the state of a marker comes from. It has no Digest.
	origin marker.Marker
	// The fields below are those of an action, which has them in its Options, too.
	now                int64
	entropy            [16]byte
	key                string
	hasNow, hasEntropy bool
}

// note notes an option of an action, which was read already.
func (r *Recorded) note(m msgjson.Member) {
	switch m.Key {
	case "now":
		r.now, r.hasNow = msgjson.Int(m.Value)
	case "entropy":
		text, _ := str(m)
		n, _ := hex.Decode(r.entropy[:], []byte(text))
		r.hasEntropy = n == len(r.entropy)
	case "key":
		r.key, _ = str(m)
	}
}

// Base returns the base of a line with a snapshot, or of a marker.
func (r *Recorded) Base() *journal.Base {
	base := &journal.Base{Sequence: r.Sequence, Snapshot: true, Data: r.Snapshot, Core: r.Core, Keys: r.Keys}
	if r.origin.Kind != "" {
		m := r.origin
		m.Digest = uint64(r.Digest)
		base.IsMarker, base.Details = true, m.Encode()
	}
	for k := range r.Keys {
		base.KeyNumber = max(base.KeyNumber, r.Keys[k].Number)
	}
	return base
}

// readNote reads a member of a note. It reports whether the member is one of these.
func (r *Recorded) readNote(m msgjson.Member) (isNotes bool, err error) {
	if m.Key == "note" {
		if kind, ok := str(m); !ok || kind != noteOfKey {
			err = badLine("note: want %q", noteOfKey)
		}
		return true, err
	}
	isNotes, err = readKeyMember(m, &r.Remembered)
	if m.Key == "sequence" {
		r.HasSequence, r.Sequence = true, r.Remembered.Sequence
	}
	return isNotes, err
}

// noteOfKey is the kind of a note that says what is remembered of a batch that had a key.
const noteOfKey = "key"

// checkNote fails unless a line has all that a note needs.
func checkNote(members []msgjson.Member) error {
	for _, key := range []string{"key", "sum", "result", "sequence", "changed"} {
		if !slices.ContainsFunc(members, func(m msgjson.Member) bool { return m.Key == key }) {
			return badLine("note: want key, sum, result, sequence and changed of each")
		}
	}
	return nil
}

// check compares the result of an action with the recorded one. An action that is recorded has
// succeeded, so a refusal by the core differs, too.
func (r *Recorded) check(result host.Result, err error) error {
	var refused *host.ActionError
	switch {
	case !r.HasSequence && !r.HasChecksum:
		return nil
	case errors.As(err, &refused):
		return host.ErrDiverged.Because(err, "the recorded action succeeded, and now fails: %v", err)
	case err != nil:
		return nil
	case r.HasSequence && result.Sequence != r.Sequence:
		return host.ErrDiverged.With("the recorded action had the sequence %d, and now has %d", r.Sequence,
			result.Sequence)
	case r.HasChecksum && xxhash.Sum64(result.Raw) != r.Checksum:
		return host.ErrDiverged.With("the recorded result has the checksum %016x, and that of now %016x", r.Checksum,
			xxhash.Sum64(result.Raw))
	}
	return nil
}

// checkMarker fails unless a line has all that a marker needs.
func (q *Request) checkMarker() error {
	r := &q.Recorded
	if !r.HasSequence || !r.HasDigest || r.Snapshot == nil || r.Core == "" {
		return badLine("marker: want sequence, digest, snapshot and core of each")
	}
	if _, err := marker.Read(r.Base()); err != nil {
		return badLine("%v", err)
	}
	return nil
}

// Entry returns the entry of a journal that a line says, which has an action, a marker or a note.
func (q *Request) Entry() (host.Entry, error) {
	e := host.Entry{Sequence: q.Sequence}
	switch q.Kind {
	case Note:
		e.Note = &q.Remembered
		return e, nil
	case Marker:
		base, m := q.Base(), q.origin
		e.Marker = &host.Marker{Kind: m.Kind, To: m.To, FromCore: m.FromCore, DigestBefore: host.Digest(m.DigestBefore),
			FromEngine: m.FromEngine, FromSequence: m.FromSequence, Digest: q.Digest, Current: m.Current, Redo: m.Redo,
			Base: base}
		return e, nil
	}
	switch missing := q.missing(); {
	case q.ValueError != nil:
		return e, q.ValueError
	case missing != "":
		return e, badLine("there is no member %q, which an action of an export has", missing)
	}
	e.Now, e.Entropy, e.Type, e.Payload = q.now, q.entropy, q.Action, q.Value
	e.Checksum, e.Key, e.Batch = q.Checksum, q.key, q.Batch
	return e, nil
}

// missing returns the first member that an action of an export has and this one does not have.
func (q *Request) missing() string {
	for _, m := range []struct {
		name string
		has  bool
	}{{"sequence", q.HasSequence}, {"checksum", q.HasChecksum}, {"now", q.hasNow}, {"entropy", q.hasEntropy}} {
		if !m.has {
			return m.name
		}
	}
	return ""
}

// read reads a member that is no other line's. It reports whether the member is one of these.
func (r *Recorded) read(m msgjson.Member) (isRecorded bool, err error) {
	switch m.Key {
	case "core":
		r.Core, err = coreHash(m)
	case "sequence":
		r.HasSequence = true
		r.Sequence, err = sequence(m)
	case "checksum":
		r.HasChecksum = true
		r.Checksum, err = hash(m)
	case "digest":
		var digest uint64
		digest, err = hash(m)
		r.Digest, r.HasDigest = host.Digest(digest), true
	case "snapshot":
		r.Snapshot, err = binary(m)
	case "batch":
		if r.Batch, err = sequence(m); err == nil && r.Batch == 0 {
			err = badLine("batch: want the sequence of an action, from 1")
		}
	case "marker":
		var ok bool
		if r.origin.Kind, ok = str(m); !ok || !slices.Contains(markerKinds, r.origin.Kind) {
			err = badLine("marker: want %s", list(markerKinds, "or"))
		}
	case "to":
		r.origin.To, err = sequence(m)
	case "current":
		r.origin.Current, err = sequence(m)
	case "redo":
		r.origin.Redo, err = sequences(m)
	case "from_core":
		if r.origin.FromCore, err = coreHash(m); err != nil {
			return true, err
		}
	case "digest_before":
		r.origin.DigestBefore, err = hash(m)
	case "from_engine":
		var ok bool
		if r.origin.FromEngine, ok = str(m); !ok {
			err = badLine("from_engine: want a string")
		}
	case "from_sequence":
		r.origin.FromSequence, err = sequence(m)
	case "keys":
		if m.List == nil {
			return true, badLine("keys: want an array of objects")
		}
		for _, members := range m.List {
			var key journal.KeyRecord
			if key, err = keyRecord(members); err != nil {
				return true, err
			}
			r.Keys = append(r.Keys, key)
		}
	default:
		return false, nil
	}
	return true, err
}

// markerKinds are the kinds of markers.
var markerKinds = []string{marker.Revert, marker.Upgrade, marker.Fork}

// coreHash reads a member that is the hash of a core.
func coreHash(m msgjson.Member) (string, error) {
	text, ok := str(m)
	if !ok || len(text) != 64 {
		return "", badLine("%s: want 64 hexadecimal digits", m.Key)
	}
	return text, nil
}

// sequences reads a member that is an array of sequences.
func sequences(m msgjson.Member) (all []uint64, err error) {
	var numbers []msgpack.RawMessage
	if m.Err != nil || null(m) || msgpack.Unmarshal(m.Value, &numbers) != nil || len(numbers) > marker.MostRedo {
		return nil, badLine("%s: want an array of at most %d sequences", m.Key, marker.MostRedo)
	}
	for _, n := range numbers {
		one, err := sequence(msgjson.Member{Key: m.Key, Value: n})
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// hash reads a member that is 64 bits in hexadecimal.
func hash(m msgjson.Member) (n uint64, err error) {
	text, ok := str(m)
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != 8 {
		return 0, badLine("%s: want 16 hexadecimal digits", m.Key)
	}
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n, nil
}

// binary reads a member that is bytes in base64.
func binary(m msgjson.Member) ([]byte, error) {
	text, ok := str(m)
	b, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil {
		return nil, badLine("%s: want base64", m.Key)
	}
	return b, nil
}

// keyRecord reads a key of a snapshot.
func keyRecord(members []msgjson.Member) (r journal.KeyRecord, err error) {
	found := 0
	for _, m := range members {
		found++
		isKeys, err := readKeyMember(m, &r)
		if m.Key == "number" {
			isKeys = true
			r.Number, err = sequence(m)
		}
		if !isKeys {
			err = badLine("there is no member %q", clip(m.Key))
		}
		if err != nil {
			return r, badLine("keys: %v", err)
		}
	}
	if found != 6 {
		return r, badLine("keys: want key, sum, result, sequence, changed and number of each")
	}
	return r, nil
}

// readKeyMember reads a member of what is remembered of a key. It reports whether the member is one of
// these.
func readKeyMember(m msgjson.Member, r *journal.KeyRecord) (isKeys bool, err error) {
	text, isText := str(m)
	switch m.Key {
	case "key":
		if !isText || text == "" {
			err = badLine("key: want a string")
		}
		r.Key = text
	case "sum":
		sum, bad := hex.DecodeString(text)
		if !isText || bad != nil || len(sum) != len(r.Sum) {
			err = badLine("sum: want 64 hexadecimal digits")
		} else {
			copy(r.Sum[:], sum)
		}
	case "result":
		r.Result, err = binary(m)
	case "sequence":
		r.Sequence, err = sequence(m)
	case "changed":
		if m.Err != nil || null(m) || msgpack.Unmarshal(m.Value, &r.Changed) != nil {
			err = badLine("changed: want true or false")
		}
	default:
		return false, nil
	}
	return true, err
}
