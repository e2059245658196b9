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

func (b *bench) rewind(what string) *Request {
	r := &Request{Kind: ipc.Dispatch, What: what, IsRewind: true, Owner: b}
	b.step(func(m *Machine, now time.Duration) { m.Dispatch(now, r) })
	return r
}

// rewound tells the machine of the base of a rewind.
func (b *bench) rewound(r *Request) []string {
	return b.step(func(m *Machine, now time.Duration) {
		m.Rewound(now, r, &journal.Base{Snapshot: true}, []byte{0xc0}, nil)
	})
}

// A rewind begins once all before it is stored, keeps what comes after it waiting, and is resolved
// once its marker is stored. The engine is placed anew then.
func TestARewindTakesItsTurn(t *testing.T) {
	b := newBench(t)
	b.dispatch("change")
	r := b.rewind("undo")
	b.place(here, false, 0)
	b.dispatch("later")
	if d := b.m.Details(); len(d.Sent) != 1 || len(d.Queued) != 2 {
		t.Fatalf("%d requests are sent", len(d.Sent))
	}
	b.want(b.answer(1, ipc.FlagChanged), "append")
	b.want(b.step(stored), "abandon", "rewind undo")
	b.want(b.step((*Machine).Tick))
	b.want(b.rewound(r), "mark 2")
	if _, ended := b.resolved["undo"]; ended {
		t.Error("it has ended before it is stored")
	}
	b.want(b.step(stored), "load new=false")
	if err, ended := b.resolved["undo"]; !ended || err != nil || r.Outcome.Sequence != 2 || !r.HasChanged {
		t.Errorf("ended %v with %v, at %d", ended, err, r.Outcome.Sequence)
	}
	b.place(here, false, 2)
	b.want(b.answer(3, ipc.FlagChanged), "append")
}

// A rewind that fails leaves the engine as it was, and lets go on what waited for it.
func TestARewindFails(t *testing.T) {
	gone := errors.New("the disk can't be read")
	for name, c := range map[string]struct {
		end  func(b *bench, r *Request) []string
		want error
	}{
		"no base": {func(b *bench, r *Request) []string {
			return b.step(func(m *Machine, now time.Duration) { m.Rewound(now, r, nil, nil, gone) })
		}, gone},
		"withdrawn": {func(b *bench, r *Request) []string {
			said := b.step(func(m *Machine, now time.Duration) { m.Withdraw(now, r, context.Canceled) })
			return append(said, b.rewound(r)...)
		}, context.Canceled},
		"refused": {func(b *bench, r *Request) []string {
			b.rewound(r)
			return b.step(func(m *Machine, now time.Duration) { m.Appended(now, journal.ErrFull) })
		}, fault.ErrStoreFull},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.place0()
			r := b.rewind("undo")
			b.dispatch("later")
			b.want(c.end(b, r), "load new=false")
			if err := b.resolved["undo"]; !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			b.place(here, false, 0)
			b.answer(0, 0)
			if err, ended := b.resolved["later"]; !ended || err != nil {
				t.Errorf("what waited: ended %v with %v", ended, err)
			}
		})
	}
}

// If the store does not say whether it has a marker, a load decides. If it has none, the rewind asks
// for its base again.
func TestADoubtAboutAMarker(t *testing.T) {
	for _, isStored := range []bool{true, false} {
		b := newBench(t)
		b.place0()
		r := b.rewind("undo")
		b.rewound(r)
		b.want(b.step(func(m *Machine, now time.Duration) { m.Appended(now, errors.New("the connection broke")) }),
			"load new=true")
		s := &journal.Stored{}
		want := []string{"rewind undo"}
		if isStored {
			s.Sequence, want = 1, nil
		}
		b.want(b.step(func(m *Machine, now time.Duration) { m.Loaded(now, s, false, nil) }), want...)
		if _, ended := b.resolved["undo"]; ended != isStored {
			t.Errorf("stored %v: ended %v", isStored, ended)
		}
		if isStored {
			continue
		}
		b.want(b.rewound(r), "mark 1")
		b.step(stored)
		if err, ended := b.resolved["undo"]; !ended || err != nil {
			t.Errorf("ended %v with %v", ended, err)
		}
	}
}

func TestARewindOfAnotherSequenceConflicts(t *testing.T) {
	b := newBench(t)
	r := &Request{Kind: ipc.Dispatch, What: "undo", IsRewind: true, IsConditional: true, IfSequence: 1, Owner: b}
	b.want(b.step(func(m *Machine, now time.Duration) { m.Dispatch(now, r) }))
	if err := b.resolved["undo"]; !errors.Is(err, fault.ErrConflict) {
		t.Errorf("got %v", err)
	}
}

// No snapshot is taken in front of a rewind, and what an engine was opened with is not what it is
// placed from afterwards.
func TestARewindOfAnEngineThatIsOut(t *testing.T) {
	b := newBench(t)
	b.m.Opened(&journal.Stored{Base: journal.Base{Sequence: 4}})
	r := b.rewind("undo")
	b.want(b.step((*Machine).KeysShed))
	b.want(b.rewound(r), "mark 5")
	b.want(b.step(stored))
	b.dispatch("read")
	b.want(b.said, "load new=false")
}
