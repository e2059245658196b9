package disk

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// lookup is a head whose engine's rows are to be read.
type lookup struct {
	name string
	head *head
}

// readQueue has the calls that wait for a reader. It is not bounded: the syncing goroutine must
// not wait for a large journal.
type readQueue struct {
	mu       sync.Mutex // guards what follows
	arrived  sync.Cond  // of mu
	ops      []op
	isClosed bool
}

func (q *readQueue) push(o op) {
	q.mu.Lock()
	q.ops = append(q.ops, o)
	q.arrived.Signal()
	q.mu.Unlock()
}

func (q *readQueue) close() {
	q.mu.Lock()
	q.isClosed = true
	q.arrived.Broadcast()
	q.mu.Unlock()
}

// pop waits for a call. It returns false once the queue is closed and empty.
func (q *readQueue) pop() (o op, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ops) == 0 {
		if q.isClosed {
			return o, false
		}
		q.arrived.Wait()
	}
	o = q.ops[0]
	q.ops[0] = op{}
	if q.ops = q.ops[1:]; len(q.ops) == 0 {
		q.ops = nil
	}
	return o, true
}

// readers is the number of goroutines that read.
const readers = 4

// read is a reader.
func (s *Store) read() {
	for {
		o, ok := s.reads.pop()
		if !ok {
			return
		}
		s.readOne(&o)
	}
}

func (s *Store) readOne(o *op) {
	if o.kind == opFound {
		found, err := s.lookUp(o.name)
		o.more = &request{found: found}
		o.err = s.outcome(err)
		s.mu.Lock()
		s.queue = append(s.queue, *o) // also if the store is closed: the call was made before
		s.arrived.Signal()
		s.mu.Unlock()
		return
	}
	r := engineReader{it: o.iterator}
	switch o.kind {
	case opLoad:
		stored, err := r.load()
		if err = s.readError(o, errors.Join(err, o.iterator.Close())); err != nil {
			o.report(err)
			return
		}
		stored.Owner = o.formerOwner
		s.stats.loads.Add(1)
		o.more.loaded(stored, nil)
	case opLoadAt:
		stored, err := r.loadAt(o.more.number)
		if err = s.readError(o, errors.Join(err, o.iterator.Close())); err != nil {
			o.report(err)
			return
		}
		o.more.loaded(stored, nil)
	case opRange:
		part, err := r.part(o.more.number, o.more.limit)
		if err = s.readError(o, errors.Join(err, o.iterator.Close())); err != nil {
			o.report(err)
			return
		}
		o.more.ranged(part, nil)
	case opCore:
		code, err := readCore(o.iterator, o.name)
		if err = s.readError(o, errors.Join(err, o.iterator.Close())); err != nil {
			o.report(err)
			return
		}
		o.more.core(code, nil)
	case opList:
		list, err := s.list(o.iterator, o.name, o.more.after, o.more.limit)
		if err = s.readError(o, errors.Join(err, o.iterator.Close())); err != nil {
			o.report(err)
			return
		}
		o.more.listed(list, nil)
	}
}

// readError returns what a call that reads fails with, or nil.
func (s *Store) readError(o *op, err error) error {
	if failure := s.Err(); failure != nil {
		return failure
	}
	if err == nil || errors.Is(err, journal.ErrRefused) || errors.Is(err, journal.ErrDamaged) {
		return err
	}
	if o.kind == opCore {
		return damagedAs(s.dir, "the core", o.name, err)
	}
	return damaged(s.dir, o.name, err)
}

// damaged says that an engine's rows are not those that were written.
func damaged(dir, name string, err error) error { return damagedAs(dir, "the journal", name, err) }

func damagedAs(dir, what, name string, err error) error {
	where := dir
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		where = info.Path
	} else if !isDamage(err) {
		return fmt.Errorf("reading %s %q in %s: %w", what, name, dir, err)
	}
	return fmt.Errorf("%s %q in %s: %w: %w", what, name, where, journal.ErrDamaged, err)
}

// damage is an error about a row that is not as it was written.
type damage struct {
	key []byte
	err error
}

func (d *damage) Error() string { return fmt.Sprintf("the row %x: %v", d.key, d.err) }
func (d *damage) Unwrap() error { return d.err }

func isDamage(err error) bool {
	var d *damage
	return errors.As(err, &d) || pebble.IsCorruptionError(err)
}

func damagedRow(key []byte, err error) error {
	if err == nil {
		return nil
	}
	return &damage{append([]byte(nil), key...), err}
}

func damagedf(key []byte, format string, args ...any) error {
	return damagedRow(key, fmt.Errorf(format, args...))
}

// nameRow reads the row of a name. isKnown is false if there is none.
func (s *Store) nameRow(name string) (n nameRow, isKnown bool, err error) {
	key := appendName(nil, name)
	row, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return n, false, nil
	}
	if err != nil {
		return n, false, damaged(s.dir, name, err)
	}
	n, err = readName(row, key)
	_ = closer.Close()
	if err != nil {
		return n, false, damaged(s.dir, name, damagedRow(key, err))
	}
	return n, true, nil
}

// lookUp reads what the committing goroutine has to know of an engine. It returns nil if the name
// is not known. If the engine's rows are damaged, the head says so.
func (s *Store) lookUp(name string) (*head, error) {
	n, isKnown, err := s.nameRow(name)
	if err != nil || !isKnown {
		return nil, err
	}
	lower, upper := engineBounds(n.id)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, damaged(s.dir, name, err)
	}
	r := engineReader{it: it}
	h, err := r.head(n.id)
	if err = errors.Join(err, it.Close()); err != nil {
		h = &head{id: n.id, damage: damaged(s.dir, name, err)}
	}
	h.created = n.created
	return h, nil
}
