package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"hypertoken/host"
	"hypertoken/journal"
	"hypertoken/journal/disk"
)

// HostConfig describes a torture whose victim is the host.
type HostConfig struct {
	// Dir is the directory of the journals. It may have other engines. If it is "", RunHost makes
	// a directory, and removes it if it finds no violation.
	Dir string
	// For is how long new calls are made. Checking the calls takes a little longer.
	For time.Duration
	// Deaths, if it is not 0, ends the calls as soon as that many hosts were killed; For is then
	// the most that it may take.
	Deaths int
	// Seed is the seed from which the moments and the calls are drawn.
	Seed uint64
	// Workers is how many worker processes the host has, Engines how many engines are called at
	// once.
	Workers, Engines int
	// CorePath names a file with a core, Core holds one; neither is the built-in core.
	CorePath string
	Core     []byte
	// Log gets the host's log if it is set.
	Log io.Writer
	// FailFast ends the calls with the first violation.
	FailFast bool
	// Progress, if it is set, is called several times a second.
	Progress func(HostReport)
}

// hostTorture is one run.
type hostTorture struct {
	config   HostConfig
	nonce    uint64 // in the names of engines: a directory may have those of another run
	ctx      context.Context
	stop     context.CancelCauseFunc
	model    *host.Host
	workload *workload
	epoch    time.Time
	ended    chan *history

	// stopped is when calls ended before their time, in nanoseconds since epoch: 0 if they have
	// not.
	stopped      atomic.Int64
	calls        atomic.Uint64 // ended
	acknowledged atomic.Uint64
	repeated     atomic.Uint64
	compared     atomic.Uint64

	mu      sync.Mutex // guards the fields below
	changed sync.Cond  // of mu: there is another session, or isOver is set
	session *hostSession
	isOver  bool // no host is started any more
	report  HostReport
	workers map[int]bool // the worker processes of all hosts
}

// RunHost kills a host again and again while callers call its engines, and returns the report. If
// ctx ends, no more calls are made, and the calls that were made are checked. It returns an error
// if the torture could not begin, or a check could not run; violations are in the report.
func RunHost(ctx context.Context, c HostConfig) (report HostReport, err error) {
	t := &hostTorture{config: c, nonce: rand.Uint64(), epoch: time.Now(), ended: make(chan *history, c.Engines),
		workers: map[int]bool{}}
	t.changed.L = &t.mu
	t.report = HostReport{Seed: c.Seed, Failed: map[string]uint64{}, Deaths: map[HostMoment]int{}}
	t.ctx, t.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	defer t.stop(nil)
	defer context.AfterFunc(ctx, t.enough)()
	temporary, err := os.MkdirTemp("", "hypertoken-torture-")
	if err != nil {
		return t.report, err
	}
	defer func() {
		if len(report.Violations) == 0 || t.config.Dir != filepath.Join(temporary, "data") {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	if t.config.Dir == "" {
		t.config.Dir = filepath.Join(temporary, "data")
	}
	if c.Core != nil {
		t.config.CorePath = filepath.Join(temporary, "core.wasm")
		if err := os.WriteFile(t.config.CorePath, c.Core, 0o600); err != nil {
			return t.report, err
		}
	}
	t.model, err = host.New(t.ctx, host.Options{InProcess: true, CorePath: t.config.CorePath, Timeout: -1,
		Store:         journal.NewMemoryWith(journal.MemoryOptions{}),
		SnapshotBytes: hostSnapshotBytes, MaxEngineMemory: hostEngineMemory,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return t.report, err
	}
	err = t.run()
	err = errors.Join(err, t.model.Shutdown(context.WithoutCancel(ctx)))
	r := t.snapshot()
	r.finish()
	return r, err
}

func (t *hostTorture) run() error {
	actions, err := t.model.Actions(t.ctx)
	if err != nil {
		return err
	}
	t.workload = newWorkload(actions)
	t.epoch = time.Now()
	var watching sync.WaitGroup
	calm := make(chan struct{})
	watching.Go(func() { t.watch(calm) })
	hosts := make(chan error, 1)
	go func() { hosts <- t.runHosts() }()
	startLives(t.config.Engines, t.ended, t.live, t.check, t.stop).wait(t.endHosts)
	err = <-hosts
	close(calm)
	watching.Wait()
	if err == nil && context.Cause(t.ctx) == nil {
		err = errors.Join(t.leftEngines(), t.leftWorkers())
	}
	return errors.Join(err, context.Cause(t.ctx))
}

// runHosts starts a host, again and again, until endHosts is called.
func (t *hostTorture) runHosts() error {
	defer t.endHosts()
	r := rand.New(rand.NewPCG(t.config.Seed, 0xdea7))
	opening := 300 * time.Millisecond // of the last hosts, on average
	stderr := t.config.Log
	if stderr == nil {
		stderr = io.Discard
	}
	for number := 1; ; number++ {
		order := hostOrder{Dir: t.config.Dir, CorePath: t.config.CorePath, Workers: t.config.Workers,
			Debug: t.config.Log != nil}
		order.Tuning = drawTuning(r)
		if drawn := drawDoom(r, opening); t.goesOn() {
			order.Doom = drawn
		}
		s, err := startHost(number, order, stderr)
		if err != nil {
			return fmt.Errorf("starting a host: %w", err)
		}
		t.mu.Lock()
		t.session = s
		isOver := t.isOver
		t.changed.Broadcast()
		t.mu.Unlock()
		if isOver {
			s.shutDown()
		}
		select {
		case <-s.firstAnswer:
			t.opened(time.Since(s.began))
			opening += (time.Since(s.began) - opening) / 4
		case <-s.gone:
		}
		<-s.gone
		if err := t.buried(s); err != nil {
			t.found([]Violation{{Fate: Visible, What: err.Error()}})
			return nil
		}
		t.mu.Lock()
		isOver = t.isOver
		t.mu.Unlock()
		if isOver {
			return nil
		}
	}
}

// endHosts shuts the present host down, and makes it the last one. Its questions get no answer.
func (t *hostTorture) endHosts() {
	t.mu.Lock()
	t.isOver = true
	s := t.session
	t.changed.Broadcast()
	t.mu.Unlock()
	if s != nil {
		s.shutDown()
	}
}

// opened notes how long a host took until its first answer.
func (t *hostTorture) opened(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Openings = append(t.report.Openings, took)
}

// buried notes the end of a host. It returns an error if the host was neither killed nor shut
// down.
func (t *hostTorture) buried(s *hostSession) error {
	wasKilled, err := s.end()
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid := range s.workers {
		t.workers[pid] = true
	}
	switch {
	case wasKilled:
		moment := s.doom.Moment
		s.mu.Lock()
		if s.answers >= mostAnswers {
			moment = AtAnswer
		}
		if s.atDeath > 0 {
			t.report.InFlight++
			t.report.Questions += s.atDeath
		}
		s.mu.Unlock()
		t.report.Deaths[moment]++
		t.report.recent = append(t.report.recent, fmt.Sprintf("host %d was killed after %v: %v", s.number,
			time.Since(s.began).Round(time.Millisecond), s.doom))
		t.report.recent = t.report.recent[max(0, len(t.report.recent)-8):]
	case err == nil:
		t.report.Shutdowns++
	}
	return err
}

// ask asks the present host, and the next one if that dies, until there is an answer. It returns
// the session that answered, or nil if the torture is over.
func (t *hostTorture) ask(q question, opening func() *hostOpening) (reply, *hostSession) {
	after := 0
	for {
		t.mu.Lock()
		for !t.isOver && (t.session == nil || t.session.number <= after) {
			t.changed.Wait()
		}
		s := t.session
		isOver := t.isOver
		t.mu.Unlock()
		if isOver {
			return reply{}, nil
		}
		r, ok := s.ask(q, opening)
		if ok && !isShutdown(&r) {
			return r, s
		}
		after = s.number
	}
}

// isShutdown reports whether the host has refused the question because it shuts down.
func isShutdown(r *reply) bool {
	is := func(e *toldError) bool { return e != nil && errors.Is(e.err(), host.ErrShutdown) }
	return is(r.Err) || slices.ContainsFunc(r.Outcomes, func(o toldOutcome) bool { return is(o.Err) })
}

// found takes down violations.
func (t *hostTorture) found(list []Violation) {
	if len(list) == 0 {
		return
	}
	t.mu.Lock()
	t.report.found(list, slices.Clone(t.report.recent))
	t.mu.Unlock()
	if t.config.FailFast {
		t.enough()
	}
}

// goesOn reports whether more is to be called.
func (t *hostTorture) goesOn() bool {
	return time.Since(t.epoch) < t.config.For && t.stopped.Load() == 0 && t.ctx.Err() == nil
}

// enough ends the calls before their time.
func (t *hostTorture) enough() { t.stopped.CompareAndSwap(0, t.clock()) }

// clock returns the nanoseconds since the torture began.
func (t *hostTorture) clock() int64 { return max(1, int64(time.Since(t.epoch))) }

// watch reports progress until calm is closed. If no call ends any more and no history is checked,
// it ends the hosts, so that all callers end.
func (t *hostTorture) watch(calm <-chan struct{}) {
	stall := newStall(stuckAfter)
	eachTick(100*time.Millisecond, calm, func() bool {
		r := t.snapshot()
		if found := stall.look(t.calls.Load() + uint64(r.Histories)); found != nil {
			t.found(found)
			t.enough()
			t.endHosts()
			t.mu.Lock()
			s := t.session
			t.mu.Unlock()
			if s != nil {
				_ = s.cmd.Process.Kill()
			}
		}
		if t.config.Deaths > 0 && r.Killed >= t.config.Deaths {
			t.enough()
		}
		if t.config.Progress != nil {
			t.config.Progress(r)
		}
		return true
	})
}

// check checks a history, and adds its figures to the report.
func (t *hostTorture) check(h *history) error {
	found, err := checkOnModel(t.ctx, t.model, h, 0)
	if err != nil {
		return err
	}
	t.found(found)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Histories++
	for _, calls := range h.callers {
		for _, x := range calls {
			t.report.Operations++
			for _, o := range x.outcomes {
				if o.err != nil {
					t.report.Failed[host.CodeOf(o.err)]++
				}
			}
		}
	}
	return nil
}

// prefix begins the names of this run's engines.
func (t *hostTorture) prefix() string { return fmt.Sprintf("torture-%016x-", t.nonce) }

// leftEngines opens the directory once more. All engines were deleted, so it has none of this run.
func (t *hostTorture) leftEngines() error {
	if t.snapshot().Violated != nil {
		return nil // engines whose life has failed are not deleted
	}
	store, err := disk.Open(t.config.Dir, disk.Options{})
	if err != nil {
		return fmt.Errorf("opening the directory at the end: %w", err)
	}
	ended := make(chan error, 1)
	store.List(t.prefix(), "", 10, func(list []journal.Info, err error) {
		for _, e := range list {
			t.found([]Violation{{Fate: Leaked, Engine: e.Name, What: "it was deleted, and is stored"}})
		}
		ended <- err
	})
	return errors.Join(<-ended, store.Close())
}

// workersEnd is how long the workers of a dead host may take to end.
const workersEnd = 30 * time.Second

// leftWorkers waits until the workers of all hosts have ended. They end with their host.
func (t *hostTorture) leftWorkers() error {
	deadline := time.Now().Add(workersEnd)
	for {
		var left []int
		for pid := range t.workers {
			if isWorker(pid) {
				left = append(left, pid)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			t.found([]Violation{{Fate: Leaked,
				What: fmt.Sprintf("the workers of dead hosts still run after %v: %v", workersEnd, left)}})
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// isWorker reports whether a process runs, and is neither a zombie nor another program of that
// number.
func isWorker(pid int) bool {
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return false
	}
	if status, err := p.Status(); err == nil && slices.Contains(status, process.Zombie) {
		return false
	}
	// The system may have given the number to another process.
	program, err := p.Exe()
	own, ownErr := os.Executable()
	return err != nil || ownErr != nil || program == own
}
