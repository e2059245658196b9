package disk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// Store is a store on a disk. It is a [journal.Store], [journal.Lister], [journal.Historian],
// [journal.HealthChecker], [journal.Releaser], [journal.Renamer] and [journal.CoreKeeper]. [Open]
// makes one.
//
// A call goes through three goroutines. The committing goroutine takes all calls that wait, of all
// engines, checks them, and makes one batch of them. The syncing goroutine waits until the batch
// is on the disk, and reports the calls. What was called while a batch was on its way to the disk
// goes with the next one, so batches grow with the load, and no timer is needed. Readers report
// what asks for rows.
type Store struct {
	o     Options
	dir   string
	gate  *gate
	db    *pebble.DB
	lock  *directoryLock
	stats counters
	space space

	mu      sync.Mutex // guards what follows
	arrived sync.Cond  // of mu: the committing goroutine has something to do
	queue   []op
	// flights are the batches that are being made, or on their way to the disk.
	flights  []*flight
	spares   []*flight
	isClosed bool
	// placeholders are the heads in which calls wait.
	placeholders map[*head]bool
	large        []*op // bases that are written in pieces, oldest first

	// inUse counts what uses pebble beside the goroutines of calls. Add is called with mu held,
	// before isClosed is set.
	inUse sync.WaitGroup

	failure  atomic.Pointer[error]
	failed   chan struct{} // closed after failure is set
	answered sync.WaitGroup

	syncs     chan *flight // closed by the committing goroutine
	reads     readQueue
	trims     trimmer
	closing   chan struct{} // closed when Close begins
	stop      chan struct{} // closed when pebble is closed; ends the goroutine that watches the disk
	goroutine struct{ committing, syncing, reading, watching, trimming sync.WaitGroup }
	close     sync.Once
	closeErr  error

	// What follows belongs to the committing goroutine.
	heads   map[string]*head
	lookups []lookup // heads that are to be read once the batch can be seen
	// grown are the engines that have got a base in the batch, if a history is trimmed.
	grown  []string
	nextID uint64
	group  []byte
	key    []byte
	now    func() time.Time // a seam for tests
}

var (
	_ journal.Store         = (*Store)(nil)
	_ journal.Lister        = (*Store)(nil)
	_ journal.Historian     = (*Store)(nil)
	_ journal.HealthChecker = (*Store)(nil)
	_ journal.Releaser      = (*Store)(nil)
	_ journal.Renamer       = (*Store)(nil)
	_ journal.CoreKeeper    = (*Store)(nil)
)

var errClosed = journal.Refused("the store on disk is closed")

// Load implements [journal.Store].
func (s *Store) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s.put(op{kind: opLoad, name: name, owner: owner, more: &request{loaded: done}})
}

// Append implements [journal.Store].
func (s *Store) Append(name string, owner journal.Owner, newest uint64, group []journal.Record, done journal.Done) {
	s.put(op{kind: opAppend, name: name, owner: owner, newest: newest, group: group, done: done})
}

// Install implements [journal.Store].
func (s *Store) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.put(op{kind: opInstall, name: name, owner: owner, more: &request{base: base}, done: done})
}

// Delete implements [journal.Store]. It deletes the history, too.
func (s *Store) Delete(name string, done journal.Done) {
	s.put(op{kind: opDelete, name: name, done: done})
}

// Release implements [journal.Releaser].
func (s *Store) Release(name string, owner journal.Owner, done journal.Done) {
	s.put(op{kind: opRelease, name: name, owner: owner, done: done})
}

// LoadAt implements [journal.Historian].
func (s *Store) LoadAt(name string, at uint64, done func(*journal.Stored, error)) {
	s.put(op{kind: opLoadAt, name: name, more: &request{loaded: done, number: at}})
}

// Range implements [journal.Historian].
func (s *Store) Range(name string, from uint64, limit int, done func(journal.Part, error)) {
	s.put(op{kind: opRange, name: name, more: &request{ranged: done, number: from, limit: limit}})
}

// List implements [journal.Lister].
func (s *Store) List(prefix, after string, limit int, done func([]journal.Info, error)) {
	s.put(op{kind: opList, name: prefix, more: &request{listed: done, after: after, limit: limit}})
}

// put hands a call to the committing goroutine, or ends it if there is none any more.
func (s *Store) put(o op) {
	s.mu.Lock()
	err := s.Err()
	if err == nil && s.isClosed {
		err = errClosed
	}
	if err == nil {
		s.queue = append(s.queue, o)
		s.arrived.Signal()
	}
	s.mu.Unlock()
	if err != nil {
		o.report(err)
	}
}

// wait makes a call and waits for its end.
func (s *Store) wait(call func(done journal.Done)) error {
	ended := make(chan error, 1)
	call(journal.DoneFunc(func(err error) { ended <- err }))
	return <-ended
}

// closePatience is how long Close waits for pebble after a failure.
const closePatience = 5 * time.Second

// Close ends all calls that were made, and closes the directory. Calls that are made later are
// refused. It returns the error of [Store.Err] if the store has failed. It may be called more than
// once.
func (s *Store) Close() error {
	s.close.Do(func() { s.closeErr = s.closeAll() })
	return s.closeErr
}

func (s *Store) closeAll() error {
	close(s.closing)
	s.mu.Lock()
	s.isClosed = true
	s.arrived.Signal()
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		s.goroutine.committing.Wait()
		s.goroutine.syncing.Wait()
		s.reads.close()
		s.goroutine.reading.Wait()
		s.trims.close()
		s.goroutine.trimming.Wait()
		s.inUse.Wait()
		ended <- s.closePebble()
	}()
	err := s.awaitEnd(ended)
	close(s.stop)
	s.goroutine.watching.Wait()
	s.answered.Wait()
	s.gate.releaseLocks()
	s.gate.logs.synced.close()
	return errors.Join(s.Err(), err, s.lock.release())
}

// awaitEnd waits until all calls have ended and pebble is closed.
func (s *Store) awaitEnd(ended <-chan error) error {
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-s.failed:
	case <-timer.C:
		if s.space.err() == nil { // all calls end in time
			select {
			case err := <-ended:
				return err
			case <-s.failed:
			}
		} else {
			// What is being stored does not fit, and nobody waits for the room that it takes.
			s.fail(fmt.Errorf("closed while %w", s.space.err()))
		}
	}
	s.gate.open(true)
	timer.Reset(closePatience)
	select {
	case <-ended:
	case <-timer.C:
		s.o.Logger.Warn("the journals' files could not be closed after the failure", "dir", s.dir)
	}
	return nil
}

// closePebble closes pebble, which may panic after a failure.
func (s *Store) closePebble() (err error) {
	defer func() {
		if r := recover(); r != nil && s.Err() == nil {
			err = panicked(r)
		}
	}()
	s.gate.open(true)
	err = s.db.Close()
	if s.Err() != nil {
		return nil
	}
	return err
}
