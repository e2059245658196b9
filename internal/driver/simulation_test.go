package driver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/clock"
	"hypertoken/internal/engine"
	"hypertoken/internal/executor"
	"hypertoken/internal/fault"
	"hypertoken/internal/payload"
	"hypertoken/internal/placement"
	"hypertoken/internal/pool"
	"hypertoken/internal/require"
	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
	"hypertoken/workerproc"
)

// A simulation runs a host against workers' loops over pipes in memory, one event after the other,
// each drawn from a seed: what fails once fails again. The core is a toy, so that a million events
// take seconds, the pipes and the processes are the simulation's, the store fails as it likes;
// everything else, machines, scheduler, supervisors and the loop of the workers, is what runs in
// processes.

var (
	simSeed   = flag.Uint64("seed", 0, "run the simulation of this `seed` only")
	simEvents = flag.Int("events", require.Rounds(200_000, 1_000_000), "events of the simulation, over all seeds")
)

// toy is an engine's instance: a hash over all that has changed it.
type toy struct {
	sim     *simulation
	w       *simProcess // nil in the host's own process
	state   uint64
	pending []byte // what is fed
	closed  bool
}

// cursed is the setup of an engine that can't be placed.
const cursed = "cursed"

func (t *toy) BeginOpen(context.Context, wasm.Limits) error { t.pending = nil; return nil }
func (t *toy) BeginRestore(context.Context) error           { t.pending = nil; return nil }
func (t *toy) Feed(_ context.Context, b []byte) error {
	t.pending = append(t.pending, b...)
	return nil
}
func (t *toy) Ready(context.Context) error {
	t.state = 0
	if string(t.pending) == cursed {
		return &wasm.ActionError{Code: "bad_payload", Message: "no such setup", Index: -1}
	}
	t.state = restored(t.pending)
	return nil
}

// noLimits begins a toy's snapshot: no MessagePack, lest what follows reads as the limits of a real
// one.
const noLimits = 0xc1

// restored returns the state of a snapshot, 0 where there is none.
func restored(snapshot []byte) uint64 {
	if len(snapshot) != 9 || snapshot[0] != noLimits {
		return 0
	}
	return binary.LittleEndian.Uint64(snapshot[1:])
}

// run is the toy's function from a state and an action to a new state and a result.
func toyRun(state uint64, a *wasm.Action) (next uint64, result []byte, err error) {
	h := xxhash.New()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], state)
	binary.LittleEndian.PutUint64(b[8:], uint64(a.Now))
	_, _ = h.Write(b[:])
	_, _ = h.Write(a.Entropy[:])
	_, _ = h.Write(a.Payload)
	switch a.Type {
	case "read":
		return state, binary.LittleEndian.AppendUint64(nil, state), nil
	case "fail":
		return state, nil, &wasm.ActionError{Code: "not_found", Message: "no such card", Index: -1}
	}
	next = h.Sum64()
	return next, binary.LittleEndian.AppendUint64(nil, next), nil
}

func (t *toy) Dispatch(_ context.Context, a *wasm.Action) (wasm.Reply, error) {
	if t.w == nil {
		t.sim.inspect() // between two events nothing runs here
	}
	switch a.Type {
	case "trap":
		t.closed = true
		return wasm.Reply{}, &wasm.TrapError{Err: &wasm.ActionError{Code: "trap", Message: "unreachable", Index: -1}}
	case "die":
		if t.w != nil { // in the host's own process nothing dies
			t.w.dying = true
		}
	case "hang":
		if t.w == nil {
			// There it is interrupted, at the latest when its deadline passes.
			return wasm.Reply{}, &wasm.TrapError{Interrupted: true, Err: context.DeadlineExceeded}
		}
		t.w.hung = true
	}
	next, result, err := toyRun(t.state, a)
	changed := next != t.state
	t.state = next
	return wasm.Reply{Changed: changed, Result: result}, err
}

func (t *toy) Batch(ctx context.Context, actions []wasm.Action, atomic bool) ([]wasm.Member, wasm.Reply, error) {
	before := t.state
	members := make([]wasm.Member, len(actions))
	for k := range actions {
		r, err := t.Dispatch(ctx, &actions[k])
		var trap *wasm.TrapError
		if errors.As(err, &trap) {
			return nil, wasm.Reply{}, err
		}
		var failed *wasm.ActionError
		if errors.As(err, &failed) {
			if atomic {
				t.state = before
				return nil, wasm.Reply{}, &wasm.ActionError{Code: failed.Code, Message: failed.Message, Index: k}
			}
			members[k].Err = failed
			continue
		}
		members[k] = wasm.Member{Changed: r.Changed, Result: r.Result}
	}
	return members, wasm.Reply{Changed: t.state != before}, nil
}

func (t *toy) Snapshot(_ context.Context, f func([]byte) error) error {
	return f(binary.LittleEndian.AppendUint64([]byte{noLimits}, t.state))
}
func (t *toy) State(_ context.Context, f func([]byte) error) error {
	return f(binary.LittleEndian.AppendUint64(nil, t.state))
}
func (t *toy) Digest(context.Context) (uint64, error) { return t.state, nil }
func (t *toy) Memory() uint64                         { return 1 << 16 }
func (t *toy) Close(context.Context) error            { t.closed = true; return nil }

// wire is one direction of a pipe: what fits is taken, the rest waits.
type wire struct {
	bytes []byte
	room  int
	later []byte
	done  func(error)
}

func (w *wire) TryWrite(b []byte) (int, error) {
	n := min(len(b), max(0, w.room-len(w.bytes)))
	w.bytes = append(w.bytes, b[:n]...)
	return n, nil
}

func (w *wire) WriteAll(b []byte, done func(error)) { w.later, w.done = b, done }

// move lets go on what waited for room.
func (w *wire) move() {
	if w.done != nil {
		n, _ := w.TryWrite(w.later)
		if w.later = w.later[n:]; len(w.later) == 0 {
			done := w.done
			w.done = nil
			done(nil)
		}
	}
}

// simProcess is a worker process: its loop, and its pipes.
type simProcess struct {
	sim     *simulation
	worker  *pool.Worker
	in, out *wire
	loop    *workerproc.Loop
	dying   bool // it dies before its next byte
	hung    bool // it runs an action without end
	stopped int  // events for which it does not run
	killed  bool
	ending  bool // its standard input has ended
	dead    bool
	cpu     float64
}

func (p *simProcess) TryWrite(b []byte) (int, error)      { return p.in.TryWrite(b) }
func (p *simProcess) WriteAll(b []byte, done func(error)) { p.in.WriteAll(b, done) }
func (p *simProcess) PID() int                            { return p.worker.Number() }
func (p *simProcess) Kill() {
	p.killed = true
	if d := p.worker.Details(); d.IsPinged && d.Reason == pool.Stalled {
		p.sim.stoppedIdle++
	}
	p.sim.inspectKill(p.worker)
}
func (p *simProcess) HangUp()                                              { p.ending = true }
func (p *simProcess) Has(string) bool                                      { return true }
func (p *simProcess) Actions(context.Context) ([]byte, error)              { return nil, nil }
func (p *simProcess) Use(context.Context, ipc.ConfigureBody, []byte) error { return nil }
func (p *simProcess) Instantiate(context.Context) (executor.Instance, error) {
	return &toy{sim: p.sim, w: p}, nil
}

// comeUp is the end of a start, or its failure.
func (s *simulation) comeUp() {
	if len(s.starting) == 0 {
		return
	}
	w := s.starting[0]
	s.starting = s.starting[1:]
	if s.noProcesses > 0 {
		w.HandleEnd(errors.New("no process can be started"))
		return
	}
	p := &simProcess{sim: s, worker: w, in: &wire{room: 1 << 12}, out: &wire{room: 1 << 12}}
	p.loop = workerproc.NewLoop(p, ipc.NewWriter(p.out), slog.New(slog.DiscardHandler))
	if !w.Attach(p, nil) {
		w.HandleEnd(errors.New("the host ends"))
		return
	}
	s.processes = append(s.processes, p)
	p.loop.Hello(ipc.HelloBody{Protocol: ipc.Version})
}

// run lets the process read n bytes and run one request.
func (p *simProcess) run(n int) {
	p.cpu += 0.01
	n = min(n, len(p.in.bytes))
	for n > 0 {
		k := copy(p.loop.Space(), p.in.bytes[:n])
		p.in.bytes = p.in.bytes[k:]
		n -= k
		if err := p.loop.Filled(k); err != nil {
			p.sim.fatal("worker: %v", err)
		}
	}
	p.in.move()
	ran, err := p.loop.Run(context.Background())
	if err != nil {
		p.sim.fatal("worker: %v", err)
	}
	if (!ran || p.sim.rand.IntN(4) == 0) && !p.dying && !p.hung {
		p.loop.Flush()
	}
}

// read lets the host read n bytes of what the process has written.
func (p *simProcess) read(n int) {
	if n = min(n, len(p.out.bytes)); n > 0 {
		k, err := p.worker.Feed(p.out.bytes[:n])
		if err != nil {
			p.sim.fatal("host: %v", err)
		}
		p.out.bytes = p.out.bytes[k:]
	}
	p.out.move()
}

// die ends the process; what it wrote has been read, or not.
func (p *simProcess) die() {
	if p.dead {
		return
	}
	p.dead = true
	p.sim.deaths++
	if p.worker.Details().Pending > 0 {
		p.sim.deathsInFlight++
	}
	p.in.done, p.out.done = nil, nil
	p.sim.processes = slices.DeleteFunc(p.sim.processes, func(q *simProcess) bool { return q == p })
	after := p.sim.inspectDeath(p.worker)
	p.worker.HandleEnd(errors.New("killed"))
	after()
}

// simStore is the store in memory, which works at once, late, not at all, or in secret. It also
// refuses, is not available for a while, or can't read a journal.
type simStore struct {
	journal.Store
	sim  *simulation
	late []func()
	// stored are the actions that the store has ever had, by engines and sequences.
	stored map[string]map[uint64]wasm.Action
	past   simPast
	// takeovers counts how often another host has taken a journal over.
	takeovers uint64
}

// note takes down what the store has stored.
func (st *simStore) note(name string, after uint64, group []journal.Record) {
	if st.stored[name] == nil {
		st.stored[name] = map[uint64]wasm.Action{}
	}
	for _, r := range group {
		if r.Action == nil {
			continue
		}
		a, _, err := journal.ReadAction(bytes.Clone(r.Action))
		if err != nil {
			st.sim.fatal("%s: a record that can't be read: %v", name, err)
		}
		after++
		st.past.noteBatch(name, after, r.Batch)
		st.stored[name][after] = wasm.Action{Now: a.Now, Entropy: a.Entropy, Type: string(a.Type), Payload: a.Payload}
	}
}

func (st *simStore) Append(name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done) {
	s := st.sim
	call := func(d journal.Done) {
		st.Store.Append(name, owner, after, group, journal.DoneFunc(func(err error) {
			if err == nil {
				st.note(name, after, group)
			}
			d.Report(err)
		}))
	}
	switch s.rand.IntN(40) {
	case 0: // it fails
		done.Report(errors.New("the disk is full"))
	case 1: // it fails, but has stored it
		call(journal.Done{})
		done.Report(errors.New("the connection broke"))
	case 2: // it has stored it, and forgets to say so
		call(journal.Done{})
	case 3: // it forgets all of it
	case 4, 5, 6, 7, 8, 9: // it takes its time
		st.late = append(st.late, func() { call(done) })
		return
	case 10: // it refuses
		done.Report([]error{journal.ErrFull, journal.Refused("no")}[s.rand.IntN(2)])
		return
	case 11: // it may be asked again
		done.Report(journal.ErrUnavailable)
	case 12: // another host has taken the journal over
		if s.rand.IntN(2) == 0 {
			st.takeOver(name)
		}
		call(done)
		return
	default:
		call(done)
		return
	}
	s.doubts++
}

// takeOver makes another host the owner of a journal: in a third of the runs, because what was queued
// fails then, and the run has less to check.
func (st *simStore) takeOver(name string) {
	if st.sim.seed%3 != 0 {
		return
	}
	st.takeovers++
	st.Store.Load(name, journal.Owner{Host: [16]byte{'o', 't', 'h', 'e', 'r'}, Number: st.takeovers},
		func(*journal.Stored, error) {})
}

var errUnreadable = errors.New("the disk can't be read")

func (st *simStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s := st.sim
	isCursed := slices.ContainsFunc(s.engines, func(e *simEngine) bool { return e.name == name && e.cursed })
	switch fate := s.rand.IntN(400); {
	case isCursed: // it has to break because of its placings
		st.Store.Load(name, owner, done)
	case fate == 0:
		s.counts["loads that failed"]++
		done(nil, errUnreadable)
	case fate == 9 && s.seed%3 == 0:
		st.takeOver(name)
		done(nil, fmt.Errorf("another node has it: %w", journal.ErrNotOwner))
	case fate <= 8:
		s.counts["loads that were repeated"]++
		done(nil, journal.ErrUnavailable)
	default:
		st.Store.Load(name, owner, done)
	}
}

func (st *simStore) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s := st.sim
	if base.IsMarker {
		st.mark(name, owner, base, done)
		return
	}
	if base.Snapshot {
		s.snapshots++
		switch s.rand.IntN(20) {
		case 0:
			done.Report(errors.New("the disk is full"))
			return
		case 1: // it never says
			return
		case 2, 3:
			st.late = append(st.late, func() { st.Store.Install(name, owner, base, done) })
			return
		case 4:
			if s.rand.IntN(4) == 0 {
				st.takeOver(name)
			}
		}
	}
	st.Store.Install(name, owner, base, done)
}

// Barrier says who owns a journal, at once, late, or not at all.
func (st *simStore) Barrier(name string, owner journal.Owner, done journal.Done) {
	s := st.sim
	s.counts["barriers"]++
	call := func() {
		// The store in memory says of an append of an owner that it does not like the sequence.
		st.Store.Append(name, owner, math.MaxUint64, nil, journal.DoneFunc(func(err error) {
			if !errors.Is(err, journal.ErrNotOwner) {
				err = nil
			}
			done.Report(err)
		}))
	}
	switch s.rand.IntN(40) {
	case 0:
		done.Report(errors.New("the connection broke"))
	case 1:
		done.Report(journal.ErrUnavailable)
	case 2: // it never says
	case 3, 4, 5, 6:
		st.late = append(st.late, call)
	case 7:
		if s.rand.IntN(4) == 0 {
			st.takeOver(name)
		}
		call()
	default:
		call()
	}
}

// call is something that was dispatched, and what its caller sees.
type call struct {
	what    string
	future  *Call
	batch   *batch
	actions []wasm.Action
	key     string
	cancel  context.CancelFunc
	target  *target // of a rewind
}

func (c *call) unresolved() bool {
	_, _, done := c.future.Result()
	return !done
}

// outcomes returns what became of its actions.
func (c *call) outcomes() []Outcome {
	r, err, _ := c.future.Result()
	if c.batch == nil {
		return []Outcome{{r, err}}
	}
	if c.batch.outcomes != nil {
		return c.batch.outcomes
	}
	list := make([]Outcome, len(c.actions))
	for k := range list {
		list[k].Err = err
	}
	return list
}

type simEngine struct {
	*Driver
	options   OpenOptions
	cursed    bool
	placement uint64 // its last one
	calls     []*call
	open      []*call // those that are unresolved
}

type simulation struct {
	t           *testing.T
	seed        uint64
	rand        *rand.Rand
	host        *Engines
	store       *simStore
	starting    []*pool.Worker
	memory      func(pid int) (bytes uint64, err error)
	processes   []*simProcess
	locals      []func()
	engines     []*simEngine
	noProcesses int // events for which no process can be started

	placements                                map[uint64]bool // all there were
	deaths, deathsInFlight, doubts, snapshots int
	stoppedIdle                               int // workers that stopped while idle, and were found by a ping
	counts                                    map[string]int
}

func (s *simulation) fatal(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d: %s\nto reproduce: go test ./internal/driver -run Simulation -seed %d", s.seed,
		fmt.Sprintf(format, args...), s.seed)
}

// dispatch dispatches something.
func (s *simulation) dispatch(e *simEngine, kind ipc.Kind, mode Mode, timeout time.Duration, types ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &call{what: fmt.Sprintf("%v %v %d", kind, types, len(e.calls)), cancel: cancel}
	if timeout == 0 && s.rand.IntN(10) == 0 {
		timeout = time.Duration(1+s.rand.IntN(3000)) * time.Millisecond
	}
	e.timeout = timeout
	var members []*Call
	if kind == ipc.Batch && s.rand.IntN(5) == 0 {
		n := s.rand.IntN(50)
		c.key = fmt.Sprint("batch-", n)
		mode, types = Mode(n%2), [][]string{{"add", "read"}, {"read", "fail"}, {"fail", "add", "add"}}[n%3]
	}
	for _, name := range types {
		a := wasm.Action{Now: int64(s.rand.IntN(1000)), Type: name, Payload: make([]byte, s.rand.IntN(64))}
		if kind == ipc.Batch && c.key != "" {
			a.Payload = []byte(c.key)
		}
		binary.LittleEndian.PutUint64(a.Entropy[:], s.rand.Uint64())
		d := Choice{HasNow: true, Now: time.UnixMilli(a.Now), HasEntropy: true, Entropy: a.Entropy}
		if kind == ipc.Dispatch && name != "die" && name != "hang" {
			switch s.rand.IntN(20) {
			case 0, 1:
				c.key = fmt.Sprint("key-", s.rand.IntN(300))
				d.HasKey, d.Key = true, c.key
				a.Payload = []byte(c.key) // a key is that of one action
				a.Type = "add"
			case 2, 3:
				d.IsConditional, d.IfSequence = true, e.m.View().Sequence+uint64(s.rand.IntN(3))
			}
			if s.rand.IntN(20) == 0 {
				d.WantsDigest = true
			}
		}
		f := new(Call)
		err := f.prepare(ctx, e.Driver, a.Type, Raw(a.Payload), &d)
		if err != nil {
			s.fatal("%v", err)
		}
		members = append(members, f)
		c.actions = append(c.actions, a)
	}
	switch kind {
	case ipc.Dispatch:
		c.future = members[0]
	case ipc.Batch:
		c.batch = newBatch(e.Driver, mode, members)
		for k := range members {
			c.batch.sent = append(c.batch.sent, k)
		}
		if c.key != "" {
			c.batch.call.request.Keyed = engine.NewKey(c.key, c.batch.sum(len(members)))
		}
		if s.rand.IntN(10) == 0 {
			c.batch.call.waitForDigest()
		}
		c.future = &c.batch.call
		c.future.setBounds(ctx, e.Driver)
	default:
		c.future = newQuestion(ctx, e.Driver, kind, c.what)
	}
	if err := s.host.queue.Take(c.future.request.What, &c.future.room); err != nil {
		s.fatal("%v", err)
	}
	e.calls, e.open = append(e.calls, c), append(e.open, c)
	e.submit(c.future, false)
}

// random dispatches something at random.
func (s *simulation) random(e *simEngine) {
	types := []string{"add", "add", "add", "add", "read", "read", "fail", "add"}
	pick := func() string { return types[s.rand.IntN(len(types))] }
	switch n := s.rand.IntN(200); {
	case n >= 190:
		s.rewind(e)
	case n < 2:
		s.dispatch(e, ipc.Dispatch, 0, 0, "die")
	case n < 3:
		s.dispatch(e, ipc.Dispatch, 0, 50*time.Millisecond, "hang")
	case n < 6:
		s.dispatch(e, ipc.Dispatch, 0, 0, "trap")
	case n < 16:
		s.dispatch(e, ipc.State, 0, 0)
	case n < 40:
		s.dispatch(e, ipc.Batch, Mode(s.rand.IntN(2)), 0, pick(), pick(), pick())
	default:
		s.dispatch(e, ipc.Dispatch, 0, 0, pick())
	}
}

// event lets one thing happen.
func (s *simulation) event(calm bool) {
	defer s.inspect()
	e := s.engines[s.rand.IntN(len(s.engines))]
	var p *simProcess
	if len(s.processes) > 0 {
		p = s.processes[s.rand.IntN(len(s.processes))]
	}
	switch n := s.rand.IntN(100); {
	case n < 25:
		if p != nil {
			s.runProcess(p, calm)
		}
	case n < 52:
		if p != nil {
			p.read(1 + s.rand.IntN(400))
		}
	case n < 56:
		if len(s.locals) > 0 {
			f := s.locals[0]
			s.locals = s.locals[1:]
			f()
		}
	case n < 62:
		s.host.tick(s.host.clock.Skip(time.Duration(s.rand.IntN(40)) * time.Millisecond))
		if s.rand.IntN(4) == 0 { // the timer of its window
			e.mu.Lock()
			e.gathering.flush()
			e.unlockAndDeliver(false)
		}
	case n < 66:
		s.comeUp()
		s.noProcesses = max(0, s.noProcesses-1)
	case n < 72:
		late := s.store.late
		s.store.late = nil
		for _, f := range late {
			f()
		}
	case calm:
	case n < 91:
		s.takeIn(e)
		if e.m.View().State == engine.Broken {
			e.step((*engine.Machine).Reopen)
		}
		s.random(e)
	case n < 93:
		e.open = slices.DeleteFunc(e.open, func(c *call) bool { return !c.unresolved() })
		if len(e.open) > 0 {
			e.open[s.rand.IntN(len(e.open))].cancel()
		}
	case n < 95:
		if p != nil && s.rand.IntN(4) == 0 {
			p.die()
		}
	case n < 96:
		if p != nil {
			p.stopped = s.rand.IntN(400)
		}
	case n < 97:
		if s.rand.IntN(20) == 0 {
			s.noProcesses = s.rand.IntN(200)
		}
	default:
		takeOut(e.Driver)
	}
}

func (s *simulation) runProcess(p *simProcess, calm bool) {
	switch {
	case p.killed:
		p.read(s.rand.IntN(1000))
		p.die()
	case p.stopped > 0 && !calm:
		p.stopped--
	case p.hung:
		p.cpu += 0.01
	case p.ending && len(p.in.bytes) == 0:
		p.die()
	default:
		p.run(1 + s.rand.IntN(400))
		if p.dying {
			p.read(s.rand.IntN(200))
			p.die()
		}
	}
}

// simOptions are what the simulations differ in. A field that is 0 has its default.
type simOptions struct {
	workers, spares, maxRestarts, maxInProcess, windowRequests, windowBytes int
}

// simWindow is the time in which actions are gathered.
const simWindow = 10 * time.Millisecond

// simConfig returns what a simulation's host goes by, with the defaults of host.Options but for
// times that are shorter.
func simConfig(o simOptions) Config {
	const (
		killGrace = 100 * time.Millisecond
		idleAfter = 10 * time.Second
		keyBytes  = 16 << 20
		maxFrame  = 17 << 20
	)
	log := slog.New(slog.DiscardHandler)
	return Config{
		CoreHash: "toy",
		Machine: engine.Config{Limits: wasm.Limits{MaxStateBytes: 256 << 20, MaxResult: 16 << 20, MaxDepth: 64},
			OpenTimeout: 20 * time.Second, KillGrace: killGrace, StoreTimeout: time.Second, MaxAttempts: 2,
			SnapshotBytes: 1 << 10, ReplayBudget: time.Hour, KeyBytes: keyBytes, MaxKills: 2,
			HoldFor: 100 * time.Millisecond},
		Pool: pool.Config{Workers: o.workers, Spares: o.spares, CoreHash: "toy", MaxEngineMemory: 1 << 30,
			MaxWorkerMemory: 4 << 30, MaxFrame: maxFrame, WindowRequests: cmp.Or(o.windowRequests, 256),
			WindowBytes: cmp.Or(o.windowBytes, 1<<20), PollFor: 50 * time.Microsecond,
			BusyAfter: 20 * time.Millisecond, KillGrace: killGrace, StallAfter: 300 * time.Millisecond,
			IdleAfter: idleAfter, StartTimeout: 10 * time.Second, RestartWindow: 10 * time.Second,
			MaxRestarts: cmp.Or(o.maxRestarts, 5), IdleTick: clock.IdleTickEvery, Log: log},
		Rules:    placement.Rules{SuspectWait: time.Second, Cores: runtime.GOMAXPROCS(0)},
		Payload:  payload.Limits{Depth: 64, MaxDepth: 64, Bytes: 16 << 20, Option: "MaxPayload"},
		MaxQueue: 1 << 16, MaxQueueBytes: 256 << 20, MaxInProcess: cmp.Or(o.maxInProcess, 1024),
		Timeout: -1, OpenTimeout: 20 * time.Second, StartTimeout: 10 * time.Second, IdleAfter: idleAfter,
		KeyWindow: 1024, KeyBytes: keyBytes, MaxKeyBytes: 256 << 20, Now: time.Now, Log: log,
		BatchError: func(index int, err error) error { return fmt.Errorf("member %d: %w", index, err) },
	}
}

// begin makes the host, whose workers have not come up yet.
func (s *simulation) begin(o simOptions) {
	s.placements = map[uint64]bool{}
	s.store = &simStore{stored: map[string]map[uint64]wasm.Action{}, sim: s,
		Store: journal.NewMemoryWith(journal.MemoryOptions{})}
	c := simConfig(o)
	c.Store, c.Rules.Cores = s.store, int(1+s.seed%4)
	c.FindBase = s.findBase
	c.Places.Instantiate = func(context.Context) (executor.Instance, error) { return &toy{sim: s}, nil }
	c.Places.Spawn = func(f func()) { s.locals = append(s.locals, f) }
	s.memory = func(int) (uint64, error) {
		switch s.rand.IntN(20) {
		case 0:
			return uint64(c.Pool.MaxWorkerMemory) + 1, nil
		case 1, 2:
			return uint64(c.Pool.MaxWorkerMemory), nil // its idle engines are to go
		}
		return 0, nil
	}
	c.Pool.Seams = pool.Seams{
		Jitter: s.rand.Float64, PingEvery: 300 * time.Millisecond,
		Start:  func(w *pool.Worker) { s.starting = append(s.starting, w) },
		Memory: func(pid int) (uint64, error) { return s.memory(pid) },
		CPU: func(pid int) (float64, error) {
			for _, p := range s.processes {
				if p.worker.Number() == pid {
					return p.cpu, nil
				}
			}
			return 0, errors.New("no such process")
		},
	}
	s.host = New(c)
	// Half of the stores have no barriers.
	s.host.config.Machine.HasBarrier = s.seed%2 == 0
	s.host.pool.Start(s.host.config.Pool)
}

// engine opens an engine that the store knows.
func (s *simulation) engine(name string, o OpenOptions) *simEngine {
	e := &simEngine{Driver: s.host.newDriver(name, o), options: o}
	s.store.Store.Install(e.name, e.owner, journal.Base{Core: s.host.config.CoreHash}, journal.Done{})
	s.host.drivers[e.name] = e.Driver
	s.engines = append(s.engines, e)
	return e
}

// takeIn opens an engine again that has closed itself because another host had taken its journal over.
func (s *simulation) takeIn(e *simEngine) {
	select {
	case <-e.closed:
	default:
		return
	}
	s.counts["engines that were taken in again"]++
	e.beginClose() // the timer of its window has no engine any more
	d := s.host.newDriver(e.name, e.options)
	s.store.Store.Load(e.name, d.owner, func(stored *journal.Stored, err error) {
		if err != nil {
			s.fatal("%s: %v", e.name, err)
		}
		d.mu.Lock()
		d.m.Opened(stored)
		d.noteMarker(&stored.Base)
		d.keys.Load(stored)
		d.unlockAndDeliver(false)
	})
	s.host.drivers[e.name] = d
	e.Driver = d
}

func simulate(t *testing.T, seed uint64, events int) *simulation {
	s := &simulation{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), counts: map[string]int{}}
	s.begin(simOptions{workers: 1 + s.rand.IntN(3), spares: max(0, s.rand.IntN(5)-2), maxInProcess: 2,
		windowRequests: 8, windowBytes: 4 << 10})
	for k := range 1 + s.rand.IntN(5) {
		e := s.engine(fmt.Sprint("engine-", k),
			OpenOptions{Window: simWindow, GathersActions: s.rand.IntN(4) == 0, Mode: Mode(s.rand.IntN(2))})
		if e.cursed = s.rand.IntN(10) == 0; e.cursed {
			s.store.Store.Install(e.name, e.owner, journal.Base{Core: s.host.config.CoreHash, Data: []byte(cursed)},
				journal.Done{})
		}
	}
	h := s.host
	for range events {
		s.event(false)
	}
	// Nothing more is dispatched, and everything that waits for something gets it. Some runs end in
	// haste.
	haste := s.rand.IntN(4) == 0
	for _, e := range s.engines {
		if e.m.View().State == engine.Broken {
			e.step((*engine.Machine).Reopen)
		}
		if haste {
			e.stop()
		}
		e.beginClose()
	}
	for n := 0; !s.ended(); n++ {
		s.event(true)
		if n > 2_000_000 {
			s.stuck()
		}
	}
	for _, e := range s.engines {
		s.check(e)
	}
	h.stop(s)
	return s
}

// stop ends what is left of the workers.
func (h *Engines) stop(s *simulation) {
	h.pool.StopSupervisors()
	for len(s.processes) > 0 {
		s.processes[0].die()
	}
	for len(s.starting) > 0 {
		s.noProcesses = 1
		s.comeUp()
	}
	for len(s.locals) > 0 {
		f := s.locals[0]
		s.locals = s.locals[1:]
		f()
	}
	h.residents.Wait() // every instance is freed
	requests, bytes := h.queue.InFlight()
	if h.scheduler.Details().SlotsFree != h.config.MaxInProcess || requests != 0 || bytes != 0 || len(h.drivers) != 0 {
		s.fatal("%d of %d slots are free, %d requests of %d bytes are in flight, %d engines are open",
			h.scheduler.Details().SlotsFree, h.config.MaxInProcess,
			requests, bytes, len(h.drivers))
	}
}

func (s *simulation) ended() bool {
	for _, e := range s.engines {
		select {
		case <-e.closed:
		default:
			return false
		}
	}
	return true
}

// stuck says where a run hangs.
func (s *simulation) stuck() {
	for _, e := range s.engines {
		d := e.m.Details()
		s.t.Logf("%s: %v at %v, queued %d, sent %d, answered %d, group %d, full %v, alone %v, in doubt %v, installing %v", e.name, d.State, d.Place,
			len(d.Queued), len(d.Sent), len(d.Answered), len(d.Group), d.IsFull, d.IsAlone, d.IsInDoubt, d.IsInstalling)
	}
	workers, spares, _ := s.host.pool.Details()
	for _, slot := range workers {
		s.t.Logf("worker %d: %v, %+v", slot.ID, slot.State, slot.Worker.Details())
	}
	for _, p := range spares {
		s.t.Logf("spare %d: %v", p.ID, p.State)
	}
	for _, p := range s.processes {
		d := p.worker.Details()
		s.t.Logf("process %d: hung %v, dying %v, killed %v, pending %d, oldest %d, in %d+%d, out %d+%d", d.Number,
			p.hung, p.dying, p.killed,
			d.Pending, d.Oldest, len(p.in.bytes), len(p.in.later), len(p.out.bytes), len(p.out.later))
	}
	for _, a := range s.host.scheduler.Details().Asks {
		s.t.Logf("%s asks, alone %v, placement %d", a.Engine.(*applicant).name, a.IsAlone, a.Placement)
	}
	s.fatal("it never ends")
}

// check holds what the callers were told against a fresh engine that is fed the acknowledged
// actions only, and the journal against both.
func (s *simulation) check(e *simEngine) {
	type acknowledged struct {
		call   *call
		action *wasm.Action
		Result
	}
	changes := map[uint64]acknowledged{}
	var reads []acknowledged
	last := uint64(0)
	keys := map[string]Result{}
	unknown := false
	for _, c := range e.calls {
		if c.unresolved() {
			s.fatal("%s: %s is never resolved", e.name, c.what)
		}
		for k, o := range c.outcomes() {
			code := fault.CodeOf(o.Err)
			s.counts[code]++
			unknown = unknown || code == "outcome_unknown"
			switch {
			case e.cursed && o.Err == nil:
				s.fatal("%s can't be placed, and yet %s is acknowledged", e.name, c.what)
			case !e.cursed && code == "broken" &&
				(errors.As(o.Err, new(*fault.ActionError)) || errors.As(o.Err, new(*ipc.MalformedError))),
				errors.Is(o.Err, fault.ErrDiverged):
				s.fatal("%s: %s failed with %v", e.name, c.what, o.Err)
			case code == "shutdown", code == "broken", o.Err == nil:
			case code == "" || code == "key_reused" || code == "interrupted" || code == "not_placed":
				s.fatal("%s: %s failed with %v", e.name, c.what, o.Err)
			}
			if o.Err != nil {
				continue
			}
			key := fmt.Sprint(c.key, "/", k)
			if first, again := keys[key]; again && c.key != "" {
				s.counts["repeated"]++
				if first.Sequence != o.Result.Sequence || string(first.Raw) != string(o.Result.Raw) {
					s.fatal("%s: %s ran twice: %+v, %+v", e.name, c.what, first, o.Result)
				}
				continue
			}
			a := acknowledged{call: c, Result: o.Result}
			if c.actions != nil {
				a.action = &c.actions[k]
			}
			if o.Result.Sequence < last {
				s.fatal("%s: %s has the sequence %d, what was dispatched before %d", e.name, c.what, o.Result.Sequence,
					last)
			}
			last = o.Result.Sequence
			if c.key != "" {
				keys[key] = o.Result
			}
			if !o.Result.Changed && (c.key == "" || c.batch != nil) {
				reads = append(reads, a)
				continue
			}
			if other, twice := changes[o.Result.Sequence]; twice {
				s.fatal("%s: %s and %s have both the sequence %d", e.name, other.call.what, c.what, o.Result.Sequence)
			}
			changes[o.Result.Sequence] = a
		}
	}
	states := make([]uint64, slices.Max(slices.AppendSeq([]uint64{0}, maps.Keys(changes)))+1)
	for n := 1; n < len(states); n++ {
		a, ok := changes[uint64(n)]
		switch stored, isStored := s.store.stored[e.name][uint64(n)]; {
		case s.store.past.marker(e.name, uint64(n)) != nil && (unknown || ok):
			states[n] = s.checkRewind(e, uint64(n), a.call, states)
			continue
		case ok:
		case !unknown || !isStored:
			s.fatal("%s: of %d acknowledged changes none has the sequence %d", e.name, len(changes), n)
		default:
			// The caller was told that the outcome is not known.
			next, _, err := toyRun(states[n-1], &stored)
			if err != nil {
				s.fatal("%s: the action at the sequence %d failed, and is stored: %v", e.name, n, err)
			}
			states[n] = next
			continue
		}
		next, want, err := toyRun(states[n-1], a.action)
		if err != nil || string(want) != string(a.Raw) {
			s.fatal("%s: %s returned %x, want %x, %v", e.name, a.call.what, a.Raw, want, err)
		}
		states[n] = next
	}
	for _, a := range reads {
		if len(a.Raw) != 8 {
			s.fatal("%s: %s of %d returned %x at %d (batch %v)", e.name, a.call.what, len(a.call.actions), a.Raw,
				a.Sequence, e.gathering.isEnabled)
		}
		if a.Sequence >= uint64(len(states)) || binary.LittleEndian.Uint64(a.Raw) != states[a.Sequence] {
			s.fatal("%s: %s saw %x at the sequence %d", e.name, a.call.what, a.Raw, a.Sequence)
		}
	}
	for _, c := range e.calls {
		if r, _, _ := c.future.Result(); r.HasDigest {
			s.counts["digests"]++
			if uint64(r.Digest) != states[r.Sequence] {
				s.fatal("%s: %s has the digest %v at the sequence %d, the state %016x", e.name, c.what, r.Digest,
					r.Sequence, states[r.Sequence])
			}
		}
	}
	s.checkJournal(e, states, unknown)
}

func (s *simulation) checkJournal(e *simEngine, states []uint64, unknown bool) {
	s.store.Store.Load(e.name, e.owner, func(stored *journal.Stored, err error) {
		if err != nil {
			s.fatal("%v", err)
		}
		if e.cursed && stored.Count == 0 {
			return
		}
		if last := uint64(len(states) - 1); unknown && stored.Sequence > last {
			// The outcome of a rewind is not known. What was acknowledged is in the history.
			s.store.LoadAt(e.name, last, func(before *journal.Stored, err error) {
				if err != nil {
					s.fatal("%v", err)
				}
				stored = before
			})
		}
		state := restored(stored.Data)
		sequence := stored.Sequence
		for rest := stored.Entries; len(rest) > 0 && sequence < uint64(len(states)-1); sequence++ {
			entry, after, err := ipc.ReadEntry(rest)
			if err != nil {
				s.fatal("%v", err)
			}
			next, result, err := toyRun(state,
				&wasm.Action{Now: entry.Now, Entropy: entry.Entropy, Type: string(entry.Type), Payload: entry.Payload})
			if err != nil || xxhash.Sum64(result) != entry.Checksum {
				s.fatal("%s: the journal does not replay", e.name)
			}
			state, rest = next, after
		}
		if sequence != uint64(len(states)-1) || state != states[sequence] {
			s.fatal("%s: the journal leads to %016x at the sequence %d, the acknowledged actions to %016x at %d",
				e.name, state, sequence, states[len(states)-1], len(states)-1)
		}
		if stored.Sequence+stored.Count > sequence && !unknown {
			s.fatal("%s: the journal has %d entries, %d were acknowledged", e.name, stored.Sequence+stored.Count,
				sequence)
		}
	})
}

func TestSimulation(t *testing.T) {
	const each = 4000
	if *simSeed != 0 {
		synctest.Test(t, func(t *testing.T) { simulate(t, *simSeed, each) })
		return
	}
	counts := map[string]int{}
	for seed := uint64(1); seed <= uint64(max(1, *simEvents/each)); seed++ {
		var s *simulation
		// In the bubble the clock stands still, so that a run depends on its seed alone.
		synctest.Test(t, func(t *testing.T) { s = simulate(t, seed, each) })
		if t.Failed() {
			return
		}
		for code, n := range s.counts {
			if code == "" {
				code = "acknowledged"
			}
			counts[code] += n
		}
		workers := s.host.pool.Counts()
		for reason, n := range workers.Ends {
			counts["worker "+pool.Reason(reason).String()] += int(n)
		}
		counts["deaths with requests in flight"] += s.deathsInFlight
		counts["workers stopped while idle"] += s.stoppedIdle
		counts["doubts about an append"] += s.doubts
		counts["snapshots"] += s.snapshots
		counts["fallbacks"] += int(s.host.counts.Fallbacks.Load())
		counts["placings"] += int(s.host.counts.Placed.Load())
		counts["takeovers"] += int(workers.Takeovers)
	}
	t.Logf("%v", counts)
	for _, what := range []string{"acknowledged", "broken", "deaths with requests in flight", "poisoned", "timeout",
		"canceled", "conflict", "batch_aborted",
		"worker_unavailable", "shutdown", "outcome_unknown", "worker deadline", "worker stalled", "worker memory",
		"store_full", "store_refused", "loads that failed", "loads that were repeated", "workers stopped while idle",
		"doubts about an append", "snapshots", "fallbacks", "takeovers", "repeated",
		"digests", "reverts", "undos", "redos", "moved", "engines that were taken in again", "barriers"} {
		if counts[what] == 0 {
			t.Errorf("there were no %s", what)
		}
	}
}

// The same seed is the same run, so that a failure can be looked at again.
func TestSimulationIsReproducible(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		var runs []string
		for range 3 {
			synctest.Test(t, func(t *testing.T) {
				s := simulate(t, seed, 4000)
				runs = append(runs, fmt.Sprint(s.counts, s.host.clock.Now(), s.rand.Uint64(),
					s.host.scheduler.Details().Placements, s.deaths))
			})
		}
		if runs[0] != runs[1] || runs[0] != runs[2] {
			t.Errorf("seed %d: three runs differ:\n%s\n%s\n%s", seed, runs[0], runs[1], runs[2])
		}
	}
}
