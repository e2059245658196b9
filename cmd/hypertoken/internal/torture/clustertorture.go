package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/cmd/hypertoken/internal/clusterdev"
	"hypertoken/host"
	"hypertoken/journal"
)

// ClusterConfig describes a torture whose victims are the nodes and the servers of a cluster.
type ClusterConfig struct {
	// Dir is the directory of the servers' data and of all logs. It must be empty. If it is "", RunCluster
	// makes one, and removes it if it finds no violation.
	Dir string
	// For is how long new calls are made. Checking the calls takes a little longer.
	For time.Duration
	// Deaths, if it is not 0, ends the calls as soon as that many nodes and servers were killed or
	// terminated; For is then the most that it may take.
	Deaths int
	// Seed is the seed from which the faults and the calls are drawn.
	Seed uint64
	// Workers is how many worker processes each node has, Engines how many engines are called at once.
	Workers, Engines int
	// Faults are the kinds of faults that strike.
	Faults []ClusterKind
	// CorePath names a file with a core. If it is "", the core is the built-in one.
	CorePath string
	// FailFast ends the calls with the first violation.
	FailFast bool
	// Progress, if it is set, is called several times a second.
	Progress func(ClusterReport)
}

const (
	clusterSize = 3 // servers, and nodes
	joiners     = 1 // nodes that come and go
)

// clusterTorture is one run.
type clusterTorture struct {
	config   ClusterConfig
	ctx      context.Context
	stop     context.CancelCauseFunc
	cluster  *clusterdev.Cluster
	model    *host.Host
	workload *workload
	client   *http.Client
	epoch    time.Time
	ended    chan *history
	starting sync.WaitGroup // of processes that have died

	// stopped is when calls ended before their time, in nanoseconds since epoch: 0 if they have not.
	stopped  atomic.Int64
	repeated atomic.Uint64

	mu      sync.Mutex // guards the fields below
	changed sync.Cond  // of mu: a call has ended, or the calls are over
	calls   uint64     // ended
	report  ClusterReport
	fault   ClusterKind // the newest
	strikes bool        // the fault has not ended
	// faultEnd is when the newest fault ended, and calmSince when all processes were ready after the last
	// one; 0 if that is still to come.
	faultEnd, calmSince int64
	isOver              bool // no process is started any more
	processes           map[string]*clusterProcess
}

// clusterProcess is what the torture wants of a server or a node.
type clusterProcess struct {
	isWanted  bool // it is started again when it ends
	mayDie    bool // a fault ends it
	downFor   time.Duration
	lastStart time.Time
}

// RunCluster tortures a cluster of three servers and three nodes, each a process of this program, and
// returns the report. The program calls clusterdev.Main at its start. If ctx ends, no more calls are
// made, and the calls that were made are checked. RunCluster returns an error if the torture could not
// begin, or a check could not run; violations are in the report.
func RunCluster(ctx context.Context, c ClusterConfig) (report ClusterReport, err error) {
	t := &clusterTorture{config: c, epoch: time.Now(), ended: make(chan *history, c.Engines),
		processes: map[string]*clusterProcess{},
		client:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callersEach * c.Engines}}}
	t.changed.L = &t.mu
	t.report = ClusterReport{Seed: c.Seed, Failed: map[string]uint64{}, Faults: map[ClusterKind]int{},
		Waits: map[ClusterKind]time.Duration{}}
	if err := t.skipFaults(clusterdev.CanFill()); err != nil {
		return t.report, err
	}
	t.ctx, t.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	defer t.stop(nil)
	defer t.client.CloseIdleConnections()
	if t.config.Dir == "" {
		if t.config.Dir, err = os.MkdirTemp("", "hypertoken-torture-"); err != nil {
			return t.report, err
		}
		defer func() {
			if len(report.Violations) == 0 {
				err = errors.Join(err, os.RemoveAll(t.config.Dir))
			}
		}()
	}
	t.model, err = host.New(t.ctx, host.Options{InProcess: true, CorePath: c.CorePath, Timeout: -1,
		Store:         journal.NewMemoryWith(journal.MemoryOptions{}),
		SnapshotBytes: hostSnapshotBytes, MaxEngineMemory: hostEngineMemory,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return t.report, err
	}
	if err = t.startCluster(ctx); err == nil {
		release := context.AfterFunc(ctx, t.enough)
		err = t.run()
		release()
		t.endCluster()
	}
	err = errors.Join(err, t.model.Shutdown(context.WithoutCancel(ctx)))
	return t.snapshot(), err
}

// skipFaults leaves out the faults that this machine does not allow. noDisk is why no disk can be filled, or
// nil. It fails if no fault is left.
func (t *clusterTorture) skipFaults(noDisk error) error {
	if noDisk == nil || !slices.Contains(t.config.Faults, FillDisk) {
		return nil
	}
	t.config.Faults = slices.DeleteFunc(slices.Clone(t.config.Faults), func(k ClusterKind) bool {
		return k == FillDisk
	})
	t.report.Skipped = map[ClusterKind]string{FillDisk: noDisk.Error()}
	if len(t.config.Faults) == 0 {
		return fmt.Errorf("%s can't be caused on this machine: %w", FillDisk, noDisk)
	}
	return nil
}

// nodeFlags are the flags of the nodes. Engines are closed soon, so that they are often loaded from the log.
func (t *clusterTorture) nodeFlags() []string {
	flags := []string{"--debug", "--rate", "0", "--max-line", "16MiB", "--engine-idle", "2s",
		"--max-connections", strconv.Itoa(8 * callersEach * t.config.Engines),
		"--max-connections-per-address", strconv.Itoa(8 * callersEach * t.config.Engines)}
	if t.config.CorePath != "" {
		flags = append(flags, "--core", t.config.CorePath)
	}
	return flags
}

// startCluster starts the servers and the nodes, except those that are to join.
func (t *clusterTorture) startCluster(ctx context.Context) (err error) {
	t.cluster, err = clusterdev.Start(ctx, clusterdev.Options{Dir: t.config.Dir, Servers: clusterSize,
		Nodes: clusterSize + joiners, Absent: joiners, Workers: t.config.Workers, NodeFlags: t.nodeFlags(),
		Out: io.Discard, Links: Cuts(t.config.Faults),
		SmallDisk: slices.Contains(t.config.Faults, FillDisk), Ended: t.processEnded})
	if err != nil {
		return fmt.Errorf("the cluster can't be started: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range slices.Concat(t.cluster.Servers(), t.cluster.Nodes()[:clusterSize]) {
		t.processLocked(name).isWanted = true
	}
	return nil
}

// endCluster ends all processes.
func (t *clusterTorture) endCluster() {
	t.mu.Lock()
	t.isOver = true
	t.mu.Unlock()
	t.stop(nil)
	t.starting.Wait()
	t.cluster.Close()
}

func (t *clusterTorture) run() error {
	actions, err := t.model.Actions(t.ctx)
	if err != nil {
		return err
	}
	t.workload = newWorkload(actions)
	t.epoch = time.Now()
	var watching, causing sync.WaitGroup
	calm := make(chan struct{})
	watching.Go(func() { t.watch(calm) })
	faults := &clusterFaults{t: t, rand: rand.New(rand.NewPCG(t.config.Seed, 0xfa17))}
	causing.Go(func() {
		faults.run()
		t.untilCalm()
	})
	startLives(t.config.Engines, t.ended, t.live, t.check, t.stop).wait(causing.Wait)
	t.leftEngines()
	close(calm)
	watching.Wait()
	if err := context.Cause(t.ctx); !errors.Is(err, errGivenUp) {
		return err
	}
	return nil
}

// prefix begins the names of the engines.
func (t *clusterTorture) prefix() string { return fmt.Sprintf("torture-%x-", t.config.Seed) }

// clock returns the nanoseconds since the torture began.
func (t *clusterTorture) clock() int64 { return max(1, int64(time.Since(t.epoch))) }

// goesOn reports whether more is to be called.
func (t *clusterTorture) goesOn() bool {
	return time.Since(t.epoch) < t.config.For && t.stopped.Load() == 0 && t.ctx.Err() == nil
}

// enough ends the calls before their time.
func (t *clusterTorture) enough() {
	t.stopped.CompareAndSwap(0, t.clock())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed.Broadcast()
}

// pause waits. It returns false if the torture was broken off.
func (t *clusterTorture) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// found takes down violations.
func (t *clusterTorture) found(list []Violation) {
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

// noteFailure counts a failure that a caller was told of, by its code.
func (t *clusterTorture) noteFailure(code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Failed[code]++
}

// callEnded notes that a call has ended, which began at a time.
func (t *clusterTorture) callEnded(x *clusterCall, began int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls++
	for _, o := range x.outcomes {
		if o.err == nil && x.wasTold && !x.form.isQuestion() {
			t.report.Acknowledged++
		}
	}
	if !x.wasTold && x.isUnknown {
		t.report.Unknown++
	}
	if t.fault != "" {
		t.report.Waits[t.fault] = max(t.report.Waits[t.fault], time.Duration(x.end-began))
	}
	t.changed.Broadcast()
}

// awaitCalls waits until so many more calls have ended. It returns false if no more are made.
func (t *clusterTorture) awaitCalls(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for until := t.calls + uint64(n); t.calls < until && t.goesOn(); {
		t.changed.Wait()
	}
	return t.goesOn()
}

// isOverdue reports whether a call that began at a time should have ended by now.
func (t *clusterTorture) isOverdue(began int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.strikes && t.clock()-max(began, t.faultEnd) > int64(clusterPatience)
}

// isCalm reports whether all faults are over, and all processes ready.
func (t *clusterTorture) isCalm() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calmSince > 0
}

func (t *clusterTorture) beginFault(k ClusterKind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault, t.strikes = k, true
	t.report.Faults[k]++
}

func (t *clusterTorture) endFault(k ClusterKind, said string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.strikes, t.faultEnd = false, t.clock()
	t.report.recent = append(t.report.recent, fmt.Sprintf("%v: %s%s",
		time.Duration(t.faultEnd).Round(time.Millisecond), k, said))
	t.report.recent = t.report.recent[max(0, len(t.report.recent)-8):]
}

// processLocked returns what is wanted of a process. The lock mu is held.
func (t *clusterTorture) processLocked(name string) *clusterProcess {
	p := t.processes[name]
	if p == nil {
		p = &clusterProcess{}
		t.processes[name] = p
	}
	return p
}

// setWanted says whether a process is to run. It returns false if that was wanted before.
func (t *clusterTorture) setWanted(name string, isWanted bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processLocked(name)
	if p.isWanted == isWanted {
		return false
	}
	p.isWanted = isWanted
	return true
}

// isWanted reports whether a process is to run.
func (t *clusterTorture) isWanted(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.processLocked(name).isWanted
}

// processNames returns the names of the servers and of the nodes that are to run.
func (t *clusterTorture) processNames() []string {
	return append(t.cluster.Servers(), slices.DeleteFunc(t.cluster.Nodes(), func(name string) bool {
		return !t.isWanted(name)
	})...)
}

// willDie says that a fault ends a process, which is to be started again after a time.
func (t *clusterTorture) willDie(name string, downFor time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processLocked(name)
	p.mayDie, p.downFor = true, downFor
}

// Exit codes of nodes that are no fault of them.
const (
	exitInOrder    = 0
	exitNoServers  = 1   // they were not there when it started
	exitDeclared   = 3   // the others have declared it dead
	exitTerminated = 143 // by SIGTERM, before it served
)

// restartPause is the least time between two starts of a process.
const restartPause = 300 * time.Millisecond

// processEnded starts a process again that is wanted.
func (t *clusterTorture) processEnded(e clusterdev.End) {
	t.mu.Lock()
	p := t.processLocked(e.Name)
	wait := max(p.downFor, restartPause-time.Since(p.lastStart))
	if p.mayDie {
		t.report.Deaths++
	}
	hasPanicked := !slices.Contains([]int{-1, exitInOrder, exitNoServers, exitDeclared, exitTerminated}, e.Code)
	isOver := t.isOver
	p.mayDie, p.downFor = false, 0
	if p.isWanted && !isOver {
		t.starting.Go(func() {
			if t.pause(wait) {
				t.startAgain(e.Name)
			}
		})
	}
	t.mu.Unlock()
	if !isOver && (hasPanicked || e.Code == -1 && !e.IsWanted) {
		t.found([]Violation{{Fate: Visible, What: fmt.Sprintf("%s has ended by itself: %s. %s", e.Name, e.Status,
			e.LastWords)}})
	}
}

// startAgain starts a process, if it is still wanted.
func (t *clusterTorture) startAgain(name string) {
	t.mu.Lock()
	p := t.processLocked(name)
	isWanted := p.isWanted && !t.isOver
	p.lastStart = time.Now()
	t.mu.Unlock()
	if !isWanted {
		return
	}
	if err := t.cluster.Run(name); err != nil {
		t.stop(fmt.Errorf("%s can't be started again: %w", name, err))
	}
}

// readyPause is the pause between two looks whether a process is ready.
const readyPause = 20 * time.Millisecond

// awaitReady waits until a process is ready. It returns false if the calls are over before.
func (t *clusterTorture) awaitReady(name string) bool {
	for !t.cluster.IsReady(name) {
		if !t.pause(readyPause) || !t.goesOn() {
			return false
		}
	}
	return true
}

// untilCalm waits until all processes that are wanted are ready, after the last fault.
func (t *clusterTorture) untilCalm() {
	t.mu.Lock()
	t.faultEnd = t.clock()
	began := t.faultEnd
	t.mu.Unlock()
	for _, name := range slices.Concat(t.cluster.Servers(), t.cluster.Nodes()) {
		for !t.isReady(name) {
			if t.isOverdue(began) {
				t.found([]Violation{{Fate: Stuck, What: fmt.Sprintf("%s is not ready %v after the last fault", name,
					clusterPatience)}})
				return
			}
			if !t.pause(readyPause) {
				return
			}
		}
	}
	t.mu.Lock()
	t.calmSince = t.clock()
	t.mu.Unlock()
}

// isReady reports whether a process is ready, or not wanted. A node says itself whether it is.
func (t *clusterTorture) isReady(name string) bool {
	if !t.isWanted(name) {
		return true
	}
	if !t.cluster.IsReady(name) {
		return false
	}
	if slices.Contains(t.cluster.Servers(), name) {
		return true
	}
	ctx, cancel := context.WithTimeout(t.ctx, clusterSilence)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.cluster.Address(name)+"/readyz", nil)
	if err != nil {
		return false
	}
	w, err := t.client.Do(r)
	if err != nil {
		return false
	}
	_ = w.Body.Close()
	return w.StatusCode == http.StatusOK
}

// errGivenUp breaks a torture off whose calls do not end. The violation is reported already.
var errGivenUp = errors.New("no call ends any more")

// stuckCalls is how long no call may end.
const stuckCalls = 2 * clusterPatience

// watch reports progress until calm is closed. If no call ends any more and no history is checked, it
// breaks the torture off.
func (t *clusterTorture) watch(calm <-chan struct{}) {
	stall := newStall(stuckCalls)
	eachTick(100*time.Millisecond, calm, func() bool {
		r := t.snapshot()
		t.mu.Lock()
		n := t.calls + uint64(r.Histories)
		t.changed.Broadcast() // the time may be over
		t.mu.Unlock()
		if found := stall.look(n); found != nil {
			t.found(found)
			t.enough()
			t.stop(errGivenUp)
			return false
		}
		if t.config.Deaths > 0 && r.Deaths >= t.config.Deaths {
			t.enough()
		}
		if t.config.Progress != nil {
			t.config.Progress(r)
		}
		return true
	})
}

// check checks a history, and adds its figures to the report.
func (t *clusterTorture) check(h *history) error {
	found, err := checkOnModel(t.ctx, t.model, h, 0)
	if err != nil {
		return err
	}
	t.found(found)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Histories++
	for _, calls := range h.callers {
		t.report.Operations += len(calls)
	}
	return nil
}

// leftEngines asks for a list of the engines. All were deleted, so there is none.
func (t *clusterTorture) leftEngines() {
	if t.ctx.Err() != nil || t.snapshot().Violated != nil {
		return // engines whose life has failed are not deleted
	}
	var list struct {
		Engines []struct {
			Name string `json:"name"`
		} `json:"engines"`
	}
	for began := t.clock(); ; {
		err := t.get(t.cluster.Nodes()[0], "/v1/engines?prefix="+t.prefix(), &list)
		if err == nil {
			break
		}
		if t.isOverdue(began) {
			t.found([]Violation{{Fate: Stuck, What: fmt.Sprintf("the engines can't be listed: %v", err)}})
			return
		}
		if !t.pause(againAfter) {
			return
		}
	}
	for _, e := range list.Engines {
		t.found([]Violation{{Fate: Leaked, Engine: e.Name, What: "it was deleted, and is listed"}})
	}
}

// get reads an answer in JSON of a node.
func (t *clusterTorture) get(node, path string, answer any) error {
	ctx, cancel := context.WithTimeout(t.ctx, clusterSilence)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.cluster.Address(node)+path, nil)
	if err != nil {
		return err
	}
	w, err := t.client.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	if w.StatusCode != http.StatusOK {
		return errors.New(w.Status)
	}
	return json.NewDecoder(w.Body).Decode(answer)
}
