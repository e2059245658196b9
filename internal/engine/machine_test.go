package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/fault"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// bench is a machine on a bench: it notes what the machine asks for, and answers what a test says.
type bench struct {
	t        *testing.T
	m        Machine
	now      time.Duration
	said     []string // the effects, in their order
	sent     []Sending
	lastID   uint64
	room     int // how many more sends find room
	resolved map[string]error
	records  int // of the last append
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{t: t, room: 1 << 20, resolved: map[string]error{},
		m: New(&Config{MaxAttempts: 2, OpenTimeout: time.Minute,
			KillGrace: time.Second, StoreTimeout: time.Second, SnapshotBytes: 1 << 20, ReplayBudget: time.Hour,
			KeyBytes: 1 << 20,
			MaxKills: 1, HoldFor: time.Second})}
}

func (b *bench) note(format string, args ...any) {
	b.said = append(b.said, fmt.Sprintf(format, args...))
}

func (b *bench) Send(_ Place, s Sending) (uint64, bool) {
	if b.room == 0 {
		return 0, false
	}
	b.room--
	b.lastID++
	b.sent = append(b.sent, s)
	return b.lastID, true
}
func (b *bench) Recall(_ Place, id uint64)                  { b.note("recall %d", id) }
func (b *bench) Abandon(Place)                              { b.note("abandon") }
func (b *bench) PlaceLeft(Place)                            {}
func (b *bench) ReleaseAlone(Place)                         { b.note("release") }
func (b *bench) Overdue(_ Place, id uint64)                 { b.note("overdue %d", id) }
func (b *bench) Violation(_ Place, err error)               { b.note("violation") }
func (b *bench) AskPlace(alone bool)                        { b.note("ask alone=%v", alone) }
func (b *bench) TakeAskBack()                               { b.note("take ask back") }
func (b *bench) Load(asNewOwner bool)                       { b.note("load new=%v", asNewOwner) }
func (b *bench) Append(after uint64, list []journal.Record) { b.note("append"); b.records = len(list) }
func (b *bench) Barrier()                                   { b.note("barrier") }
func (b *bench) Install(uint64, []byte)                     { b.note("install") }
func (b *bench) Rewind(r *Request)                          { b.note("rewind %s", r.What) }
func (b *bench) Mark(r *Request)                            { b.note("mark %d", r.Base.Sequence) }
func (b *bench) Resolve(r *Request, err error)              { b.resolved[r.What] = err }
func (b *bench) RecordsStored(uint64, int)                  {}
func (b *bench) SnapshotStored(int)                         {}
func (b *bench) SnapshotFailed(error)                       {}
func (b *bench) Placed(Place, uint64)                       { b.note("placed") }
func (b *bench) Broken(error)                               { b.note("broken") }
func (b *bench) Superseded(error)                           { b.note("superseded") }
func (b *bench) Held(time.Duration, time.Duration, int, error) {
	b.note("held")
}
func (b *bench) Closed() { b.note("closed") }

// Complete makes the bench the owner of every request.
func (b *bench) Complete(*Request, error) {}

// step has the machine take in an event, carries out what it asks for, and returns that.
func (b *bench) step(event func(m *Machine, now time.Duration)) []string {
	b.said = nil
	event(&b.m, b.now)
	b.m.Perform(b)
	return b.said
}

func (b *bench) dispatch(what string) *Request {
	action := journal.AppendAction(nil, &journal.Action{}, what, nil)
	r := &Request{Kind: ipc.Dispatch, What: what, Body: action, Owner: b}
	b.step(func(m *Machine, now time.Duration) { m.Dispatch(now, r) })
	return r
}

var here = Place{Worker: 1, Placement: 1}

// place brings the machine to a live engine at a place. Requests that are queued are sent.
func (b *bench) place(p Place, alone bool, sequence uint64) {
	b.t.Helper()
	b.step(func(m *Machine, now time.Duration) {
		m.Loaded(now, &journal.Stored{Base: journal.Base{Sequence: sequence}}, false, nil)
	})
	b.step(func(m *Machine, now time.Duration) { m.Grant(now, p, alone) })
	b.answerPlacing(p, sequence)
	if v := b.m.View(); v.State != Live {
		b.t.Fatalf("the engine is %v", v.State)
	}
}

// answerPlacing answers the pieces of a placing.
func (b *bench) answerPlacing(p Place, sequence uint64) {
	for b.m.View().State == Placing {
		id := b.m.cursor.pieces.All()[0]
		b.step(func(m *Machine, now time.Duration) {
			m.Answer(now, Answer{Place: p, ID: id, Body: outcome(sequence)})
		})
	}
}

// outcome is the body of an answer without a result.
func outcome(sequence uint64) []byte {
	o := ipc.Outcome{Checksum: xxhash.Sum64(nil), Sequence: sequence}
	return ipc.AppendBytes(o.AppendHead(nil), 0)
}

// answer answers the request that was sent first.
func (b *bench) answer(sequence uint64, flags ipc.Flags) []string {
	b.t.Helper()
	d := b.m.Details()
	if len(d.Sent) == 0 {
		b.t.Fatal("no request is sent")
	}
	return b.step(func(m *Machine, now time.Duration) {
		m.Answer(now, Answer{Place: d.Place, ID: d.Sent[0].id, Flags: flags, Body: outcome(sequence)})
	})
}

func (b *bench) want(got []string, want ...string) {
	b.t.Helper()
	if !slices.Equal(got, want) {
		b.t.Errorf("the machine asks for %q, want %q", got, want)
	}
}

func stored(m *Machine, now time.Duration) { m.Appended(now, nil) }

// A change is acknowledged once it is stored, and a read waits for the change that it saw.
func TestAnAnswerWaitsForTheStore(t *testing.T) {
	b := newBench(t)
	b.dispatch("change")
	b.dispatch("read")
	b.place(here, false, 0)
	b.want(b.answer(1, ipc.FlagChanged), "append")
	b.want(b.answer(1, 0))
	if len(b.resolved) != 0 {
		t.Fatalf("resolved before the store has said anything: %v", b.resolved)
	}
	b.step(stored)
	if err, ok := b.resolved["read"]; len(b.resolved) != 2 || !ok || err != nil {
		t.Errorf("resolved: %v", b.resolved)
	}
}

// Answers that come while an append is in flight form the next group.
func TestOneAppendIsInFlight(t *testing.T) {
	b := newBench(t)
	for k := range 4 {
		b.dispatch(fmt.Sprint(k))
	}
	b.place(here, false, 0)
	for k := range uint64(4) {
		b.answer(k+1, ipc.FlagChanged)
	}
	if b.records != 1 {
		t.Fatalf("the first group has %d records", b.records)
	}
	b.want(b.step(stored), "append")
	if b.records != 3 {
		t.Errorf("the second group has %d records", b.records)
	}
}

// An engine that is to move while it is placed answers something first: one that takes long to
// place would only ever move.
func TestAPlacedEngineAnswersBeforeItMoves(t *testing.T) {
	b := newBench(t)
	b.dispatch("read")
	b.step(func(m *Machine, now time.Duration) { m.Loaded(now, &journal.Stored{}, false, nil) })
	b.step(func(m *Machine, now time.Duration) { m.Grant(now, here, false) })
	b.step((*Machine).MoveWhenIdle)
	b.answerPlacing(here, 0)
	if d := b.m.Details(); d.State != Live || len(d.Sent) != 1 {
		t.Fatalf("the engine is %v with %d requests sent", d.State, len(d.Sent))
	}
	b.want(b.answer(0, 0), "abandon")
	if s := b.m.View().State; s != Out {
		t.Errorf("it has answered, and is %v", s)
	}
}

// A request that ran on a worker that died by itself is a suspect: it runs alone, and fails after MaxAttempts deaths.
func TestASuspectRunsAloneAndFails(t *testing.T) {
	b := newBench(t)
	b.dispatch("guilty")
	b.dispatch("innocent")
	b.place(here, false, 0)
	died := func(m *Machine, now time.Duration) { m.PlaceLost(now, m.place, new(Death)) }
	b.want(b.step(died), "load new=false")
	for deaths := range 2 {
		p := Place{Worker: 2, Placement: uint64(2 + deaths)}
		b.place(p, true, 0)
		if d := b.m.Details(); len(d.Sent) != 1 || d.Sent[0].What != "guilty" || !d.IsAlone {
			t.Fatalf("death %d: %d requests are sent, alone %v", deaths, len(d.Sent), d.IsAlone)
		}
		b.step(died)
	}
	if !errors.Is(b.resolved["guilty"], fault.ErrPoisoned) {
		t.Errorf("it failed with %v", b.resolved["guilty"])
	}
	if _, ended := b.resolved["innocent"]; ended {
		t.Error("the other request ended with it")
	}
}

// A worker that the host killed leaves no suspects.
func TestAKillMakesNoSuspects(t *testing.T) {
	b := newBench(t)
	r := b.dispatch("read")
	b.place(here, false, 0)
	b.step(func(m *Machine, now time.Duration) { m.PlaceLost(now, here, nil) })
	if r.IsSuspect() {
		t.Error("the request is a suspect")
	}
	b.want(b.step(func(m *Machine, now time.Duration) { m.Loaded(now, &journal.Stored{}, false, nil) }),
		"ask alone=false")
}

// A request that is withdrawn after it was sent, and changes something all the same, fences the engine.
func TestAnEffectOfWhatWasWithdrawnFencesTheEngine(t *testing.T) {
	b := newBench(t)
	r := b.dispatch("change")
	b.place(here, false, 0)
	b.want(b.step(func(m *Machine, now time.Duration) { m.Withdraw(now, r, context.Canceled) }), "recall 3")
	b.want(b.answer(1, ipc.FlagChanged), "abandon")
	if s := b.m.View(); s.State != Out || s.Sequence != 0 {
		t.Errorf("the engine is %v at the sequence %d", s.State, s.Sequence)
	}
}

// A worker that owes the answer to a withdrawn request is killed after KillGrace, and not before.
func TestAWithdrawnRequestIsOverdueAfterKillGrace(t *testing.T) {
	b := newBench(t)
	r := b.dispatch("hang")
	b.place(here, false, 0)
	b.step(func(m *Machine, now time.Duration) { m.Withdraw(now, r, context.Canceled) })
	b.now = time.Second - 1
	b.want(b.step((*Machine).Tick))
	b.now++
	b.want(b.step((*Machine).Tick), "overdue 3")
}

// After an append that failed, the store says what it has: either the actions have happened, or they run again.
func TestADoubtIsSettledByTheStore(t *testing.T) {
	for _, isStored := range []bool{true, false} {
		b := newBench(t)
		b.dispatch("change")
		b.place(here, false, 0)
		b.answer(1, ipc.FlagChanged)
		b.want(b.step(func(m *Machine, now time.Duration) { m.Appended(now, errors.New("the disk is full")) }),
			"abandon", "load new=true")
		if len(b.resolved) != 0 {
			t.Fatalf("resolved in doubt: %v", b.resolved)
		}
		s := &journal.Stored{}
		if isStored {
			entry := journal.AppendEntry(nil, journal.AppendAction(nil, &journal.Action{}, "change", nil),
				xxhash.Sum64(nil))
			s = &journal.Stored{Entries: entry, Count: 1}
		}
		said := b.step(func(m *Machine, now time.Duration) { m.Loaded(now, s, false, nil) })
		err, ended := b.resolved["change"]
		if ended != isStored || err != nil {
			t.Errorf("stored %v: ended %v with %v", isStored, ended, err)
		}
		if !isStored {
			b.want(said, "ask alone=false")
		}
	}
}

// An answer from a place that the engine has left does not count.
func TestALateAnswerDoesNotCount(t *testing.T) {
	b := newBench(t)
	b.dispatch("read")
	b.place(here, false, 0)
	id := b.m.Details().Sent[0].id
	b.step(func(m *Machine, now time.Duration) { m.PlaceLost(now, here, nil) })
	b.place(Place{Worker: 2, Placement: 2}, false, 0)
	b.want(b.step(func(m *Machine, now time.Duration) {
		m.Answer(now, Answer{Place: here, ID: id, Body: outcome(0)})
	}))
	if len(b.resolved) != 0 {
		t.Error("it counted")
	}
}

// A send that finds no room is not lost: it goes out once there is room.
func TestASendThatFindsNoRoomIsRepeated(t *testing.T) {
	b := newBench(t)
	b.place0()
	b.room = 1
	b.dispatch("first")
	b.dispatch("second")
	if d := b.m.Details(); len(d.Sent) != 1 || len(d.Queued) != 1 || !d.IsFull {
		t.Fatalf("%d sent, %d queued, full %v", len(d.Sent), len(d.Queued), d.IsFull)
	}
	b.room = 1
	b.step((*Machine).Room)
	if d := b.m.Details(); len(d.Sent) != 2 || d.Sent[1].What != "second" {
		t.Errorf("%d sent", len(d.Sent))
	}
}

// place0 places an engine that has nothing more to do then.
func (b *bench) place0() {
	b.dispatch("read")
	b.place(here, false, 0)
	b.answer(0, 0)
}

// An engine for which more than MaxKills workers were killed is held back, and no longer than HoldFor.
func TestAnEngineIsHeldBack(t *testing.T) {
	b := newBench(t)
	b.want(b.step((*Machine).ChargeKill))
	b.want(b.step((*Machine).ChargeKill), "held")
	b.dispatch("early")
	if !errors.Is(b.resolved["early"], fault.ErrOverloaded) {
		t.Errorf("it failed with %v", b.resolved["early"])
	}
	b.now = time.Second
	b.step((*Machine).Tick)
	b.dispatch("late")
	if s := b.m.View().State; s != Loading {
		t.Errorf("after its hold the engine is %v", s)
	}
}

// A dispatch, its answer and its append allocate nothing in the machine, once its memory has grown.
func TestAnActionAllocatesNothing(t *testing.T) {
	b := newBench(t)
	b.place0()
	action := journal.AppendAction(nil, &journal.Action{}, "change", nil)
	sequence := uint64(0)
	var body []byte
	r := &Request{}
	run := func() {
		sequence++
		*r = Request{Kind: ipc.Dispatch, What: "change", Body: action, Owner: b}
		b.m.Dispatch(0, r)
		b.m.Perform(b)
		o := ipc.Outcome{Checksum: xxhash.Sum64(nil), Sequence: sequence}
		body = o.AppendHead(body[:0])
		body = ipc.AppendBytes(body, 0)
		b.m.Answer(0, Answer{Place: here, ID: b.lastID, Flags: ipc.FlagChanged, Body: body})
		b.m.Perform(b)
		b.m.Appended(0, nil)
		b.m.Perform(b)
		b.said, b.sent = b.said[:0], b.sent[:0]
	}
	run()
	// The notes of the bench itself are formatted, which is not the machine's.
	if n := testing.AllocsPerRun(100, run); n > 1 {
		t.Errorf("%v allocations an action", n)
	}
}

// drawn is a journal of so many actions.
func drawn(actions int) *journal.Stored {
	s := &journal.Stored{Count: uint64(actions)}
	for range actions {
		s.Entries = journal.AppendEntry(s.Entries, journal.AppendAction(nil, &journal.Action{}, "change", nil),
			xxhash.Sum64(nil))
	}
	return s
}

// change brings a new machine to an append that is in flight, of an action that changed the state.
func change(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.dispatch("change")
	b.place(here, false, 0)
	b.want(b.answer(1, ipc.FlagChanged), "append")
	return b
}

// If the store has refused a group, its actions fail at once. What only read the state runs again.
func TestARefusedGroupFailsAtOnce(t *testing.T) {
	for _, c := range []struct{ said, want error }{
		{journal.ErrFull, fault.ErrStoreFull},
		{fmt.Errorf("no such table: %w", journal.ErrRefused), fault.ErrStoreRefused},
	} {
		b := change(t)
		b.dispatch("read")
		b.answer(1, 0)
		b.want(b.step(func(m *Machine, now time.Duration) { m.Appended(now, c.said) }), "abandon", "load new=false")
		if err := b.resolved["change"]; !errors.Is(err, c.want) || !errors.Is(err, c.said) {
			t.Errorf("%v: the action ends with %v", c.said, err)
		}
		if err, ended := b.resolved["read"]; ended {
			t.Errorf("%v: what read the state ends with %v", c.said, err)
		}
		b.place(Place{Worker: 2, Placement: 2}, false, 0)
		b.answer(0, 0)
		if err, ended := b.resolved["read"]; !ended || err != nil {
			t.Errorf("%v: what read the state ends with %v", c.said, err)
		}
	}
}

// If the store fails while it is asked what it has, nobody waits for ever.
func TestAStoreThatFailsInDoubtLeavesNobodyWaiting(t *testing.T) {
	for name, fail := range map[string]func(b *bench){
		"for good": func(b *bench) {
			b.want(b.step(func(m *Machine, now time.Duration) { m.Appended(now, journal.ErrFailed) }), "abandon",
				"broken")
		},
		"the load too": func(b *bench) {
			b.step(func(m *Machine, now time.Duration) { m.Appended(now, errors.New("the connection broke")) })
			b.want(b.step(func(m *Machine, now time.Duration) { m.Loaded(now, nil, false, errors.New("again")) }),
				"broken")
		},
	} {
		b := change(t)
		b.dispatch("later")
		fail(b)
		if err := b.resolved["change"]; !errors.Is(err, fault.ErrOutcomeUnknown) {
			t.Errorf("%s: what is with the store ends with %v", name, err)
		}
		if err := b.resolved["later"]; !errors.Is(err, fault.ErrBroken) {
			t.Errorf("%s: what was not there yet ends with %v", name, err)
		}
		b.want(b.step((*Machine).Close), "closed")
	}
}

// If the store says that another owner has the journal, the engine closes itself. What is not stored
// fails, and had no effect. Only what the store has not answered has an outcome that nobody knows.
func TestASupersededEngineClosesItself(t *testing.T) {
	said := fmt.Errorf("another node has it: %w", journal.ErrNotOwner)
	loaded := func(m *Machine, now time.Duration) { m.Loaded(now, nil, false, said) }
	for name, c := range map[string]struct {
		lose func(b *bench) []string
		want []string
		// change is what becomes of the action that changed the state.
		change error
	}{
		"an append": {func(b *bench) []string {
			return b.step(func(m *Machine, now time.Duration) { m.Appended(now, said) })
		}, []string{"superseded", "abandon", "closed"}, fault.ErrMoved},
		"a load": {func(b *bench) []string {
			b.step(func(m *Machine, now time.Duration) { m.Appended(now, journal.ErrUnavailable) })
			b.now += firstRetry
			b.step((*Machine).Tick)
			return b.step(loaded)
		}, []string{"superseded", "closed"}, fault.ErrMoved},
		"a load in doubt": {func(b *bench) []string {
			b.step(func(m *Machine, now time.Duration) { m.Appended(now, errors.New("the connection broke")) })
			return b.step(loaded)
		}, []string{"superseded", "closed"}, fault.ErrOutcomeUnknown},
		"an install": {func(b *bench) []string {
			b.m.install = &Request{}
			b.want(b.step(func(m *Machine, now time.Duration) { m.Installed(now, said) }))
			return b.step(func(m *Machine, now time.Duration) { m.Appended(now, said) })
		}, []string{"superseded", "abandon", "closed"}, fault.ErrMoved},
	} {
		t.Run(name, func(t *testing.T) {
			b := change(t)
			b.dispatch("read")
			b.answer(1, 0)
			b.dispatch("sent")
			b.want(c.lose(b), c.want...)
			for what, want := range map[string]error{"change": c.change, "read": fault.ErrMoved,
				"sent": fault.ErrMoved} {
				if err := b.resolved[what]; !errors.Is(err, want) || !errors.Is(err, journal.ErrNotOwner) {
					t.Errorf("%s ends with %v, want %v", what, err, want)
				}
			}
			b.dispatch("late")
			if err := b.resolved["late"]; !errors.Is(err, fault.ErrMoved) {
				t.Errorf("what comes later ends with %v", err)
			}
			b.want(b.step((*Machine).Close))
			b.want(b.step((*Machine).Tick))
		})
	}
}

// A snapshot that the store refuses because another owner has the journal, and a rewind whose state
// it refuses to read, end an engine that has nothing else with the store.
func TestAnEngineIsSupersededWhileNothingIsAppended(t *testing.T) {
	b := newBench(t)
	b.place0()
	b.m.install = &Request{}
	b.want(b.step(func(m *Machine, now time.Duration) { m.Installed(now, journal.ErrNotOwner) }), "superseded",
		"abandon", "closed")

	b = newBench(t)
	b.place0()
	r := b.rewind("undo")
	b.dispatch("later")
	b.want(b.step(func(m *Machine, now time.Duration) {
		m.Rewound(now, r, nil, nil, fault.Moved("undo", journal.ErrNotOwner))
	}), "superseded", "closed")
	for _, what := range []string{"undo", "later"} {
		if err := b.resolved[what]; !errors.Is(err, fault.ErrMoved) {
			t.Errorf("%s ends with %v", what, err)
		}
	}
}

// An append that had no effect, as the store says, leaves no doubt: what was with the store can be
// withdrawn until it is asked again.
func TestAnAppendThatMaySucceedLaterIsNoDoubt(t *testing.T) {
	b := change(t)
	b.want(b.step(func(m *Machine, now time.Duration) { m.Appended(now, journal.ErrUnavailable) }), "abandon")
	if d := b.m.Details(); d.IsInDoubt || len(d.Queued) != 1 {
		t.Fatalf("in doubt %v, %d requests are queued", d.IsInDoubt, len(d.Queued))
	}
	b.now += firstRetry
	b.want(b.step((*Machine).Tick), "load new=false")
	b.place(here, false, 0)
	b.want(b.answer(1, ipc.FlagChanged), "append")
	b.want(b.step(stored))
	if err, ended := b.resolved["change"]; !ended || err != nil {
		t.Errorf("it ended %v, with %v", ended, err)
	}
}

// A store that fails again and again is asked after waits that grow, and a load that may succeed
// later is repeated for StoreTimeout.
func TestAStoreThatFailsIsNotAskedInALoop(t *testing.T) {
	broken := errors.New("the connection broke")
	b := change(t)
	b.want(b.step(func(m *Machine, now time.Duration) { m.Appended(now, broken) }), "abandon", "load new=true")
	for wait := firstRetry << 1; wait < mostRetry; wait <<= 1 {
		b.place(here, false, 0)
		b.want(b.answer(1, ipc.FlagChanged), "append")
		b.want(b.step(func(m *Machine, now time.Duration) { m.Appended(now, broken) }), "abandon")
		b.now += wait - 1
		b.want(b.step((*Machine).Tick))
		b.now++
		b.want(b.step((*Machine).Tick), "load new=true")
	}
	b.place(here, false, 0)
	b.answer(1, ipc.FlagChanged)
	b.step(func(m *Machine, now time.Duration) { m.Appended(now, nil) })
	b.dispatch("more")
	b.answer(2, ipc.FlagChanged)
	b.want(b.step(func(m *Machine, now time.Duration) { m.Appended(now, broken) }), "abandon", "load new=true")

	loads := 0
	for until := b.now + b.m.config.StoreTimeout; b.now < until; b.now += firstRetry {
		err := []error{journal.ErrUnavailable, journal.ErrFull}[loads%2]
		b.step(func(m *Machine, now time.Duration) { m.Loaded(now, nil, false, err) })
		for b.now < until && len(b.step((*Machine).Tick)) == 0 {
			b.now += firstRetry
		}
		loads++
	}
	if loads > 10 {
		t.Errorf("%d loads in %v", loads, b.m.config.StoreTimeout)
	}
	if v := b.m.View(); v.State != Loading {
		t.Fatalf("the engine is %v", v.State)
	}
	b.want(b.step(func(m *Machine, now time.Duration) { m.Loaded(now, nil, false, journal.ErrUnavailable) }), "broken")
}

// The first placing of an engine uses what was loaded when it was opened, if it comes soon.
func TestTheFirstPlacingLoadsNothing(t *testing.T) {
	for _, isSoon := range []bool{true, false} {
		b := newBench(t)
		b.m.Opened(drawn(3))
		b.want(b.step((*Machine).Tick))
		if b.now = openedFor - 1; !isSoon {
			b.now++
		}
		b.step((*Machine).Tick)
		if v := b.m.View(); v.IsResting == isSoon {
			t.Errorf("soon %v: the engine is resting: %v", isSoon, v.IsResting)
		}
		b.dispatch("change")
		if v := b.m.View(); (v.State == Waiting) != isSoon || v.Sequence != 3 {
			t.Errorf("soon %v: the engine is %v, at %d", isSoon, v.State, v.Sequence)
		}
	}
}

// An engine whose journal is short is taken out without a snapshot.
func TestAShortJournalNeedsNoSnapshot(t *testing.T) {
	for _, c := range []struct {
		bytes   int
		runTime time.Duration
		isCheap bool
	}{
		{cheapReplayBytes, cheapReplayTime, true},
		{cheapReplayBytes + 1, 0, false},
		{0, cheapReplayTime + 1, false},
	} {
		b := newBench(t)
		b.dispatch("read")
		b.place(here, false, 0)
		b.answer(0, 0)
		b.m.recordBytes, b.m.runTime = c.bytes, c.runTime
		b.sent = nil
		b.step((*Machine).TakeOut)
		if hasLeft := b.m.View().State != Live; hasLeft != c.isCheap || (len(b.sent) == 0) != c.isCheap {
			t.Errorf("%d bytes that ran for %v: has left %v, %d frames were sent", c.bytes, c.runTime, hasLeft,
				len(b.sent))
		}
	}
}

// A machine that reads the past is placed from what it was handed, again and again, and asks the
// store for nothing: it takes no snapshot either, however long its journal is.
func TestAMachineThatReadsThePast(t *testing.T) {
	b := newBench(t)
	b.m.config.SnapshotBytes = 1
	s := &journal.Stored{}
	for s.Count = range uint64(1000) {
		s.Entries = journal.AppendEntry(s.Entries, journal.AppendAction(nil, &journal.Action{}, "stack:draw", nil), 1)
	}
	s.Count++
	b.m.ReadsPast(s)
	ask := func(what string) []string {
		r := &Request{Kind: ipc.Ready, What: what, Owner: b}
		return b.step(func(m *Machine, now time.Duration) { m.Dispatch(now, r) })
	}
	wantAnswered := func(what string) {
		t.Helper()
		if err, isResolved := b.resolved[what]; err != nil || !isResolved {
			t.Fatalf("%s is answered: %v, %v", what, isResolved, err)
		}
	}
	b.want(ask("first"), "ask alone=false")
	b.step(func(m *Machine, now time.Duration) { m.Grant(now, here, false) })
	b.want(b.step(func(m *Machine, now time.Duration) { m.PlaceLost(now, here, new(Death)) }), "ask alone=true")
	b.step(func(m *Machine, now time.Duration) { m.Grant(now, here, true) })
	b.answerPlacing(here, s.Count)
	b.want(b.answer(s.Count, 0))
	wantAnswered("first")
	b.want(b.step((*Machine).KeysShed))
	b.want(b.step((*Machine).TakeOut), "abandon")
	b.want(ask("second"), "ask alone=false")
	b.step(func(m *Machine, now time.Duration) { m.Grant(now, here, false) })
	b.answerPlacing(here, s.Count)
	b.want(b.step((*Machine).Close))
	b.want(b.answer(s.Count, 0), "abandon", "closed")
	wantAnswered("second")
}
