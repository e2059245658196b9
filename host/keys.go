package host

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync/atomic"

	"hypertoken/ipc"
	"hypertoken/journal"
)

// keyTable remembers the last actions and batches that had a key, and knows those that are in flight.
// The engine's lock guards it.
type keyTable struct {
	window  int
	most    int64 // bytes, but for the newest record
	records map[string]*journal.KeyRecord
	order   fifo[*journal.KeyRecord]
	flying  map[string]*Future
	// newest is the number of the newest record that there was, remembered or forgotten.
	newest uint64
	// bytes is what the records take. Others read it without the lock; total is that of all engines.
	bytes     atomic.Int64
	total     *atomic.Int64
	forgotten *atomic.Uint64 // counts the records that were forgotten for their size
}

// keyOverhead is about what a record takes beside its key and its result, in bytes.
const keyOverhead = 256

// keyWeight returns about what a record takes, in bytes.
func keyWeight(r *journal.KeyRecord) int64 { return int64(len(r.Key) + len(r.Result) + keyOverhead) }

func (t *keyTable) add(bytes int64) {
	t.bytes.Add(bytes)
	t.total.Add(bytes)
}

// clear forgets everything.
func (t *keyTable) clear() {
	t.records, t.order = nil, fifo[*journal.KeyRecord]{}
	t.add(-t.bytes.Load())
}

// load replaces what is remembered by what a store has.
func (t *keyTable) load(s *journal.Stored) {
	t.clear()
	for _, list := range [][]journal.KeyRecord{s.Keys, s.Recent} {
		for k := range list {
			t.remember(&list[k])
		}
	}
	t.newest = s.NewestKeyNumber()
}

func (t *keyTable) remember(r *journal.KeyRecord) {
	if t.records == nil {
		t.records = map[string]*journal.KeyRecord{}
	}
	t.records[r.Key] = r
	t.order.push(r)
	t.add(keyWeight(r))
	for t.order.len() > t.window {
		t.forgetOldest()
	}
	t.shrink(t.most, 1)
}

func (t *keyTable) forgetOldest() {
	old := t.order.pop()
	if t.records[old.Key] == old {
		delete(t.records, old.Key)
	}
	t.add(-keyWeight(old))
}

// shrink forgets the oldest records until the others take no more than that many bytes, or only so
// many are left. It reports whether it has forgotten any.
func (t *keyTable) shrink(bytes int64, left int) (any bool) {
	for t.bytes.Load() > bytes && t.order.len() > left {
		t.forgetOldest()
		t.forgotten.Add(1)
		any = true
	}
	return any
}

// upTo returns what is remembered of the actions up to a sequence, oldest first, and the number of the newest record of
// them, forgotten ones included. After a doubt about an append, records of later sequences may be there.
func (t *keyTable) upTo(sequence uint64) (list []journal.KeyRecord, newest uint64) {
	newest = t.newest
	for _, r := range t.order.all() {
		switch {
		case r.Sequence > sequence:
			newest = min(newest, r.Number-1)
		case t.records[r.Key] == r:
			list = append(list, *r)
		}
	}
	return list, newest
}

// begin looks for an action or a batch of the same key as f. It returns the record of one that has
// ended, or true if f shares the outcome of one in flight; else f is the first. It fails with
// ErrKeyReused if the key belongs to another one.
func (t *keyTable) begin(f *Future) (old *journal.KeyRecord, follows bool, err error) {
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
	if err != nil {
		return
	}
	t.newest = max(t.newest, f.keyed.Number)
	if t.records[key] == nil {
		t.remember(f.keyed)
	}
}

func keyReused(f *Future) error {
	return &Error{Code: ErrKeyReused.Code,
		Message: fmt.Sprintf("%s: the key %q belongs to another action, another payload or another batch; use a new key for each", f.what, f.keyed.Key)}
}

// newKey returns the record of a key whose action or batch has not ended. The sum is over what was
// asked for, without its clock, its entropy and its condition.
func newKey(key string, sum hash.Hash) *journal.KeyRecord {
	r := &journal.KeyRecord{Key: key}
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

// keyForAnotherRun returns the record for another run of what had r: a store may still read r.
func keyForAnotherRun(r *journal.KeyRecord) *journal.KeyRecord {
	return &journal.KeyRecord{Key: r.Key, Sum: r.Sum}
}

// shedKeys has engines forget keys while those of all engines take more than MaxKeyBytes: the one whose keys take most
// forgets the older half. No engine's lock is held.
func (h *Host) shedKeys() {
	for h.keyBytes.Load() > h.options.MaxKeyBytes {
		var largest *Engine
		h.mu.Lock()
		for _, e := range h.engines {
			if largest == nil || e.keys.bytes.Load() > largest.keys.bytes.Load() ||
				(e.keys.bytes.Load() == largest.keys.bytes.Load() && e.number < largest.number) {
				largest = e
			}
		}
		h.mu.Unlock()
		if largest == nil {
			return // it has just been closed
		}
		largest.mu.Lock()
		shed := largest.keys.shrink(largest.keys.bytes.Load()/2, 0)
		if shed {
			largest.step(engineEvent{kind: evShed})
		}
		largest.unlock(false)
		if !shed {
			return
		}
	}
}
