package torture

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// injector lets one fault after the other strike, each at its moment of a worker's session.
type injector struct {
	epoch   time.Time
	workers int // the number of workers and spares
	// fallbacks counts the engines that have gone on in process.
	fallbacks func() uint64

	stops atomic.Int32 // how many workers are stopped and will go on

	mu       sync.Mutex // guards the fields below
	schedule *schedule
	next     fault
	armed    bool
	over     bool
	passed   int // frames since the last strike
	last     time.Time
	counts   map[Kind]int
	struck   []string // the last strikes
	live     []*wire
	pids     []int
	stopped  []*stopped
	// storm is how many more starts fail. The storm ends early when an engine goes on in process;
	// calmAt is the number of such engines when it began.
	storm  int
	calmAt uint64
	deaths []death
}

// strike is a fault that has struck a worker.
type strike struct {
	kind    Kind
	at      time.Duration
	waiting int // the number of callers' requests that were unanswered then
}

// stopped is a worker that is stopped and will go on.
type stopped struct {
	wire *wire
	// calls is how many calls end before the worker goes on. If it is 0, the worker goes on when a
	// caller has given up.
	calls int
}

// death is the end of a worker process.
type death struct {
	id      int
	at      time.Duration // since the torture began
	waiting int
	storm   bool // no worker could start afterwards
}

func newInjector(seed uint64, kinds []Kind, workers int) *injector {
	return &injector{epoch: time.Now(), workers: workers, schedule: newSchedule(seed, kinds), counts: map[Kind]int{}}
}

// begin lets the first fault strike when its moment comes.
func (in *injector) begin() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.next, in.armed = in.schedule.next()
}

// tap takes a process that the host has started.
func (in *injector) tap(p tap.Process) (ipc.Sink, ipc.Source) {
	w := &wire{injector: in, process: p, buffer: make([]byte, 64<<10), pending: map[uint64]struct{}{}}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.live, in.pids = append(in.live, w), append(in.pids, p.PID)
	if in.stormy() {
		in.storm--
		w.struck = &strike{kind: Start, at: time.Since(in.epoch)}
		p.Kill()
	}
	return w, w
}

// stormy reports whether no worker is to survive its start. The lock is held.
func (in *injector) stormy() bool {
	if in.storm > 0 && in.fallbacks() != in.calmAt {
		in.storm = 0
	}
	return in.storm > 0
}

// reach takes in that a session has reached a moment, and returns the fault that is to strike now,
// or nil.
func (in *injector) reach(at moment) *fault {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.armed || in.stormy() {
		return nil
	}
	in.passed++
	switch f := &in.next; {
	case at == f.at:
		f.after--
	case in.passed > patience && f.anywhere():
		f.at, f.after = at, 0
	default:
		return nil
	}
	if in.next.after > 0 || time.Since(in.last) < pace {
		return nil
	}
	f := in.next
	in.last, in.passed = time.Now(), 0
	in.next, in.armed = in.schedule.next()
	return &f
}

// strike lets a fault happen to a worker.
func (in *injector) strike(w *wire, f *fault) {
	s := &strike{kind: f.kind, at: time.Since(in.epoch), waiting: w.unanswered()}
	w.mu.Lock()
	w.struck = s
	w.mu.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.counts[f.kind]++
	in.struck = append(in.struck, f.String())
	in.struck = in.struck[max(0, len(in.struck)-20):]
	switch f.kind {
	case Kill:
		w.process.Kill()
	case Garbage, Repeat:
		in.gone(w) // the host does not read on
	case Stop, Hang:
		stopProcess(w.process.PID)
		if f.kind == Stop {
			in.stopped = append(in.stopped, &stopped{w, f.resume})
			in.stops.Add(1)
		}
	case Start:
		in.storm, in.calmAt = 10*in.workers, in.fallbacks()
		for _, other := range in.live {
			also := &strike{kind: Start, at: s.at, waiting: other.unanswered()}
			other.mu.Lock()
			other.struck = also
			other.mu.Unlock()
			other.process.Kill()
		}
	}
}

// callEnded lets stopped workers go on once that many calls have ended, or a caller has given up.
func (in *injector) callEnded(gaveUp bool) {
	if in.stops.Load() == 0 {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stopped = slices.DeleteFunc(in.stopped, func(s *stopped) bool {
		if s.calls == 0 && !gaveUp {
			return false
		}
		if s.calls > 1 {
			s.calls--
			return false
		}
		s.wire.mu.Lock()
		s.wire.struck = nil
		s.wire.mu.Unlock()
		continueProcess(s.wire.process.PID)
		in.stops.Add(-1)
		return true
	})
}

// ended takes in that a process is gone, or as good as gone.
func (in *injector) ended(w *wire) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.gone(w)
}

// gone is called with the lock held.
func (in *injector) gone(w *wire) {
	at := slices.Index(in.live, w)
	if at < 0 {
		return
	}
	in.live = slices.Delete(in.live, at, at+1)
	if in.over {
		return
	}
	w.mu.Lock()
	s := w.struck
	w.mu.Unlock()
	if s == nil {
		// Somebody else's doing, the host's say.
		s = &strike{at: time.Since(in.epoch), waiting: w.unanswered()}
	}
	in.deaths = append(in.deaths, death{len(in.deaths), s.at, s.waiting, s.kind == Start})
	in.stopped = slices.DeleteFunc(in.stopped, func(s *stopped) bool {
		if s.wire == w {
			in.stops.Add(-1)
		}
		return s.wire == w
	})
}

// started returns the processes that there were.
func (in *injector) started() []int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.pids)
}

// garbled returns how often the answers of a worker were garbled.
func (in *injector) garbled() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return int64(in.counts[Garbage] + in.counts[Repeat])
}

// calm ends the faults: no further fault strikes, and stopped workers go on.
func (in *injector) calm() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.over, in.armed, in.storm = true, false, 0
	for _, s := range in.stopped {
		continueProcess(s.wire.process.PID)
	}
	in.stopped = nil
	in.stops.Store(0)
}
