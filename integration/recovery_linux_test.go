package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// The rules of docs/recovery.md, scenario by scenario: testdata/recovery/README.md has their language. The npm package runs
// the same scenarios (browser/test/recovery.test.js). A gate stands between the host and each real worker process. It lets
// the worker have one request at a time, and does what the scenario says: it kills the process, holds an answer back, or
// answers in the worker's place.

// scenario is one story of workers that fail, and what callers see of it.
type scenario struct {
	Name, Shows string
	Options     struct {
		KillGrace     int `json:"killGrace"`    // milliseconds
		PlaceTimeout  int `json:"placeTimeout"` // milliseconds
		MaxRestarts   int `json:"maxRestarts"`
		SnapshotBytes int `json:"snapshotBytes"`
	}
	Engines map[string]struct {
		Placings, Snapshots []string
	}
	Requests map[string]*scenarioRequest
	Steps    []scenarioStep
	Expect   struct {
		Outcomes   map[string]string
		Journal    map[string][]string
		Runs       map[string]int
		Died       *uint64
		Killed     uint64
		PlacedAnew map[string]bool `json:"placedAnew"`
		Place      map[string]string
		Broken     []string
	}
}

type scenarioRequest struct {
	Engine, Type, Ask, Mode string
	Batch, Runs             []string
	Timeout                 int // milliseconds
}

type scenarioStep struct {
	Dispatch, Together []string
	Outcome            string
	Begun              string
	Times              int
	Cancel, Release    string
	Kill, Workers      string
	Snapshots          int
	Place              string
}

// readScenarios returns all scenarios, in the order of their files.
func readScenarios(t *testing.T) (all []scenario) {
	t.Helper()
	files, err := filepath.Glob("testdata/recovery/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var list []scenario
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&list); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, list...)
	}
	return all
}

// Every scenario ends as it says, and none is left out: scenarios.txt has the names that every side runs.
func TestRecovery(t *testing.T) {
	nothingIsLeft(t)
	scenarios := readScenarios(t)
	model, err := host.New(t.Context(), host.Options{InProcess: true, Core: cores.Test, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := model.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	var names []string
	t.Run("scenarios", func(t *testing.T) {
		for k := range scenarios {
			s := &scenarios[k]
			names = append(names, s.Name)
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				runScenario(t, s, model)
			})
		}
	})
	list, err := os.ReadFile("testdata/recovery/scenarios.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(list)), "\n")
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) || len(names) < 20 {
		t.Errorf("scenarios.txt has %q, the files have %q", want, names)
	}
}

// stage is a scenario as it runs: the gates in front of its workers, and what has happened so far.
type stage struct {
	*scenario
	names []string // of the requests, sorted: a request's mark is its index here, plus one

	mu      sync.Mutex    // guards what follows, and the gates
	changed chan struct{} // closed, and made anew, whenever something happens
	gates   map[*gate]bool
	paused  bool // no worker begins anything
	gone    bool // no worker can be started
	// dispatched, begun, arrived: by request. placings and snapshots: by engine.
	dispatched                          map[string]bool
	begun, arrived, placings, snapshots map[string]int
	outcomes                            map[string]string
	results                             map[string][]byte
	// suspects are the requests that ran on a worker when it died: they have to run alone.
	suspects   map[string]bool
	violations []string
	placements map[uint64]string // the engine of each placement
}

func newStage(s *scenario) *stage {
	return &stage{
		scenario: s, names: slices.Sorted(maps.Keys(s.Requests)), changed: make(chan struct{}), gates: map[*gate]bool{},
		dispatched: map[string]bool{}, begun: map[string]int{}, arrived: map[string]int{}, placings: map[string]int{},
		snapshots: map[string]int{}, outcomes: map[string]string{}, results: map[string][]byte{}, suspects: map[string]bool{},
		placements: map[uint64]string{},
	}
}

// changedLocked wakes those that wait for something to happen. mu is held.
func (s *stage) changedLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits until something holds, which is looked at with mu held.
func (s *stage) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	patience, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		s.mu.Lock()
		ok, changed := holds(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-patience.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("waited in vain for: %s; begun %v, outcomes %v, placings %v", what, s.begun, s.outcomes, s.placings)
		}
	}
}

func (s *stage) entropyOf(name string) (entropy [16]byte) {
	entropy[0] = byte(1 + slices.Index(s.names, name))
	return entropy
}

// namesInLocked returns the requests in a frame: one for an action or a question, one for each member of a batch, none
// for the host's own.
func (s *stage) namesInLocked(f *gateFrame) (names []string) {
	mark := func(a *ipc.Action) string {
		if at := int(a.Entropy[0]) - 1; at >= 0 && at < len(s.names) {
			return s.names[at]
		}
		return ""
	}
	switch f.Kind {
	case ipc.Dispatch:
		if a, err := ipc.ReadAction(f.body); err == nil {
			names = append(names, mark(&a))
		}
	case ipc.Batch:
		members, _ := ipc.ReadBatch(f.body, nil)
		for k := range members {
			names = append(names, mark(&members[k].Action))
		}
	case ipc.Digest:
		for _, name := range s.names {
			if s.Requests[name].Ask == "digest" && s.dispatched[name] && s.outcomes[name] == "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// nth returns what happens the n-th time, from 1. The last word of the list holds for all times that follow.
func nth(list []string, n int) string {
	if len(list) == 0 {
		return "answer"
	}
	return list[min(n, len(list))-1]
}

// beginLocked says what happens to a frame that a worker begins now.
func (s *stage) beginLocked(g *gate, f *gateFrame) (what string) {
	what = "answer"
	if f.Kind == ipc.Feed && s.placements[f.Placement] == "" {
		for name := range s.Engines {
			if bytes.Contains(f.body, []byte(name+":t0")) {
				s.placements[f.Placement] = name
				s.placings[name]++
				what = nth(s.Engines[name].Placings, s.placings[name])
			}
		}
	}
	if engine := s.placements[f.Placement]; f.Kind == ipc.Snapshot {
		s.snapshots[engine]++
		what = nth(s.Engines[engine].Snapshots, s.snapshots[engine])
	}
	suspect := false
	for _, name := range f.names {
		s.begun[name]++
		if own := nth(s.Requests[name].Runs, s.begun[name]); what == "answer" {
			what = own
		}
		suspect = suspect || s.suspects[name]
	}
	if suspect {
		f.suspect = true
		g.checkAloneLocked()
	}
	s.changedLocked()
	return what
}

// suspectLocked takes note that a worker has died of its own while it ran some requests. If they ran alone, the others
// are no suspects any more.
func (s *stage) suspectLocked(names []string) {
	for _, name := range names {
		if s.suspects[name] {
			clear(s.suspects)
			break
		}
	}
	for _, name := range names {
		s.suspects[name] = true
	}
}

func (s *stage) removeWorkersLocked() {
	s.gone = true
	for g := range s.gates {
		g.dieLocked()
	}
}

// gateFrame is a frame on its way to a worker.
type gateFrame struct {
	ipc.Header
	body      []byte
	names     []string
	behaviour string
	suspect   bool
	released  bool
}

// gate stands between a host and a worker process. The stage's lock guards it.
type gate struct {
	stage   *stage
	process tap.Process
	to      *ipc.Writer
	frames  *ipc.Reader // what the host sends
	queue   []*gateFrame
	running *gateFrame
	held    []heldFrame // answers of the one that runs
	lost    map[uint64]bool
	over    bool // nothing more goes to the worker, and nothing of it is handed on
	// ready has what the host may read, and then err.
	ready []byte
	err   error
}

type heldFrame struct {
	ipc.Header
	body []byte
}

// gate makes a gate for a process that the host has started. The goroutine that reads from the process ends with it.
func (s *stage) gate(p tap.Process) (ipc.Sink, ipc.Source) {
	g := &gate{stage: s, process: p, to: ipc.NewWriter(p.In), frames: ipc.NewReader(1<<30, true), lost: map[uint64]bool{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates[g] = true
	if s.gone {
		g.dieLocked()
	}
	go g.read()
	return g, g
}

// TryWrite takes frames of the host.
func (g *gate) TryWrite(b []byte) (int, error) {
	s := g.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	for rest := b; len(rest) > 0 && !g.over; {
		n := copy(g.frames.Space(), rest)
		g.frames.Filled(n)
		rest = rest[n:]
		for {
			f, ok, err := g.frames.Next()
			if err != nil {
				return 0, err
			}
			if !ok {
				break
			}
			g.arrivedLocked(&gateFrame{Header: f.Header, body: bytes.Clone(g.frames.Body(f))})
		}
		g.frames.ReleaseAll()
	}
	if g.running != nil && g.running.suspect {
		g.checkAloneLocked()
	}
	s.changedLocked()
	g.advanceLocked()
	return len(b), nil
}

// WriteAll takes what did not fit, which never happens.
func (g *gate) WriteAll(b []byte, done func(error)) {
	_, err := g.TryWrite(b)
	go done(err)
}

func (g *gate) arrivedLocked(f *gateFrame) {
	if f.Kind == ipc.Recall {
		g.recallLocked(f)
		return
	}
	f.names = g.stage.namesInLocked(f)
	for _, name := range f.names {
		g.stage.arrived[name]++
	}
	g.queue = append(g.queue, f)
}

// recallLocked drops a request that the worker has not begun, as a worker does. One that has begun runs on.
func (g *gate) recallLocked(f *gateFrame) {
	for k, q := range g.queue {
		if q.Request == f.Request && q.Kind != ipc.Close {
			g.queue = slices.Delete(g.queue, k, k+1)
			g.handOnLocked(ipc.Header{Kind: ipc.Dropped, Request: q.Request, Placement: q.Placement}, nil)
			return
		}
	}
}

// checkAloneLocked takes note if anything else is at the worker while a suspect runs.
func (g *gate) checkAloneLocked() {
	for _, q := range g.queue {
		if len(q.names) > 0 {
			g.stage.violations = append(g.stage.violations, fmt.Sprintf("%v runs as a suspect, and %v is at the worker with it", g.running.names, q.names))
		}
	}
}

// advanceLocked lets the worker begin the next request, if it runs none.
func (g *gate) advanceLocked() {
	for g.running == nil && !g.stage.paused && !g.over && len(g.queue) > 0 {
		f := g.queue[0]
		g.queue = g.queue[1:]
		if f.Kind == ipc.Close {
			g.forwardLocked(f.Header, f.body)
			continue
		}
		g.running = f
		f.behaviour = "answer"
		if !g.lost[f.Placement] {
			f.behaviour = g.stage.beginLocked(g, f)
		}
		switch f.behaviour {
		case "die":
			g.dieLocked()
		case "die for good":
			g.stage.removeWorkersLocked()
		case "hang":
		case "hang for good":
			g.stage.gone = true
		default:
			g.forwardLocked(f.Header, f.body)
		}
	}
}

func (g *gate) forwardLocked(h ipc.Header, body []byte) {
	g.to.Append(h, body)
	g.to.Flush()
}

// handOnLocked lets the host read a frame.
func (g *gate) handOnLocked(h ipc.Header, body []byte) {
	g.ready = append(g.ready, frame(h.Kind, h.Flags, h.Request, h.Placement, body)...)
	g.stage.changedLocked()
}

// dieLocked kills the process, as something other than the host would.
func (g *gate) dieLocked() {
	if g.over {
		return
	}
	g.over = true
	if g.running != nil {
		g.stage.suspectLocked(g.running.names)
	}
	g.process.Kill()
}

// read takes what the worker writes, until it has ended.
func (g *gate) read() {
	s, from, b := g.stage, ipc.NewReader(1<<30, false), make([]byte, 64<<10)
	for {
		n, err := g.process.Out.Read(b)
		s.mu.Lock()
		for rest := b[:n]; len(rest) > 0 && !g.over; {
			k := copy(from.Space(), rest)
			from.Filled(k)
			rest = rest[k:]
			for {
				f, ok, err := from.Next()
				if err != nil || !ok {
					break
				}
				g.answeredLocked(f.Header, bytes.Clone(from.Body(f)))
			}
			from.ReleaseAll()
		}
		if err != nil {
			g.err, g.over = io.EOF, true
			delete(s.gates, g)
			s.changedLocked()
			s.mu.Unlock()
			return
		}
		s.changedLocked()
		s.mu.Unlock()
	}
}

// answeredLocked takes a frame of the worker.
func (g *gate) answeredLocked(h ipc.Header, body []byte) {
	f := g.running
	if f == nil || h.Kind == ipc.Hello || g.over {
		if !g.over {
			g.handOnLocked(h, body)
		}
		return
	}
	switch {
	case f.behaviour == "run and die":
		g.dieLocked()
		return
	case f.behaviour == "late" && !f.released:
		g.held = append(g.held, heldFrame{h, body})
		g.stage.changedLocked()
		return
	case h.Kind == ipc.Chunk:
		g.handOnLocked(h, body)
		return
	case f.behaviour == "garble":
		// The host ends the worker for it.
		h.Request += 1000
		g.stage.suspectLocked(f.names)
		g.handOnLocked(h, body)
		g.over = true
		return
	case f.behaviour == "refuse":
		failure := ipc.Failure{Code: ipc.CodeNotPlaced, Message: "the scenario says so", Index: -1}
		h.Flags, body = ipc.FlagFailed|ipc.FlagLost, failure.Append(nil)
		g.forwardLocked(ipc.Header{Kind: ipc.Close, Placement: f.Placement}, nil)
	}
	if h.Flags&ipc.FlagLost != 0 {
		g.lost[f.Placement] = true
	}
	for _, name := range f.names {
		delete(g.stage.suspects, name)
	}
	g.running = nil
	g.handOnLocked(h, body)
	g.advanceLocked()
}

// holdsLocked reports whether the worker has run a request whose answer is held back.
func (g *gate) holdsLocked(name string) bool {
	return len(g.held) > 0 && slices.Contains(g.running.names, name)
}

func (g *gate) releaseLocked() {
	g.running.released = true
	held := g.held
	g.held = nil
	for _, a := range held {
		g.answeredLocked(a.Header, a.body)
	}
}

// TryRead hands on what is there.
func (g *gate) TryRead(b []byte) (int, error) {
	n, err, _ := g.take(b)
	return n, err
}

// Read waits for something to hand on.
func (g *gate) Read(b []byte) (int, error) {
	for {
		n, err, changed := g.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		<-changed
	}
}

func (g *gate) take(b []byte) (n int, err error, changed chan struct{}) { //nolint:revive // the error is that of Read
	s := g.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	n = copy(b, g.ready)
	g.ready = g.ready[n:]
	if n == 0 {
		err = g.err
	}
	return n, err, s.changed
}

// run is a scenario with its host and its engines.
type scenarioRun struct {
	*stage
	t       *testing.T
	host    *host.Host
	engines map[string]*host.Engine
	cancels map[string]context.CancelFunc
	callers sync.WaitGroup
}

func runScenario(t *testing.T, s *scenario, model *host.Host) {
	if s.Engines == nil {
		s.Engines = map[string]struct{ Placings, Snapshots []string }{"e": {}}
	}
	r := &scenarioRun{stage: newStage(s), t: t, engines: map[string]*host.Engine{}, cancels: map[string]context.CancelFunc{}}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	o := host.Options{Workers: 1, Core: cores.Test, Logger: slog.New(slog.DiscardHandler),
		// Nothing but what the scenario says happens to a worker.
		StallAfter: time.Hour, BusyAfter: time.Hour, IdleAfter: -1, Timeout: -1,
		KillGrace: ms(s.Options.KillGrace), OpenTimeout: ms(s.Options.PlaceTimeout), MaxRestarts: s.Options.MaxRestarts,
		SnapshotBytes: s.Options.SnapshotBytes}
	var err error
	if r.host, err = host.New(tap.With(t.Context(), r.gate), o); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, cancel := range r.cancels {
			cancel()
		}
		limited, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.host.Shutdown(limited); err != nil {
			t.Error(err)
		}
		r.callers.Wait()
	}()
	for name := range s.Engines {
		if r.engines[name], err = r.host.Open(t.Context(), name, host.EngineOptions{Setup: scenarioSetup(name)}); err != nil {
			t.Fatal(err)
		}
	}
	for k := range s.Steps {
		r.step(&s.Steps[k])
	}
	r.check(model)
}

func scenarioSetup(engine string) dict {
	tokens := make([]dict, 12)
	for k := range tokens {
		tokens[k] = dict{"id": fmt.Sprintf("%s:t%d", engine, k)}
	}
	return dict{"stack": tokens}
}

func (r *scenarioRun) action(name string) host.Action {
	what := r.Requests[name].Type
	if what == "" {
		what = "stack:draw"
	}
	return host.Action{Type: what, Payload: dict{}, Options: []host.DispatchOption{host.Now(time.UnixMilli(1_700_000_000_000)), host.Entropy(r.entropyOf(name))}}
}

// record takes note of an outcome.
func (r *scenarioRun) record(name string, result host.Result, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[name] = "ok"
	if err != nil {
		r.outcomes[name] = host.CodeOf(err)
	}
	r.results[name] = result.Raw
	r.changedLocked()
}

func (r *scenarioRun) dispatch(name string) {
	q := r.Requests[name]
	e := r.engines["e"]
	if q.Engine != "" {
		e = r.engines[q.Engine]
	}
	ctx, cancel := context.WithCancel(context.Background())
	if q.Timeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), time.Duration(q.Timeout)*time.Millisecond)
	}
	r.mu.Lock()
	r.cancels[name], r.dispatched[name] = cancel, true
	r.mu.Unlock()
	before := r.pending()
	switch {
	case q.Ask != "":
		r.callers.Go(func() {
			_, err := e.Digest(ctx)
			r.record(name, host.Result{}, err)
		})
		r.sent(before+1, name)
	case len(q.Batch) > 0:
		mode, members := host.BatchAtomic, []host.Action(nil)
		if q.Mode == "independent" {
			mode = host.BatchIndependent
		}
		for _, member := range q.Batch {
			members = append(members, r.action(member))
		}
		r.callers.Go(func() {
			b, err := e.DispatchBatch(ctx, mode, members)
			for k, o := range b.Outcomes {
				if mode == host.BatchIndependent {
					r.record(q.Batch[k], o.Result, o.Err)
				} else {
					r.mu.Lock()
					r.results[q.Batch[k]] = o.Result.Raw
					r.mu.Unlock()
				}
			}
			r.record(name, host.Result{}, err)
		})
		// The next request is dispatched behind it.
		r.sent(before+1, q.Batch[0])
	default:
		a := r.action(name)
		f := e.DispatchAsync(ctx, a.Type, a.Payload, a.Options...)
		r.callers.Go(func() {
			result, err := f.Wait(context.Background())
			r.record(name, result, err)
		})
	}
}

// pending returns how many requests the workers have and have not answered.
func (r *scenarioRun) pending() (n int) {
	for _, w := range r.host.Stats().Workers {
		n += w.Pending
	}
	return n
}

// sent waits until the workers have so many requests, or these have arrived. The host may keep a request for a moment
// after it has given it to a worker's connection, to write it together with others.
func (r *scenarioRun) sent(n int, names ...string) {
	r.t.Helper()
	r.eventually("requests to be sent", func(host.Stats) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.pending() >= n || !slices.ContainsFunc(names, func(name string) bool { return r.arrived[name] == 0 })
	})
}

// eventually waits until the host has counted something.
func (r *scenarioRun) eventually(what string, holds func(host.Stats) bool) {
	r.t.Helper()
	patience, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	for !holds(r.host.Stats()) {
		if patience.Err() != nil {
			r.t.Fatalf("waited in vain for: %s; %+v", what, r.host.Stats())
		}
		runtime.Gosched()
	}
}

func (r *scenarioRun) step(step *scenarioStep) {
	t := r.t
	t.Helper()
	died := func() uint64 { return r.host.Stats().Restarts["died"] }
	switch {
	case step.Dispatch != nil:
		for _, name := range step.Dispatch {
			r.dispatch(name)
		}
	case step.Together != nil:
		r.mu.Lock()
		r.paused = true
		r.mu.Unlock()
		before := r.pending()
		for _, name := range step.Together {
			r.dispatch(name)
		}
		r.sent(before+len(step.Together), step.Together...)
		r.mu.Lock()
		r.paused = false
		for g := range r.gates {
			g.advanceLocked()
		}
		r.mu.Unlock()
	case step.Outcome != "":
		r.until(t, "the outcome of "+step.Outcome, func() bool { return r.outcomes[step.Outcome] != "" })
	case step.Begun != "":
		r.until(t, step.Begun+" to begin", func() bool { return r.begun[step.Begun] >= max(1, step.Times) })
	case step.Snapshots > 0:
		r.until(t, "a snapshot", func() bool { return r.snapshots["e"] >= step.Snapshots })
	case step.Cancel != "":
		r.cancels[step.Cancel]()
	case step.Release != "":
		var holder *gate
		r.until(t, "the worker to have run "+step.Release, func() bool {
			for g := range r.gates {
				if g.holdsLocked(step.Release) {
					holder = g
				}
			}
			return holder != nil
		})
		r.mu.Lock()
		holder.releaseLocked()
		r.mu.Unlock()
	case step.Kill == "workers":
		before, n := died(), uint64(0)
		r.mu.Lock()
		for g := range r.gates {
			n++
			g.dieLocked()
		}
		r.mu.Unlock()
		r.eventually("the host to see the death", func(s host.Stats) bool { return s.Restarts["died"] >= before+n })
	case step.Workers == "gone":
		before := died()
		r.mu.Lock()
		r.removeWorkersLocked()
		r.mu.Unlock()
		r.eventually("the host to see the death", func(s host.Stats) bool { return s.Restarts["died"] > before })
	case step.Workers == "back":
		r.mu.Lock()
		r.gone = false
		r.mu.Unlock()
		r.eventually("a worker that is ready", func(s host.Stats) bool { return s.Workers[0].State == "ready" && s.Engines["in_process"] == 0 })
	case step.Place != "":
		r.checkPlace("e", step.Place)
	default:
		t.Fatalf("the step %+v is not known", step)
	}
}

func (r *scenarioRun) checkPlace(engine, want string) {
	r.t.Helper()
	if got := r.engines[engine].Place(); got != map[string]string{"worker": "worker", "host": "in_process"}[want] {
		r.t.Errorf("%s is at the place %s, want %s", engine, got, want)
	}
}

// check holds the scenario's end against what it expects.
func (r *scenarioRun) check(model *host.Host) {
	t, expect := r.t, &r.Expect
	r.until(t, "all outcomes", func() bool {
		for name := range r.dispatched {
			if r.outcomes[name] == "" {
				return false
			}
		}
		return true
	})
	digests := map[string]host.Digest{}
	for name, e := range r.engines {
		d, err := e.Digest(t.Context())
		if isBroken := slices.Contains(expect.Broken, name); errors.Is(err, host.ErrBroken) != isBroken || (err != nil && !isBroken) {
			t.Errorf("%s: %v, want it broken: %v", name, err, isBroken)
		}
		digests[name] = d
	}
	r.eventually("all deaths", func(s host.Stats) bool {
		return (expect.Died == nil || s.Restarts["died"] >= *expect.Died) && s.Restarts["deadline"] >= expect.Killed
	})
	s := r.host.Stats()
	if expect.Died != nil && s.Restarts["died"] != *expect.Died {
		t.Errorf("%d workers died, want %d", s.Restarts["died"], *expect.Died)
	}
	if s.Restarts["deadline"] != expect.Killed || s.Restarts["stalled"] != 0 {
		t.Errorf("workers that the host killed: %v, want %d", s.Restarts, expect.Killed)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !maps.Equal(r.outcomes, expect.Outcomes) {
		t.Errorf("outcomes %v, want %v", r.outcomes, expect.Outcomes)
	}
	if len(r.violations) > 0 {
		t.Errorf("violations: %q", r.violations)
	}
	for name, n := range expect.Runs {
		if r.begun[name] != n {
			t.Errorf("%s was run %d times, want %d", name, r.begun[name], n)
		}
	}
	for name, anew := range expect.PlacedAnew {
		if r.placings[name] > 1 != anew {
			t.Errorf("%s was placed %d times, want more than once: %v", name, r.placings[name], anew)
		}
	}
	for name, want := range expect.Place {
		r.checkPlace(name, want)
	}
	for name, journal := range expect.Journal {
		r.checkJournalLocked(model, name, journal, digests[name])
	}
}

// checkJournalLocked compares with an engine that nothing happens to, and that runs the journal alone: it gives the same
// results and the same state. The stage's lock is held.
func (r *scenarioRun) checkJournalLocked(model *host.Host, name string, journal []string, digest host.Digest) {
	t := r.t
	entries, err := r.engines[name].Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sequence := uint64(0)
	for entry := range entries {
		sequence = entry.Sequence
		if mark := r.names[entry.Entropy[0]-1]; sequence > uint64(len(journal)) || journal[sequence-1] != mark {
			t.Errorf("%s: the record %d is %s, want %v", name, sequence, mark, journal)
			return
		}
	}
	isBroken := slices.Contains(r.Expect.Broken, name)
	if isBroken && sequence != uint64(len(journal)) {
		t.Errorf("%s has the sequence %d, want %v", name, sequence, journal)
	}
	e, err := model.Open(t.Context(), t.Name()+name, host.EngineOptions{Setup: scenarioSetup(name)})
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range journal {
		a := r.action(action)
		result, err := e.Dispatch(t.Context(), a.Type, a.Payload, a.Options...)
		if err != nil || (!isBroken && !bytes.Equal(result.Raw, r.results[action])) {
			t.Errorf("%s: %s gives %x, %v, and gave %x", name, action, result.Raw, err, r.results[action])
		}
	}
	position, err := e.Position(t.Context())
	if err != nil || (!isBroken && (position.Digest != digest || position.Sequence != uint64(len(journal)))) {
		t.Errorf("%s has the digest %v, want %+v, %v", name, digest, position, err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
