package jsonl

import (
	"encoding/base64"
	"encoding/hex"
	"errors"

	"github.com/cespare/xxhash/v2"
	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
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
	// Snapshot is the base that the game goes on from, and Keys are its keys.
	Snapshot []byte
	Keys     []journal.KeyRecord
}

// Base returns the base of a line with a snapshot.
func (r *Recorded) Base() *journal.Base {
	base := &journal.Base{Sequence: r.Sequence, Snapshot: true, Data: r.Snapshot, Core: r.Core, Keys: r.Keys}
	for k := range r.Keys {
		base.KeyNumber = max(base.KeyNumber, r.Keys[k].Number)
	}
	return base
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

// read reads a member that is no other line's. It reports whether the member is one of these.
func (r *Recorded) read(m msgjson.Member) (isRecorded bool, err error) {
	switch m.Key {
	case "core":
		var ok bool
		if r.Core, ok = str(m); !ok || len(r.Core) != 64 {
			err = badLine("core: want 64 hexadecimal digits")
		}
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
	case "keys":
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
		switch m.Key {
		case "key":
			text, ok := str(m)
			if !ok || text == "" {
				err = badLine("key: want a string")
			}
			r.Key = text
		case "sum":
			text, ok := str(m)
			sum, bad := hex.DecodeString(text)
			if !ok || bad != nil || len(sum) != len(r.Sum) {
				err = badLine("sum: want 64 hexadecimal digits")
			} else {
				copy(r.Sum[:], sum)
			}
		case "result":
			r.Result, err = binary(m)
		case "sequence":
			r.Sequence, err = sequence(m)
		case "number":
			r.Number, err = sequence(m)
		case "changed":
			if m.Err != nil || null(m) || msgpack.Unmarshal(m.Value, &r.Changed) != nil {
				err = badLine("changed: want true or false")
			}
		default:
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
