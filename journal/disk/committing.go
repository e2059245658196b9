package disk

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// flight is a batch, and the calls that are reported once it is on the disk.
type flight struct {
	ops   []op
	batch *pebble.Batch // nil if the calls need none
	// stage and isReported are guarded by Store.mu.
	stage      stage
	isReported bool // said of the calls: they failed with the store
}

type stage uint8

const (
	stageEncoding stage = iota // the committing goroutine reads the calls' groups
	stageSyncing               // the calls wait for pebble
)

// depth is the number of batches that are on their way to the disk at once.
const depth = 2

// commit is the committing goroutine.
func (s *Store) commit() {
	defer close(s.syncs)
	for {
		f := s.takeCalls()
		if f == nil {
			return
		}
		s.commitFlight(f)
	}
}

// takeCalls waits for calls, and returns them in a new flight. It returns nil once the store is
// closed and nothing is under way.
func (s *Store) takeCalls() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 && len(s.large) == 0 {
		if s.isClosed && len(s.placeholders) == 0 {
			return nil
		}
		s.arrived.Wait()
	}
	f := &flight{}
	if n := len(s.spares); n > 0 {
		f = s.spares[n-1]
		s.spares = s.spares[:n-1]
	}
	f.ops, s.queue = s.queue, f.ops[:0]
	s.flights = append(s.flights, f)
	return f
}

// commitFlight makes a batch of the calls, applies it, and hands the flight to the syncing
// goroutine.
func (s *Store) commitFlight(f *flight) {
	f.batch = s.db.NewBatch()
	now := s.now().UnixMilli()
	for k := range len(f.ops) { // a placeholder's calls are appended while this runs
		s.resolve(f, k, now)
	}
	s.writePieces(f, now)
	s.stats.heads.Store(int64(len(s.heads)))
	if f.batch.Empty() {
		_ = f.batch.Close()
		f.batch = nil
	}
	s.mu.Lock()
	hasFailed := s.failure.Load() != nil
	if !hasFailed {
		f.stage = stageSyncing
	}
	s.mu.Unlock()
	if hasFailed {
		// The groups are not read any more, so the syncing goroutine may report the calls.
		s.readHeads()
		s.failCalls(s.Err())
		s.syncs <- f
		return
	}
	if f.batch != nil {
		s.stats.batches.Add(1)
		s.space.wrote(s, uint64(f.batch.Len()))
		if err := s.apply(f.batch); err != nil {
			s.fail(err)
		}
	}
	s.openIterators(f)
	s.readHeads()
	s.syncs <- f
}

// readHeads lets readers read the engines that calls wait for, and the history of those that have
// got a base. The batches before can be seen.
func (s *Store) readHeads() {
	for _, l := range s.lookups {
		s.reads.push(op{kind: opFound, name: l.name, head: l.head})
	}
	s.lookups = s.lookups[:0]
	for _, name := range s.grown {
		s.trims.push(name)
	}
	s.grown = s.grown[:0]
}

// apply makes a batch visible, and starts to write it to the disk. pebble panics if its log has
// failed before.
func (s *Store) apply(b *pebble.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
	}()
	return s.db.ApplyNoSyncWait(b, pebble.Sync)
}

// openIterators gives each call that reads an iterator: a view of this moment. Fewer calls than
// ops need one.
func (s *Store) openIterators(f *flight) {
	if s.failure.Load() != nil {
		return
	}
	for k := range f.ops {
		o := &f.ops[k]
		if !o.reads() || o.err != nil {
			continue
		}
		switch {
		case o.kind == opList || o.kind == opCore:
			o.iterator, o.err = s.db.NewIter(nil)
		case o.head != nil:
			lower, upper := engineBounds(o.head.id)
			o.iterator, o.err = s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		}
	}
}

// resolve checks a call against what is known of its engine, and adds what it writes to the batch.
// If nothing is known, the engine's rows are read first, and the call waits.
func (s *Store) resolve(f *flight, k int, now int64) {
	o := &f.ops[k]
	switch o.kind {
	case opNone, opList, opCore:
		return
	case opRow:
		if o.err = s.space.err(); o.err == nil {
			_ = f.batch.Set(o.more.key, o.more.value, nil)
		}
		return
	case opFound:
		s.adopt(f, o, now)
		return
	}
	h := s.heads[o.name]
	switch {
	case h != nil && h.isPlaceholder:
		s.park(h, o)
	case h != nil:
		s.perform(f, o, h, now)
	case o.kind == opAppend || o.kind == opRelease:
		o.err = journal.ErrNotOwner // each engine that has an owner has a head
	default:
		h := &head{isPlaceholder: true}
		s.heads[o.name] = h
		s.mu.Lock()
		s.placeholders[h] = true
		s.mu.Unlock()
		s.lookups = append(s.lookups, lookup{o.name, h})
		s.park(h, o)
	}
}

// park lets a call wait until its engine's rows were read.
func (s *Store) park(h *head, o *op) {
	s.mu.Lock()
	h.waiting = append(h.waiting, *o)
	*o = op{}
	s.mu.Unlock()
}

// adopt takes in what was read of an engine, and goes on with the calls that have waited for it.
func (s *Store) adopt(f *flight, o *op, now int64) {
	s.mu.Lock()
	waiting := o.head.waiting
	o.head.waiting = nil
	delete(s.placeholders, o.head)
	first := len(f.ops)
	name, found, err := o.name, o.more.found, o.err
	o.err = nil
	f.ops = append(f.ops, waiting...)
	s.mu.Unlock()
	delete(s.heads, name)
	if found != nil {
		s.heads[name] = found
	}
	for k := range waiting {
		o := &f.ops[first+k]
		if err != nil {
			o.err = err
			continue
		}
		s.perform(f, o, s.heads[name], now)
	}
	// What nobody owns is forgotten at once.
	if h := s.heads[name]; h != nil && !h.isOwned {
		delete(s.heads, name)
	}
}

// perform carries a call out. h is nil if the name is not known.
func (s *Store) perform(f *flight, o *op, h *head, now int64) {
	switch o.kind {
	case opAppend:
		o.err = s.append(f.batch, o, h, now)
	case opInstall:
		o.err = s.install(f, o, h, now)
	case opLoad:
		switch {
		case h == nil:
		case h.damage != nil:
			o.err = h.damage
		default:
			o.head, o.formerOwner = h, h.owner
			h.owner, h.isOwned = o.owner, true
		}
	case opLoadAt, opRange:
		if o.head = h; h == nil && o.kind == opRange {
			o.err = journal.Refused("no journal has the name %q", o.name)
		}
	case opRename:
		o.err = s.rename(f.batch, o, h)
	case opTrim:
		s.trim(f.batch, o.more.trim, h)
	case opDelete:
		s.delete(f.batch, o, h)
	case opRelease:
		if h != nil && h.owns(o.owner) {
			delete(s.heads, o.name)
		} else {
			o.err = journal.ErrNotOwner
		}
	}
}

// append adds a group to the batch.
func (s *Store) append(b *pebble.Batch, o *op, h *head, now int64) error {
	if h == nil || !h.owns(o.owner) {
		return journal.ErrNotOwner
	}
	if h.newest != o.newest {
		return fmt.Errorf("an append behind the sequence %d, the newest one is %d: %w",
			o.newest, h.newest, journal.ErrRefused)
	}
	if err := checkBatches(o.group, h.newest+1); err != nil {
		return err
	}
	if err := s.space.err(); err != nil {
		return err
	}
	s.key = appendGroupKey(s.key[:0], h.id, h.newest+1, h.notes)
	row, actions := appendGroup(s.group[:0], s.key, o.group, now, h.bytes)
	_ = b.Set(s.key, row, nil)
	h.bytes += uint64(len(s.key) + len(row))
	s.stats.groups.Add(1)
	s.stats.groupBytes.Add(uint64(len(row)))
	for k := range o.group {
		if keyed := o.group[k].Keyed; keyed != nil {
			s.putKeyed(b, h, keyed)
		}
	}
	if cap(row) <= maxSpareGroup {
		s.group = row[:0]
	}
	s.stats.records.Add(uint64(len(o.group)))
	h.newest += actions
	if h.notes++; actions > 0 {
		h.notes = 0
	}
	return nil
}

// maxSpareGroup is the size in bytes up to which the memory of a group is used again.
const maxSpareGroup = 1 << 20

func (s *Store) putKeyed(b *pebble.Batch, h *head, k *journal.KeyRecord) {
	key := appendKeyedKey(nil, h.id, k.Number)
	row := appendKeyed(nil, key, k)
	_ = b.Set(key, row, nil)
	h.noteKeyed(k.Number)
	h.bytes += uint64(len(key) + len(row))
	s.stats.keyedBytes.Add(uint64(len(row)))
}

// delete removes a name and all rows of its engine.
func (s *Store) delete(b *pebble.Batch, o *op, h *head) {
	if h == nil {
		return
	}
	_ = b.Delete(appendName(nil, o.name), nil)
	lower, upper := engineBounds(h.id)
	_ = b.DeleteRange(lower, upper, nil)
	delete(s.heads, o.name)
	s.stats.engines.Add(-1)
}
