package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync/atomic"

	"hypertoken/internal/fault"
	"hypertoken/internal/fifo"
	"hypertoken/journal"
)

// Keys remembers the last actions and batches that had a key, and knows those that are in flight. W is what waits for a
// repetition of one in flight. The engine's lock guards it, except for the counters.
type Keys[W any] struct {
	window   int   // how many records are remembered
	most     int64 // how many bytes they may take, except for the newest
	records  map[string]*journal.KeyRecord
	order    fifo.Queue[*journal.KeyRecord]
	inFlight map[string]*flight[W]
	// newest is the number of the newest record that there was, remembered or forgotten.
	newest uint64
	// bytes is what the records take; others read it without the lock. total is that of all engines of the host.
	bytes     atomic.Int64
	total     *atomic.Int64
	forgotten *atomic.Uint64 // counts the records that were forgotten for their size
}

// flight is an action or a batch with a key that has not ended.
type flight[W any] struct {
	sum       [32]byte
	followers []W
}

// Init sets the bounds: how many records are remembered, and how many bytes they take. The engine adds what its records
// take to total, and how many it has forgotten for their size to forgotten.
func (t *Keys[W]) Init(window int, most int64, total *atomic.Int64, forgotten *atomic.Uint64) {
	t.window, t.most, t.total, t.forgotten = window, most, total, forgotten
}

// RecordOverhead is about what a record takes beside its key and its result, in bytes.
const RecordOverhead = 256

// keyWeight returns about what a record takes, in bytes.
func keyWeight(r *journal.KeyRecord) int64 { return int64(len(r.Key) + len(r.Result) + RecordOverhead) }

// keysWeight returns about what records take, in bytes.
func keysWeight(list []journal.KeyRecord) (n int64) {
	for k := range list {
		n += keyWeight(&list[k])
	}
	return n
}

// Bytes returns about what the records take. It needs no lock.
func (t *Keys[W]) Bytes() int64 { return t.bytes.Load() }

// Len returns how many records are remembered.
func (t *Keys[W]) Len() int { return len(t.records) }

// Cap returns how many records the table has memory for.
func (t *Keys[W]) Cap() int { return t.order.Cap() }

func (t *Keys[W]) add(bytes int64) {
	t.bytes.Add(bytes)
	t.total.Add(bytes)
}

// Clear forgets every record.
func (t *Keys[W]) Clear() {
	t.records, t.order = nil, fifo.Queue[*journal.KeyRecord]{}
	t.add(-t.bytes.Load())
}

// Load replaces what is remembered by what a store has.
func (t *Keys[W]) Load(s *journal.Stored) {
	t.Clear()
	for _, list := range [][]journal.KeyRecord{s.Keys, s.Recent} {
		for k := range list {
			t.remember(&list[k])
		}
	}
	t.newest = s.NewestKeyNumber()
}

func (t *Keys[W]) remember(r *journal.KeyRecord) {
	if t.records == nil {
		t.records = map[string]*journal.KeyRecord{}
	}
	t.records[r.Key] = r
	t.order.Push(r)
	t.add(keyWeight(r))
	for t.order.Len() > t.window {
		t.forgetOldest()
	}
	t.Shrink(t.most, 1)
}

func (t *Keys[W]) forgetOldest() {
	old := t.order.Pop()
	if t.records[old.Key] == old {
		delete(t.records, old.Key)
	}
	t.add(-keyWeight(old))
}

// Shrink forgets the oldest records until the others take no more than that many bytes, or until
// only so many remain. It reports whether it has forgotten any.
func (t *Keys[W]) Shrink(bytes int64, remaining int) (forgot bool) {
	for t.bytes.Load() > bytes && t.order.Len() > remaining {
		t.forgetOldest()
		t.forgotten.Add(1)
		forgot = true
	}
	return forgot
}

// UpTo returns what is remembered of the actions up to a sequence, oldest first, and the number of the newest record of
// them, forgotten ones included. After a doubt about an append, records of later sequences may be there.
func (t *Keys[W]) UpTo(sequence uint64) (list []journal.KeyRecord, newest uint64) {
	newest = t.newest
	for _, r := range t.order.All() {
		switch {
		case r.Sequence > sequence:
			newest = min(newest, r.Number-1)
		case t.records[r.Key] == r:
			list = append(list, *r)
		}
	}
	return list, newest
}

// Begin looks for an action or a batch with the same key as r. It returns the record of one that
// has ended, or true if w will share the outcome of one in flight; otherwise r is the first of its
// key, and Ended has to be called for it. It fails with ErrKeyReused if the key belongs to another
// action. what names the action.
func (t *Keys[W]) Begin(r *journal.KeyRecord, what string, w W) (old *journal.KeyRecord, follows bool, err error) {
	if old := t.records[r.Key]; old != nil {
		if old.Sum != r.Sum {
			return nil, false, keyReused(r, what)
		}
		return old, false, nil
	}
	if first := t.inFlight[r.Key]; first != nil {
		if first.sum != r.Sum {
			return nil, false, keyReused(r, what)
		}
		first.followers = append(first.followers, w)
		return nil, true, nil
	}
	if t.inFlight == nil {
		t.inFlight = map[string]*flight[W]{}
	}
	t.inFlight[r.Key] = &flight[W]{sum: r.Sum}
	return nil, false, nil
}

// Ended takes in the outcome of the action or batch that has the record r, and returns who shares
// it. A failure forgets the key, and so does a success that left no record.
func (t *Keys[W]) Ended(r *journal.KeyRecord, err error) (followers []W) {
	if f := t.inFlight[r.Key]; f != nil {
		followers = f.followers
		delete(t.inFlight, r.Key)
	}
	if err != nil || r.Number == 0 {
		return followers
	}
	t.newest = max(t.newest, r.Number)
	if t.records[r.Key] == nil {
		t.remember(r)
	}
	return followers
}

func keyReused(r *journal.KeyRecord, what string) error {
	return fault.ErrKeyReused.With("%s: the key %q belongs to another action, another payload or another batch; "+
		"use a new key for each", what, r.Key)
}

// NewKey returns the record of a key whose action or batch has not ended. The sum is over what was
// asked for, without its clock, its entropy and its condition.
func NewKey(key string, sum hash.Hash) *journal.KeyRecord {
	r := &journal.KeyRecord{Key: key}
	sum.Sum(r.Sum[:0])
	return r
}

// The first byte of what a sum is over.
const (
	SumOfAction byte = 'a'
	SumOfBatch  byte = 'b'
	SumOfRewind byte = 'r'
)

// NewSum returns a SHA-256 over nothing but its kind.
func NewSum(kind byte) hash.Hash {
	s := sha256.New()
	_, _ = s.Write([]byte{kind})
	return s
}

// AddToSum adds a part of what was asked for to a sum, behind its length.
func AddToSum(sum hash.Hash, part []byte) {
	_, _ = sum.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(part))))
	_, _ = sum.Write(part)
}

// AddActionToSum adds the type and the payload of an encoded action to a sum.
func AddActionToSum(sum hash.Hash, action []byte) {
	if a, _, err := journal.ReadAction(action); err == nil { // the host has encoded it
		AddToSum(sum, a.Type)
		AddToSum(sum, a.Payload)
	}
}
