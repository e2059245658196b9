package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// Store keeps journals on NATS JetStream. It is a [journal.Store], [journal.Lister],
// [journal.Historian], [journal.HealthChecker], [journal.Releaser], [journal.Divider] and
// [journal.CoreKeeper]. [Open] makes one.
//
// Each stream has a goroutine that runs all calls for its slots. Calls of one engine run one after
// the other. What all engines of a stream want to write goes with the next atomic batch.
type Store struct {
	o      Options
	layout layout
	conn   *conn
	life   [8]byte // random, for recordID
	// records counts records, for recordID.
	records atomic.Uint64
	// groupSize and baseSize are the sizes in bytes up to which the body of a record is in the record.
	// pieceSize is the size of a piece of a larger one. A group of more than packedSize bytes does not go
	// to the slot's tail if it need not.
	groupSize, baseSize, pieceSize, packedSize int
	trimmed                                    int // how many messages of a history a purge removes at most
	streams                                    []*stream
	stats                                      counters
	viewer                                     viewer

	// ctx ends when nobody waits for the servers any more.
	ctx    context.Context
	cancel context.CancelFunc
	// calls counts the calls that have not ended. work counts goroutines of calls and of cleaning.
	calls, work activity
	loops       sync.WaitGroup
	stop        chan struct{} // closed when the loops have to end

	mu       sync.Mutex // guards isClosed, with calls.Add of calls that no stream takes
	isClosed bool
	close    sync.Once
	closeErr error

	leaser Leaser // nil if each barrier is written to the log

	// trouble is why nothing is stored at the moment; nil if the last batch was stored.
	trouble atomic.Pointer[error]
	// refusal is what the servers have forbidden last.
	refusal atomic.Pointer[error]
}

var (
	_ journal.Store         = (*Store)(nil)
	_ journal.Lister        = (*Store)(nil)
	_ journal.Historian     = (*Store)(nil)
	_ journal.HealthChecker = (*Store)(nil)
	_ journal.Releaser      = (*Store)(nil)
	_ journal.Renamer       = (*Store)(nil)
	_ journal.Divider       = (*Store)(nil)
	_ journal.CoreKeeper    = (*Store)(nil)
	_ journal.CoreChooser   = (*Store)(nil)
)

var errClosed = journal.Refused("the store on JetStream is closed")

// Load implements [journal.Store]. It acquires the slot of the name if the store does not own it.
func (s *Store) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s.submit(&call{kind: callLoad, name: name, owner: owner, loaded: done})
}

// Append implements [journal.Store].
func (s *Store) Append(name string, owner journal.Owner, newest uint64, group []journal.Record, done journal.Done) {
	s.submit(&call{kind: callAppend, name: name, owner: owner, newest: newest, group: group, done: done})
}

// Install implements [journal.Store]. It acquires the slot of the name if the store does not own it.
func (s *Store) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.submit(&call{kind: callInstall, name: name, owner: owner, base: base, done: done})
}

// Delete implements [journal.Store]. It deletes the history, too. It acquires the slot of the name if
// the store does not own it.
func (s *Store) Delete(name string, done journal.Done) {
	s.submit(&call{kind: callDelete, name: name, done: done})
}

// Release implements [journal.Releaser]. The slot stays this store's.
func (s *Store) Release(name string, owner journal.Owner, done journal.Done) {
	s.submit(&call{kind: callRelease, name: name, owner: owner, done: done})
}

// Barrier reports success once it is sure that owner was the owner of the journal at some time after
// the call. It fails with [journal.ErrNotOwner] if it is not. Answers that changed nothing can wait for
// it.
func (s *Store) Barrier(name string, owner journal.Owner, done journal.Done) {
	s.submit(&call{kind: callBarrier, name: name, owner: owner, done: done})
}

// submit hands a call to the loop of its stream.
func (s *Store) submit(c *call) {
	c.made = time.Now()
	s.streams[s.layout.streamOf(SlotOf(c.name))].submit(c)
}

// background runs a call that needs no slot, on a goroutine of its own, or ends it if the store is
// closed.
func (s *Store) background(run func(context.Context), closed func(error)) {
	s.mu.Lock()
	isClosed := s.isClosed
	if !isClosed {
		s.calls.Add(1)
	}
	s.mu.Unlock()
	if isClosed {
		closed(errClosed)
		return
	}
	go func() {
		defer s.calls.Done()
		run(s.ctx)
	}()
}

// clean removes what nobody needs any more, in the background. If it fails, that stays.
func (s *Store) clean(f func(context.Context) error) {
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.o.Patience)
		defer cancel()
		if err := f(ctx); err != nil {
			s.o.Logger.Debug("messages that nobody needs were not removed", "error", err)
		}
	})
}

// setTrouble notes what became of a batch.
func (s *Store) setTrouble(what outcome, err error) {
	var trouble error
	switch what {
	case isStored, isFenced, isBusy, isRefused:
		if s.trouble.Load() != nil {
			s.trouble.Store(nil)
		}
		return
	case isNoRoom:
		trouble = fmt.Errorf("%w: %w", journal.ErrFull, err)
	default:
		trouble = unavailable("%v", err)
	}
	s.trouble.Store(&trouble)
}

// Health implements [journal.HealthChecker].
func (s *Store) Health() error {
	if !s.conn.nc.IsConnected() {
		return unavailable("no NATS server is connected")
	}
	if err := s.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// closePatience is how long Close waits for servers that do not say what became of a call.
const closePatience = 5 * time.Second

// Close ends all calls that were made, and the connection. Calls that the servers have not seen yet, and
// calls that are made later, are refused. The slots stay this store's until another one takes them.
// It may be called more than once.
func (s *Store) Close() error {
	s.close.Do(func() { s.closeErr = s.closeAll() })
	return s.closeErr
}

func (s *Store) closeAll() error {
	s.mu.Lock()
	s.isClosed = true
	s.mu.Unlock()
	for _, st := range s.streams {
		st.mu.Lock()
		st.isClosed = true
		st.mu.Unlock()
		st.post(st.shut)
	}
	ended := make(chan struct{})
	go func() {
		s.calls.Wait()
		s.work.Wait()
		close(ended)
	}()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	var err error
	select {
	case <-ended:
	case <-timer.C:
		err = errAbandoned
	}
	s.cancel()
	for _, st := range s.streams {
		st.post(st.abandon)
	}
	<-ended
	close(s.stop)
	s.loops.Wait()
	s.work.Wait()
	s.conn.nc.Close()
	return err
}

// newID returns an ID that nothing else has.
func (s *Store) newID() recordID { return recordID{s.life, s.records.Add(1)} }

// newMark returns a message that removes the one before it on its subject.
func newMark(subject string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Header.Set(headerRollup, rollupSubject)
	return m
}

// isForbidden returns whether an error is about rights.
func isForbidden(err error) bool {
	return errors.Is(err, nats.ErrPermissionViolation) || errors.Is(err, nats.ErrAuthorization)
}
