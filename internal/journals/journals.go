// Package journals reads, checks, copies and deletes the journals of a directory, for 'hypertoken
// journal'. It works on the store itself, without a host and without workers.
package journals

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"

	"hypertoken/internal/engine"
	"hypertoken/journal"
)

// Source is a store that lists its journals and keeps their history.
type Source interface {
	journal.Lister
	journal.Historian
	journal.CoreKeeper
}

// MaxPage is how many names are read at once.
const MaxPage = 1000

// List iterates over the journals whose names start with prefix and sort behind after, by name.
// If an error ends the list, it is in the last pair.
func List(ctx context.Context, s journal.Lister, prefix, after string) iter.Seq2[journal.Info, error] {
	return func(yield func(journal.Info, error) bool) {
		for {
			page, err := Answer(ctx, func(done func([]journal.Info, error)) { s.List(prefix, after, MaxPage, done) })
			if err != nil {
				yield(journal.Info{}, err)
				return
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
			}
			if len(page) < MaxPage {
				return
			}
			after = page[len(page)-1].Name
		}
	}
}

// ErrUnknown is the error for a name that no journal has.
var ErrUnknown = errors.New("there is no journal of that name")

// Find returns what a store tells of one journal. It fails with [ErrUnknown] if there is none.
func Find(ctx context.Context, s journal.Lister, name string) (journal.Info, error) {
	page, err := Answer(ctx, func(done func([]journal.Info, error)) { s.List(name, "", 1, done) })
	if err != nil {
		return journal.Info{}, err
	}
	// The name itself sorts before all others that begin with it.
	if name == "" || len(page) == 0 || page[0].Name != name {
		return journal.Info{}, fmt.Errorf("%q: %w: 'hypertoken journal list' shows the names", name, ErrUnknown)
	}
	return page[0], nil
}

// partSize is about how many bytes of entries are read at once.
const partSize = 1 << 20

// Entry is an entry of a journal with its sequence: an action, a marker or a note.
type Entry struct {
	journal.Entry
	Sequence uint64
	// Marker is the base that the entry sets the state to, if it is no action; nil for an action.
	Marker *journal.Base
	// Note is what is remembered of a batch that had a key, if the entry is no action; nil for an
	// action. A note has the sequence of the entry before it.
	Note *journal.KeyRecord
	// Key is the key of the action; "" if it had none.
	Key string
	// Batch is the sequence of the first action of the batch that the action belongs to; 0 if it belongs
	// to none.
	Batch uint64
}

// takeKey sets the key of an action, if the first of the key records of its sequence is the action's
// own, and returns the others: those are notes.
func (e *Entry) takeKey(keyed []*journal.KeyRecord) (notes []*journal.KeyRecord) {
	if len(keyed) == 0 {
		return nil
	}
	sum := engine.NewSum(engine.SumOfAction)
	engine.AddToSum(sum, e.Type)
	engine.AddToSum(sum, e.Payload)
	if !bytes.Equal(keyed[0].Sum[:], sum.Sum(nil)) {
		return keyed
	}
	e.Key = keyed[0].Key
	return keyed[1:]
}

// Entries iterates over the entries of a journal from one sequence to another, both included,
// oldest first. If an error ends it, the error is in the last pair. An entry's Type and Payload
// are valid until the next one.
func Entries(ctx context.Context, s journal.Historian, name string, from, to uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for from <= to {
			part, err := Answer(ctx, func(done func(journal.Part, error)) { s.Range(name, from, partSize, done) })
			if err == nil && part.Count == 0 {
				err = fmt.Errorf("%q has no entry of the sequence %d", name, from)
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
			keyed := map[uint64][]*journal.KeyRecord{}
			for k := range part.Keyed {
				r := &part.Keyed[k]
				keyed[r.Sequence] = append(keyed[r.Sequence], r)
			}
			if part.Marker != nil {
				if !yield(Entry{Sequence: from, Marker: part.Marker}, nil) || !yieldNotes(keyed[from], yield) {
					return
				}
				from++
				continue
			}
			for in, err := range journal.Entries(part.Entries) {
				e := Entry{Entry: in, Sequence: from, Batch: batchOf(part.Batches, from)}
				notes := e.takeKey(keyed[from])
				if from > to || !yield(e, err) || err != nil || !yieldNotes(notes, yield) {
					return
				}
				from++
			}
		}
	}
}

// yieldNotes hands notes out.
func yieldNotes(notes []*journal.KeyRecord, yield func(Entry, error) bool) bool {
	for _, note := range notes {
		if !yield(Entry{Sequence: note.Sequence, Note: note}, nil) {
			return false
		}
	}
	return true
}

// batchOf returns the first sequence of the batch that has an entry; 0 if none has. The batches are
// in order.
func batchOf(batches []journal.Batch, sequence uint64) uint64 {
	k := sort.Search(len(batches), func(k int) bool { return batches[k].Last >= sequence })
	if k == len(batches) || batches[k].First > sequence {
		return 0
	}
	return batches[k].First
}

// Delete forgets journals with all their history.
func Delete(ctx context.Context, s journal.Store, name string) error {
	ended := make(chan error, 1)
	s.Delete(name, journal.DoneFunc(func(err error) { ended <- err }))
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Answer makes a call of a store and waits for its end, or for the end of ctx.
func Answer[T any](ctx context.Context, call func(done func(T, error))) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	ended := make(chan outcome, 1)
	call(func(value T, err error) { ended <- outcome{value, err} })
	select {
	case o := <-ended:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
