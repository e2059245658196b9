package host

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"hypertoken/ipc"
)

// keyTable remembers the last actions and batches that had a key, and knows those that are in flight. The engine's lock
// guards it.
type keyTable struct {
	window  int
	records map[string]*KeyRecord
	order   fifo[*KeyRecord]
	flying  map[string]*Future
}

// load replaces what is remembered by what a store has.
func (t *keyTable) load(s *Stored) {
	t.records, t.order = nil, fifo[*KeyRecord]{}
	for _, list := range [][]KeyRecord{s.Keys, s.Recent} {
		for k := range list {
			t.remember(&list[k])
		}
	}
}

func (t *keyTable) remember(r *KeyRecord) {
	if t.records == nil {
		t.records = map[string]*KeyRecord{}
	}
	t.records[r.Key] = r
	t.order.push(r)
	for t.order.len() > t.window {
		if old := t.order.pop(); t.records[old.Key] == old {
			delete(t.records, old.Key)
		}
	}
}

// upTo returns what is remembered of the actions up to a sequence, oldest first.
func (t *keyTable) upTo(sequence uint64) []KeyRecord {
	var list []KeyRecord
	for _, r := range t.order.all() {
		if r.Sequence <= sequence && t.records[r.Key] == r {
			list = append(list, *r)
		}
	}
	return list
}

// begin looks for an action or a batch of the same key as f. It returns the record of one that has ended, or true if f
// shares the outcome of one in flight; else f is the first. It fails with ErrKeyReused if the key belongs to another one.
func (t *keyTable) begin(f *Future) (old *KeyRecord, follows bool, err error) {
	key := f.keyed.Key
	if old := t.records[key]; old != nil {
		if old.Sum != f.keyed.Sum {
			return nil, false, keyReused(f)
		}
		return old, false, nil
	}
	if first := t.flying[key]; first != nil {
		if first.keyed.Sum != f.keyed.Sum {
			return nil, false, keyReused(f)
		}
		first.followers = append(first.followers, f)
		return nil, true, nil
	}
	if t.flying == nil {
		t.flying = map[string]*Future{}
	}
	t.flying[key] = f
	return nil, false, nil
}

// ended takes note of an outcome. A failure forgets the key.
func (t *keyTable) ended(f *Future, err error) {
	key := f.keyed.Key
	delete(t.flying, key)
	if err == nil && t.records[key] == nil {
		t.remember(f.keyed)
	}
}

func keyReused(f *Future) error {
	return &Error{Code: ErrKeyReused.Code,
		Message: fmt.Sprintf("%s: the key %q belongs to another action, another payload or another batch; use a new key for each", f.what, f.keyed.Key)}
}

// newKey returns the record of a key whose action or batch has not ended. The sum is over what was asked for, without its
// clock, its entropy and its condition.
func newKey(key string, sum hash.Hash) *KeyRecord {
	r := &KeyRecord{Key: key}
	sum.Sum(r.Sum[:0])
	return r
}

// The first byte of what a sum is over.
const (
	sumOfAction = 'a'
	sumOfBatch  = 'b'
)

// newSum returns a sum over nothing but its kind.
func newSum(kind byte) hash.Hash {
	s := sha256.New()
	_, _ = s.Write([]byte{kind})
	return s
}

// addToSum adds a type or a payload to a sum, behind its length.
func addToSum(sum hash.Hash, part []byte) {
	_, _ = sum.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(part))))
	_, _ = sum.Write(part)
}

// addActionToSum adds an action, as the protocol has it, to a sum.
func addActionToSum(sum hash.Hash, action []byte) {
	if a, err := ipc.ReadAction(action); err == nil { // it was encoded here
		addToSum(sum, a.Type)
		addToSum(sum, a.Payload)
	}
}

// again returns the record for another run of what had this one: a store may still read this one.
func (r *KeyRecord) again() *KeyRecord { return &KeyRecord{Key: r.Key, Sum: r.Sum} }
