package host

import (
	"bytes"
	"fmt"

	"hypertoken/ipc"
)

// keyTable remembers the last actions that had a key, and knows those that are in flight. The engine's lock guards it.
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
		if r.Sequence <= sequence {
			list = append(list, *r)
		}
	}
	return list
}

// begin looks for an action of the same key. It returns the outcome of one that has ended, or true where f shares the
// outcome of one in flight; else f is the first.
func (t *keyTable) begin(f *Future) (r Result, known, follows bool, err error) {
	if old := t.records[f.key]; old != nil {
		if !sameAction(old.Action, f.body) {
			return r, true, false, keyReused(f)
		}
		return Result{Sequence: old.Sequence, Changed: old.Changed, Raw: old.Result}, true, false, nil
	}
	if first := t.flying[f.key]; first != nil {
		if !sameAction(first.body, f.body) {
			return r, true, false, keyReused(f)
		}
		first.followers = append(first.followers, f)
		return r, false, true, nil
	}
	if t.flying == nil {
		t.flying = map[string]*Future{}
	}
	t.flying[f.key] = f
	return r, false, false, nil
}

// ended takes note of an outcome. A failure forgets the key.
func (t *keyTable) ended(f *Future, r Result, err error) {
	delete(t.flying, f.key)
	if err == nil && t.records[f.key] == nil {
		t.remember(&KeyRecord{Key: f.key, Action: f.body, Result: r.Raw, Sequence: r.Sequence, Changed: r.Changed})
	}
}

func keyReused(f *Future) error {
	return &Error{Code: ErrKeyReused.Code,
		Message: fmt.Sprintf("%s: the key %q belongs to another action or another payload; use a new key for each action", f.what, f.key)}
}

// sameAction compares actions without their clock and entropy.
func sameAction(a, b []byte) bool {
	x, err := ipc.ReadAction(a)
	y, other := ipc.ReadAction(b)
	return err == nil && other == nil && bytes.Equal(x.Type, y.Type) && bytes.Equal(x.Payload, y.Payload)
}
