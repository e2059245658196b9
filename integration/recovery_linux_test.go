package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	"hypertoken/internal/leaks"
	"hypertoken/internal/require"
	"hypertoken/internal/tap"
)

// The rules of docs/recovery.md, scenario by scenario: testdata/recovery/README.md has their
// language. The npm package runs the same scenarios (browser/test/recovery.test.js). A gate
// stands between the host and each real worker process. It lets the worker have one request at
// a time, and does what the scenario says: it kills the process, holds an answer back, or
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

// Every scenario ends as it says, and none is left out: scenarios.txt has the names that every
// side runs. A run of the tests that is not deep runs a third of them.
func TestRecovery(t *testing.T) {
	leaks.Check(t)
	scenarios := readScenarios(t)
	o := host.Options{InProcess: true, Core: cores.Test, Logger: slog.New(slog.DiscardHandler)}
	model, err := host.New(t.Context(), o)
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
			if !require.IsDeep() && k%3 != 0 {
				continue
			}
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

// scenarioRun is a scenario with its host and its engines.
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
	r := &scenarioRun{stage: newStage(s), t: t,
		engines: map[string]*host.Engine{}, cancels: map[string]context.CancelFunc{}}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	o := host.Options{Workers: 1, Core: cores.Test, Logger: slog.New(slog.DiscardHandler),
		// Nothing happens to a worker that the scenario does not name.
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
		limited, cancel := context.WithTimeout(context.Background(), scenarioPatience)
		defer cancel()
		if err := r.host.Shutdown(limited); err != nil {
			t.Error(err)
		}
		r.callers.Wait()
	}()
	for name := range s.Engines {
		options := host.EngineOptions{Setup: scenarioSetup(name)}
		if r.engines[name], err = r.host.Open(t.Context(), name, options); err != nil {
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
	now := time.UnixMilli(1_700_000_000_000)
	return host.Action{Type: what, Payload: dict{},
		Options: []host.DispatchOption{host.Now(now), host.Entropy(r.entropyOf(name))}}
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

// sent waits until the workers have so many requests, or these have arrived. The host may keep
// a request for a moment after it has given it to a worker's connection, to write it together
// with others.
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
	limited, cancel := context.WithTimeout(r.t.Context(), scenarioPatience)
	defer cancel()
	for !holds(r.host.Stats()) {
		if limited.Err() != nil {
			r.t.Fatalf("waited in vain for: %s; %+v", what, r.host.Stats())
		}
		runtime.Gosched()
	}
}

func (r *scenarioRun) step(step *scenarioStep) {
	t := r.t
	t.Helper()
	died := func() uint64 { return r.host.Stats().Restarts[host.RestartDied] }
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
		r.eventually("the host to see the death",
			func(s host.Stats) bool { return s.Restarts[host.RestartDied] >= before+n })
	case step.Workers == "gone":
		before := died()
		r.mu.Lock()
		r.removeWorkersLocked()
		r.mu.Unlock()
		r.eventually("the host to see the death",
			func(s host.Stats) bool { return s.Restarts[host.RestartDied] > before })
	case step.Workers == "back":
		r.mu.Lock()
		r.gone = false
		r.mu.Unlock()
		r.eventually("a worker that is ready", func(s host.Stats) bool {
			return s.Workers[0].State == host.WorkerReady && s.Engines[host.PlaceInProcess] == 0
		})
	case step.Place != "":
		r.checkPlace("e", step.Place)
	default:
		t.Fatalf("the step %+v is not known", step)
	}
}

func (r *scenarioRun) checkPlace(engine, want string) {
	r.t.Helper()
	places := map[string]host.Place{"worker": host.PlaceWorker, "host": host.PlaceInProcess}
	if got := r.engines[engine].Place(); got != places[want] {
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
		isBroken := slices.Contains(expect.Broken, name)
		if errors.Is(err, host.ErrBroken) != isBroken || (err != nil && !isBroken) {
			t.Errorf("%s: %v, want it broken: %v", name, err, isBroken)
		}
		digests[name] = d
	}
	r.eventually("all deaths", func(s host.Stats) bool {
		return (expect.Died == nil || s.Restarts[host.RestartDied] >= *expect.Died) &&
			s.Restarts[host.RestartDeadline] >= expect.Killed
	})
	s := r.host.Stats()
	if expect.Died != nil && s.Restarts[host.RestartDied] != *expect.Died {
		t.Errorf("%d workers died, want %d", s.Restarts[host.RestartDied], *expect.Died)
	}
	if s.Restarts[host.RestartDeadline] != expect.Killed || s.Restarts[host.RestartStalled] != 0 {
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

// checkJournalLocked compares with an engine that nothing happens to, and that runs the journal
// alone: it gives the same results and the same state. The stage's lock is held.
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
