package host

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/executor"
	"hypertoken/ipc"
	"hypertoken/wasm"
	"hypertoken/workerproc"
)

// A simulation runs engines' machines against workers' loops over pipes in memory, one event after the other, each drawn
// from a seed: what fails once fails again. The core is a toy, so that a million events take seconds; everything between
// the machines and it is what processes run.

var (
	simSeed   = flag.Uint64("seed", 0, "run the simulation of this `seed` only")
	simEvents = flag.Int("events", 200_000, "events of the simulation, over all seeds")
)

// toy is an engine's instance: a hash over all that has changed it.
type toy struct {
	w       *simWorker
	state   uint64
	pending []byte // what is fed
	closed  bool
}

func (t *toy) BeginOpen(context.Context, wasm.Limits) error { t.pending = nil; return nil }
func (t *toy) BeginRestore(context.Context) error           { t.pending = nil; return nil }
func (t *toy) Feed(_ context.Context, b []byte) error {
	t.pending = append(t.pending, b...)
	return nil
}
func (t *toy) Ready(context.Context) error {
	t.state = 0
	if len(t.pending) == 8 {
		t.state = binary.LittleEndian.Uint64(t.pending)
	}
	return nil
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
	switch a.Type {
	case "trap":
		t.closed = true
		return wasm.Reply{}, &wasm.TrapError{Err: &wasm.ActionError{Code: "trap", Message: "unreachable", Index: -1}}
	case "die":
		t.w.dying = true
	case "hang":
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
	return f(binary.LittleEndian.AppendUint64(nil, t.state))
}
func (t *toy) State(ctx context.Context, f func([]byte) error) error { return t.Snapshot(ctx, f) }
func (t *toy) Digest(context.Context) (uint64, error)                { return t.state, nil }
func (t *toy) Memory() uint64                                        { return 1 << 16 }
func (t *toy) Ended() bool                                           { return false }
func (t *toy) Close(context.Context) error                           { t.closed = true; return nil }

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

type simWorker struct {
	*worker
	sim      *simulation
	in, out  *wire
	loop     *workerproc.Loop
	conn     *ipc.Conn[*simEngine]
	reader   *ipc.Reader
	reserved *simEngine
	blocked  []*simEngine
	turn     *simEngine // who may send now of those that were blocked
	dying    bool       // it dies before its next byte
	hung     bool       // it runs an action without end
	stopped  int        // events for which it does not run
	dead     bool
}

type simRuntime struct{ w *simWorker }

func (r simRuntime) Has(string) bool                                        { return true }
func (r simRuntime) Use(context.Context, ipc.ConfigureBody, []byte) error   { return nil }
func (r simRuntime) Instantiate(context.Context) (executor.Instance, error) { return &toy{w: r.w}, nil }

func (s *simulation) newWorker() *simWorker {
	s.workerIDs++
	w := &simWorker{worker: &worker{id: s.workerIDs}, sim: s, in: &wire{room: 1 << 12}, out: &wire{room: 1 << 12}}
	out := ipc.NewWriter(w.out)
	w.loop = workerproc.NewLoop(simRuntime{w}, out, slog.New(slog.DiscardHandler))
	w.conn = ipc.NewConn[*simEngine](w.in, ipc.Window{Requests: 8, Bytes: 4 << 10})
	w.reader = ipc.NewReader(ipc.DefaultMaxFrame, false)
	w.loop.Hello(ipc.HelloBody{Protocol: ipc.Version})
	w.conn.Send(nil, ipc.Configure, 0, 0, ipc.Encode(ipc.ConfigureBody{Core: "toy", MaxFrame: ipc.DefaultMaxFrame}))
	w.conn.Flush()
	for w.conn.Pending() > 0 {
		w.run(1 << 20)
		w.read(1 << 20)
	}
	return w
}

// run lets the worker read n bytes and run one request.
func (w *simWorker) run(n int) {
	n = min(n, len(w.in.bytes))
	for n > 0 {
		k := copy(w.loop.Space(), w.in.bytes[:n])
		w.in.bytes = w.in.bytes[k:]
		n -= k
		if err := w.loop.Filled(k); err != nil {
			w.sim.fatal("worker: %v", err)
		}
	}
	w.in.move()
	ran, err := w.loop.Run(context.Background())
	if err != nil {
		w.sim.fatal("worker: %v", err)
	}
	if (!ran || w.sim.rand.IntN(4) == 0) && !w.dying && !w.hung {
		w.loop.Flush()
	}
}

// read lets the host read n bytes of what the worker has written.
func (w *simWorker) read(n int) {
	n = min(n, len(w.out.bytes))
	if n > 0 {
		k := copy(w.reader.Space(), w.out.bytes[:n])
		w.out.bytes = w.out.bytes[k:]
		w.reader.Filled(k)
	}
	w.out.move()
	for {
		f, ok, err := w.reader.Next()
		if err != nil {
			w.sim.fatal("host: %v", err)
		}
		if !ok {
			return
		}
		body := w.reader.Body(f)
		kind := map[ipc.Kind]engineEventKind{ipc.Answer: evAnswer, ipc.Chunk: evChunk, ipc.Dropped: evDropped}[f.Kind]
		var e *simEngine
		switch f.Kind {
		case ipc.Hello:
		case ipc.Chunk:
			e, ok = w.conn.Owner(f.Request)
		default:
			e, ok = w.conn.Answered(f.Request)
		}
		if !ok {
			w.sim.fatal("an answer to request %d that nobody waits for", f.Request)
		}
		if e != nil {
			e.step(engineEvent{kind: kind, place: place{w.worker, f.Placement}, id: f.Request, flags: f.Flags, body: body})
		}
		w.reader.ReleaseAll()
		w.unblock()
	}
}

// unblock lets those send that wait for room, in their order.
func (w *simWorker) unblock() {
	for k := 0; k < len(w.blocked); k++ {
		e := w.blocked[k]
		if w.reserved != nil && w.reserved != e {
			continue
		}
		w.turn = e
		w.blocked = slices.Delete(w.blocked, k, k+1)
		if e.m.place.worker == w.worker {
			e.step(engineEvent{kind: evRoom})
		}
		w.turn = nil
		if k < len(w.blocked) && w.blocked[k] == e {
			return // still no room, and nobody overtakes
		}
		k--
	}
}

// block makes an engine wait for room: in front, where it was its turn.
func (w *simWorker) block(e *simEngine) {
	if w.turn == e {
		w.blocked = slices.Insert(w.blocked, 0, e)
		return
	}
	w.blocked = append(w.blocked, e)
}

// maySend reports whether nobody else is to send first.
func (w *simWorker) maySend(e *simEngine) bool {
	if w.reserved != nil {
		return w.reserved == e
	}
	return w.turn == e || len(w.blocked) == 0
}

// die ends the worker; some of what it wrote has been read before.
func (w *simWorker) die(byItself bool) {
	if w.dead {
		return
	}
	w.dead = true
	w.sim.deaths++
	var d *death
	if byItself {
		d = &death{}
	}
	if pending := w.conn.Close(); len(pending) > 0 {
		w.sim.deathsInFlight++
	}
	w.in.done, w.out.done = nil, nil
	for _, e := range w.sim.engines {
		if e.m.place.worker == w.worker {
			e.step(engineEvent{kind: evLost, place: e.m.place, death: d})
		}
	}
}

// simEngine is an engine with what a host does for its machine.
type simEngine struct {
	sim       *simulation
	name      string
	m         engineMachine
	owner     Owner
	asks      bool
	asksAlone bool
	stepping  bool
	inbox     []engineEvent
	calls     uint64
	late      []func()
	model     uint64 // the state after what was acknowledged
	all       []*simRequest
	closed    bool
	brokenBy  error
}

// simRequest is a request and what its caller sees.
type simRequest struct {
	*request
	sim      *simulation
	actions  []wasm.Action
	resolved bool
	err      error
}

// complete is for who waits; here resolved is told.
func (q *simRequest) complete(*request, error) {}

// part is a member of a batch that is sent by itself.
func (q *simRequest) part(k int, r *request) completion {
	if s := q.sim; !q.resolved {
		q.resolved = true
		delete(s.byRequest, q.request)
		s.splits++
	}
	part := &simRequest{sim: q.sim, request: r, actions: q.actions[k : k+1]}
	q.sim.byRequest[r] = part
	return part
}

type simulation struct {
	t         *testing.T
	seed      uint64
	rand      *rand.Rand
	now       time.Duration
	store     Store
	limits    machineLimits
	workers   []*simWorker
	engines   []*simEngine
	workerIDs int
	placement uint64
	byRequest map[*request]*simRequest

	deaths, deathsInFlight, acknowledged, poisoned, timeouts, doubts, snapshots, splits int
}

func (s *simulation) fatal(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d: %s\nto reproduce: go test ./host -run Simulation -seed %d", s.seed, fmt.Sprintf(format, args...), s.seed)
}

// step takes events one at a time, as whoever holds the engine's lock does.
func (e *simEngine) step(ev engineEvent) {
	e.inbox = append(e.inbox, ev)
	if e.stepping {
		return
	}
	e.stepping = true
	for len(e.inbox) > 0 {
		ev := e.inbox[0]
		e.inbox = e.inbox[1:]
		ev.now = e.sim.now
		e.m.step(ev)
		for k := 0; k < len(e.m.effects); k++ {
			e.do(e.m.effects[k])
		}
		e.m.effects = e.m.effects[:0]
	}
	e.stepping = false
}

// at steps an event in the middle of the effects of another.
func (e *simEngine) at(ev engineEvent) {
	ev.now = e.sim.now
	e.m.step(ev)
}

func (s *simulation) worker(w *worker) *simWorker {
	for _, x := range s.workers {
		if x.worker == w {
			return x
		}
	}
	return nil
}

func (e *simEngine) do(f engineEffect) {
	s := e.sim
	w := s.worker(f.place.worker)
	switch f.kind {
	case effSend:
		if f.place != e.m.place || w == nil {
			return
		}
		kind, flags, body := ipc.Kind(0), ipc.Flags(0), []byte(nil)
		if f.req == nil {
			if e.m.state != enginePlacing || e.m.cursor.stage == 0 {
				return
			}
			kind, body = e.m.piece(nil)
		} else {
			if e.m.queued.len() == 0 || e.m.queued.all()[0] != f.req {
				return
			}
			kind, flags, body = f.req.kind, f.req.flags, f.req.body
		}
		id, ok := uint64(0), false
		if w.maySend(e) {
			id, ok = w.conn.Send(e, kind, flags, f.place.id, body)
		}
		if !ok {
			w.block(e)
			e.at(engineEvent{kind: evFull})
			return
		}
		w.conn.Flush()
		e.at(engineEvent{kind: evSent, id: id})
	case effRecall:
		if w != nil && !w.dead {
			w.conn.Tell(ipc.Recall, f.id, 0)
			w.conn.Flush()
		}
	case effAbandon:
		if w != nil && !w.dead {
			w.conn.Tell(ipc.Close, 0, f.place.id)
			w.conn.Flush()
		}
	case effLost, effRelease:
		if w != nil && w.reserved == e {
			w.reserved = nil
			w.unblock()
		}
	case effOverdue:
		switch {
		case w == nil || w.dead:
		case w.conn.Oldest() == f.id:
			w.die(false)
		default:
			w.conn.Tell(ipc.Close, 0, f.place.id)
			w.conn.Flush()
			e.inbox = append(e.inbox, engineEvent{kind: evLost, place: f.place})
		}
	case effViolation:
		s.fatal("%v", f.err)
	case effAsk:
		e.asks, e.asksAlone = true, f.alone
	case effUnask:
		e.asks = false
	case effLoad:
		if f.alone {
			e.owner.Number++
			s.doubts++
		}
		s.store.Load(e.name, e.owner, func(stored *Stored, err error) {
			e.inbox = append(e.inbox, engineEvent{kind: evLoaded, stored: stored, err: err})
		})
	case effAppend:
		e.append(f.id)
	case effInstall:
		data := append([]byte(nil), f.req.data...)
		s.snapshots++
		e.calls++
		s.store.Install(e.name, e.owner, Base{Sequence: f.id, Snapshot: true, Data: data}, Done{e, e.calls<<1 | 1})
	case effResolve:
		e.resolved(f.req, f.err)
	case effBroken:
		e.brokenBy = f.err
	case effClosed:
		e.closed = true
	}
}

// append lets the store work at once, late, not at all, or in secret.
func (e *simEngine) append(after uint64) {
	s := e.sim
	e.calls++
	done := Done{e, e.calls << 1}
	group := make([]Record, len(e.m.records))
	copy(group, e.m.records)
	owner := e.owner
	call := func(d Done) { s.store.Append(e.name, owner, after, group, d) }
	switch s.rand.IntN(40) {
	case 0: // it fails
		done.Done(errors.New("the disk is full"))
	case 1: // it fails, but has stored it
		call(Done{nobody{}, 0})
		done.Done(errors.New("the connection broke"))
	case 2: // it has stored it, and forgets to say so
		call(Done{nobody{}, 0})
	case 3: // it forgets all of it
	case 4, 5, 6, 7, 8, 9: // it takes its time
		e.late = append(e.late, func() { call(done) })
	default:
		call(done)
	}
}

type nobody struct{}

func (nobody) stored(uint64, error) {}

// stored is told of the end of a call; only the newest of its kind counts.
func (e *simEngine) stored(id uint64, err error) {
	kind := evAppended
	if id&1 == 1 {
		kind = evInstalled
	}
	if kind == evAppended && id>>1 != e.calls {
		return
	}
	if e.stepping {
		e.inbox = append(e.inbox, engineEvent{kind: kind, err: err})
		return
	}
	e.step(engineEvent{kind: kind, err: err})
}

// resolved holds an outcome against the model.
func (e *simEngine) resolved(r *request, err error) {
	s := e.sim
	q := s.byRequest[r]
	if q == nil {
		return // a snapshot of the machine's own
	}
	if q.resolved {
		s.fatal("%s: %s is resolved twice", e.name, r.what)
	}
	q.resolved, q.err = true, err
	delete(s.byRequest, r)
	switch CodeOf(err) {
	case "poisoned":
		s.poisoned++
	case "timeout":
		s.timeouts++
	}
	if err != nil {
		return
	}
	s.acknowledged++
	switch r.kind {
	case ipc.Dispatch:
		next, want, err := toyRun(e.model, &q.actions[0])
		if err != nil || string(want) != string(r.outcome.Result) {
			s.fatal("%s: %s returned %x, want %x, %v", e.name, r.what, r.outcome.Result, want, err)
		}
		e.model = next
	case ipc.Batch:
		rest := r.outcome.Result
		for k := range q.actions {
			o, after, err := ipc.ReadMemberOutcome(rest)
			if err != nil {
				s.fatal("%v", err)
			}
			next, want, failed := toyRun(e.model, &q.actions[k])
			if (failed != nil) != (o.Code != "") || (failed == nil && string(want) != string(o.Result)) {
				s.fatal("%s: member %d returned %+v, want %x, %v", e.name, k, o, want, failed)
			}
			e.model, rest = next, after
		}
	case ipc.State:
		if got := binary.LittleEndian.Uint64(r.data); got != e.model {
			s.fatal("%s: its state is %016x, want %016x", e.name, got, e.model)
		}
	}
}

func (e *simEngine) dispatch(kind ipc.Kind, types ...string) { e.send(kind, 0, 0, types...) }

// send dispatches something.
func (e *simEngine) send(kind ipc.Kind, flags ipc.Flags, timeout time.Duration, types ...string) {
	s := e.sim
	q := &simRequest{sim: s, request: &request{kind: kind, flags: flags, what: fmt.Sprintf("%v %v %d", kind, types, len(e.all))}}
	for _, name := range types {
		a := wasm.Action{Now: int64(s.rand.IntN(1000)), Type: name, Payload: make([]byte, s.rand.IntN(64))}
		binary.LittleEndian.PutUint64(a.Entropy[:], s.rand.Uint64())
		in := ipc.Action{Now: a.Now, Entropy: a.Entropy}
		body := ipc.AppendAction(nil, &in, a.Type, a.Payload)
		if kind == ipc.Batch {
			if len(q.actions) == 0 {
				q.body = ipc.AppendBatch(nil, len(types))
			}
			q.body = ipc.AppendMember(q.body, false, body)
			q.members = append(q.members, span{from: len(q.body) - len(body), to: len(q.body)})
		} else {
			q.body = body
		}
		q.actions = append(q.actions, a)
	}
	if timeout == 0 && s.rand.IntN(10) == 0 {
		timeout = time.Duration(1+s.rand.IntN(3000)) * time.Millisecond
	}
	if timeout > 0 {
		q.deadline, q.limit = s.now+timeout, "Timeout"
	}
	q.to = q
	e.all = append(e.all, q)
	s.byRequest[q.request] = q
	e.step(engineEvent{kind: evDispatch, req: q.request})
}

func (s *simulation) grant() {
	for _, e := range s.engines {
		if !e.asks || len(s.workers) == 0 {
			continue
		}
		w := s.workers[s.rand.IntN(len(s.workers))]
		if w.dead || w.reserved != nil || (e.asksAlone && w.conn.Pending() > 0) {
			continue
		}
		if e.asksAlone {
			w.reserved = e
		}
		e.asks = false
		s.placement++
		e.step(engineEvent{kind: evPlace, place: place{w.worker, s.placement}, alone: e.asksAlone})
	}
}

// event lets one thing happen.
func (s *simulation) event(calm bool) {
	e := s.engines[s.rand.IntN(len(s.engines))]
	w := s.workers[s.rand.IntN(len(s.workers))]
	n := s.rand.IntN(100)
	switch {
	case n < 25:
		if w.stopped > 0 && !calm {
			w.stopped--
		} else if !w.hung && !w.dead {
			w.run(1 + s.rand.IntN(400))
			if w.dying {
				w.read(s.rand.IntN(200))
				w.die(true)
			}
		}
	case n < 55:
		if !w.dead {
			w.read(1 + s.rand.IntN(400))
		}
	case n < 62:
		s.now += time.Duration(s.rand.IntN(40)) * time.Millisecond
		for _, e := range s.engines {
			e.step(engineEvent{kind: evTick})
		}
	case n < 70:
		s.grant()
	case n < 74:
		for len(e.late) > 0 {
			late := e.late[0]
			e.late = e.late[1:]
			late()
		}
	case n < 76:
		for k, w := range s.workers {
			if w.dead {
				s.workers[k] = s.newWorker()
			}
		}
	case calm:
	case n < 92:
		e.random()
	case n < 94:
		if q := e.unresolved(); q != nil {
			e.step(engineEvent{kind: evWithdraw, req: q.request, err: &Error{Code: "canceled", Message: q.what}})
		}
	case n < 95:
		w.die(s.rand.IntN(2) == 0)
	case n < 96:
		w.stopped = s.rand.IntN(200)
	case n < 97:
		e.step(engineEvent{kind: evMove})
	case n < 99:
		e.step(engineEvent{kind: evTakeOut})
	default:
		if e.asksAlone && e.asks && s.rand.IntN(4) == 0 {
			e.step(engineEvent{kind: evForsaken})
		}
		if e.m.state == engineBroken {
			e.step(engineEvent{kind: evReopen})
		}
	}
}

// random dispatches something at random.
func (e *simEngine) random() {
	types := []string{"add", "add", "add", "add", "read", "read", "fail", "add"}
	pick := func() string { return types[e.sim.rand.IntN(len(types))] }
	switch n := e.sim.rand.IntN(200); {
	case n < 2:
		e.dispatch(ipc.Dispatch, "die")
	case n < 3:
		e.send(ipc.Dispatch, 0, 50*time.Millisecond, "hang")
	case n < 6:
		e.dispatch(ipc.Dispatch, "trap")
	case n < 16:
		e.dispatch(ipc.State)
	case n < 40:
		flags := ipc.Flags(0)
		if n < 28 {
			flags = ipc.FlagAtomic
		}
		e.send(ipc.Batch, flags, 0, pick(), pick(), pick())
	default:
		e.dispatch(ipc.Dispatch, pick())
	}
}

func (e *simEngine) unresolved() *simRequest {
	for _, q := range e.all[max(0, len(e.all)-20):] {
		if !q.resolved {
			return q
		}
	}
	return nil
}

func simulate(t *testing.T, seed uint64, events int) *simulation {
	s := &simulation{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), store: NewMemory(), byRequest: map[*request]*simRequest{}}
	s.limits = machineLimits{limits: wasm.DefaultLimits, openTimeout: 20 * time.Second, killGrace: 100 * time.Millisecond,
		storeTimeout: time.Second, maxAttempts: 2, snapshotBytes: 1 << 10, replayBudget: time.Hour}
	for range 1 + s.rand.IntN(3) {
		s.workers = append(s.workers, s.newWorker())
	}
	for k := range 1 + s.rand.IntN(4) {
		e := &simEngine{sim: s, name: fmt.Sprint("engine-", k), m: engineMachine{limits: &s.limits}, owner: Owner{Number: 1}}
		s.store.Install(e.name, e.owner, Base{}, Done{nobody{}, 0})
		s.engines = append(s.engines, e)
	}
	for range events {
		s.event(false)
	}
	// Nothing more is dispatched, and everything that waits for something gets it.
	for n := 0; len(s.byRequest) > 0; n++ {
		s.event(true)
		for _, e := range s.engines {
			if e.m.state == engineBroken {
				e.step(engineEvent{kind: evReopen})
			}
		}
		if n > 2_000_000 {
			for _, q := range s.byRequest {
				for _, e := range s.engines {
					t.Logf("%s: %v, place %v, queued %d, sent %d, answered %d, group %d, asks %v alone %v, blocked %v, uncertain %v", e.name, e.m.state, e.m.place, e.m.queued.len(), e.m.sent.len(), e.m.answered.len(), len(e.m.group), e.asks, e.asksAlone, e.m.blocked, e.m.uncertain)
				}
				for _, w := range s.workers {
					t.Logf("worker %d: dead %v hung %v dying %v pending %d oldest %d reserved %v in %d+%d out %d+%d blocked %d", w.id, w.dead, w.hung, w.dying, w.conn.Pending(), w.conn.Oldest(), w.reserved != nil, len(w.in.bytes), len(w.in.later), len(w.out.bytes), len(w.out.later), len(w.blocked))
				}
				s.fatal("%s is never resolved", q.what)
			}
		}
	}
	for _, e := range s.engines {
		e.check()
	}
	return s
}

// check holds the journal against what was acknowledged, and in what order.
func (e *simEngine) check() {
	s := e.sim
	s.store.Load(e.name, e.owner, func(stored *Stored, err error) {
		if err != nil {
			s.fatal("%v", err)
		}
		state := uint64(0)
		if len(stored.Data) == 8 {
			state = binary.LittleEndian.Uint64(stored.Data)
		}
		for rest := stored.Entries; len(rest) > 0; {
			entry, after, err := ipc.ReadEntry(rest)
			if err != nil {
				s.fatal("%v", err)
			}
			next, result, err := toyRun(state, &wasm.Action{Now: entry.Now, Entropy: entry.Entropy, Type: string(entry.Type), Payload: entry.Payload})
			if err != nil || xxhash.Sum64(result) != entry.Checksum {
				s.fatal("%s: the journal does not replay", e.name)
			}
			state, rest = next, after
		}
		if state != e.model {
			s.fatal("%s: the journal leads to %016x, the acknowledged actions to %016x", e.name, state, e.model)
		}
	})
}

func TestSimulation(t *testing.T) {
	const each = 4000
	if *simSeed != 0 {
		synctest.Test(t, func(t *testing.T) { simulate(t, *simSeed, each) })
		return
	}
	var deaths, inFlight, acknowledged, poisoned, timeouts, doubts, snapshots, splits int
	for seed := uint64(1); seed <= uint64(max(1, *simEvents/each)); seed++ {
		var s *simulation
		// In the bubble the clock stands still, so that a run depends on its seed alone.
		synctest.Test(t, func(t *testing.T) { s = simulate(t, seed, each) })
		if t.Failed() {
			return
		}
		deaths += s.deaths
		inFlight += s.deathsInFlight
		acknowledged += s.acknowledged
		poisoned += s.poisoned
		timeouts += s.timeouts
		doubts += s.doubts
		snapshots += s.snapshots
		splits += s.splits
	}
	t.Logf("%d acknowledged, %d deaths, %d of them with requests in flight, %d poisoned, %d timeouts, %d doubts about an append, %d snapshots, %d batches split",
		acknowledged, deaths, inFlight, poisoned, timeouts, doubts, snapshots, splits)
	for what, n := range map[string]int{"deaths with requests in flight": inFlight, "poisoned": poisoned, "timeouts": timeouts, "doubts": doubts, "snapshots": snapshots, "batches split": splits} {
		if n == 0 {
			t.Errorf("there were no %s", what)
		}
	}
}
