package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"hypertoken/internal/fault"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// newVerified returns a live engine, at the sequence 0, of a store that has barriers.
func newVerified(t *testing.T) *bench {
	b := newBench(t)
	b.m.config.HasBarrier = true
	b.dispatch("first")
	b.place(here, false, 0)
	b.want(b.answer(0, 0), "barrier")
	b.want(b.step(stored))
	b.wantEnded("first", nil)
	return b
}

func (b *bench) wantEnded(what string, want error) {
	b.t.Helper()
	if err, ended := b.resolved[what]; !ended || !errors.Is(err, want) {
		b.t.Errorf("%s: ended %v with %v, want %v", what, ended, err, want)
	}
}

func (b *bench) wantWaiting(what string) {
	b.t.Helper()
	if err, ended := b.resolved[what]; ended {
		b.t.Errorf("%s has ended with %v", what, err)
	}
}

func barrierSays(err error) func(m *Machine, now time.Duration) {
	return func(m *Machine, now time.Duration) { m.Appended(now, err) }
}

// An answer that changed nothing waits for a barrier that was begun after it was there; that of a
// change, and what is answered with it, for the append.
func TestAnAnswerWaitsForABarrier(t *testing.T) {
	b := newVerified(t)
	for _, what := range []string{"read 1", "read 2", "change", "read 3"} {
		b.dispatch(what)
	}
	b.want(b.answer(0, 0), "barrier")
	b.want(b.answer(0, 0))
	b.wantWaiting("read 1")
	b.want(b.step(stored), "barrier")
	b.wantEnded("read 1", nil)
	b.wantWaiting("read 2")
	b.want(b.answer(1, ipc.FlagChanged))
	b.want(b.answer(1, 0))
	b.want(b.step(stored), "append")
	b.wantEnded("read 2", nil)
	b.wantWaiting("read 3")
	b.want(b.step(stored))
	b.wantEnded("change", nil)
	b.wantEnded("read 3", nil)
	b.want(b.step(stored)) // a store that says it twice
}

// What becomes of an answer that waits for a barrier: it never has an outcome that nobody knows.
func TestABarrierThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(b *bench) []string
		said []string
		want error
	}{
		"another owner": {func(b *bench) []string { return b.step(barrierSays(journal.ErrNotOwner)) },
			[]string{"superseded", "abandon", "closed"}, fault.ErrMoved},
		"a store that has failed": {func(b *bench) []string { return b.step(barrierSays(journal.ErrFailed)) },
			[]string{"abandon", "broken"}, fault.ErrBroken},
		"shutdown": {func(b *bench) []string {
			return b.step(func(m *Machine, now time.Duration) { m.Stop(now, fault.Shutdown()) })
		}, []string{"abandon", "closed"}, fault.ErrShutdown},
		"a withdrawal": {func(b *bench) []string {
			r := b.m.group[0]
			return b.step(func(m *Machine, now time.Duration) { m.Withdraw(now, r, fault.ErrCanceled) })
		}, nil, context.Canceled},
		"a deadline": {func(b *bench) []string {
			b.m.group[0].Deadline = b.now + 1
			b.now += 2 * b.m.config.StoreTimeout
			b.m.EachOverdue(b.now, func(r *Request) { t.Errorf("%s is said to be with the store", r.What) })
			b.m.storeBy = b.now + 1
			return b.step((*Machine).Tick)
		}, nil, fault.ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			b := newVerified(t)
			b.dispatch("read")
			b.want(b.answer(0, 0), "barrier")
			b.want(c.end(b), c.said...)
			b.wantEnded("read", c.want)
			b.want(b.step(stored))
		})
	}
}

// A barrier that fails otherwise, or is not answered, has its answers found anew.
func TestABarrierIsRepeated(t *testing.T) {
	for name, end := range map[string]func(b *bench) []string{
		"it fails": func(b *bench) []string { return b.step(barrierSays(errors.New("the connection broke"))) },
		"no answer": func(b *bench) []string {
			b.now += b.m.config.StoreTimeout
			return b.step((*Machine).Tick)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newVerified(t)
			b.dispatch("read")
			b.answer(0, 0)
			b.want(end(b), "abandon", "load new=false")
			b.wantWaiting("read")
			b.place(Place{Worker: 2, Placement: 2}, false, 0)
			b.want(b.answer(0, 0), "barrier")
			b.want(b.step(stored))
			b.wantEnded("read", nil)
		})
	}
}

// A withdrawal of one of several answers leaves the others waiting; one of the last lets a new barrier
// begin, and the end of the former one does not count for that.
func TestAWithdrawalWhileABarrierIsUnderWay(t *testing.T) {
	b := newVerified(t)
	b.dispatch("first of two")
	second := b.dispatch("second of two")
	b.answer(0, 0)
	b.answer(0, 0)
	b.want(b.step(stored), "barrier")
	b.dispatch("later")
	b.answer(0, 0)
	b.wantEnded("first of two", nil)
	b.want(b.step(func(m *Machine, now time.Duration) { m.Withdraw(now, second, fault.ErrCanceled) }), "barrier")
	b.wantEnded("second of two", context.Canceled)
	b.wantWaiting("later")
	b.want(b.step(stored))
	b.wantEnded("later", nil)
}

// An undo that has nothing to undo, and one that wants another sequence, change nothing, so they wait
// for a barrier.
func TestARefusedRewindWaitsForABarrier(t *testing.T) {
	b := newVerified(t)
	r := &Request{Kind: ipc.Dispatch, What: "undo", IsRewind: true, IsConditional: true, IfSequence: 7, Owner: b}
	b.want(b.step(func(m *Machine, now time.Duration) { m.Dispatch(now, r) }), "barrier")
	b.wantWaiting("undo")
	b.want(b.step(stored))
	b.wantEnded("undo", fault.ErrConflict)

	r = b.rewind("undo again")
	b.want(b.step(func(m *Machine, now time.Duration) { m.Rewound(now, r, nil, nil, fault.ErrConflict) }), "barrier")
	b.wantWaiting("undo again")
	b.want(b.step(stored))
	b.wantEnded("undo again", fault.ErrConflict)
}

// A snapshot needs no barrier: the store takes a base of its owner only.
func TestASnapshotNeedsNoBarrier(t *testing.T) {
	b := newVerified(t)
	b.m.areKeysShed = true
	b.step((*Machine).KeysShed)
	b.want(b.answer(0, 0), "install")
}
