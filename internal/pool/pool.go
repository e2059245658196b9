// Package pool runs the worker processes of a host. It starts, watches, restarts and ends them,
// keeps spares, carries frames to them and takes in what they answer.
//
// A [Pool] has slots, one for each worker and each spare. A slot has a supervisor, which decides
// when a process is started, and the newest process, a [Worker]. The engines that a worker runs
// are its tenants, which the pool knows as [Tenant]. The host is the pool's [Owner]: it decides
// which engine is placed where, with package placement.
//
// Locks are taken in the order tenant, owner, pool, worker. Pool.mu guards the slots and their
// supervisors; Worker.mu guards what its worker has placed, blocked and under way, and is a leaf.
// No method of Owner or Tenant is called with one of them held, but for those that say so.
package pool

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hypertoken/internal/fast"
	"hypertoken/internal/process"
	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// Tenant is an engine, as the worker that runs it knows it.
type Tenant interface {
	// Name returns the engine's name, for logs. Age says in which order engines were opened.
	Name() string
	Age() uint64
	// Hold locks the engine, so that several frames in a row reach it. Release unlocks it, and
	// does what waited for that.
	Hold()
	Release()
	// HandleFrame takes in a frame for the engine. body is valid until HandleFrame returns; seen
	// is when it was read, on the clock of measurements, 0 if nothing is measured. It returns for
	// how long the worker says that it ran. It is called between Hold and Release.
	HandleFrame(worker int, f ipc.Frame, body []byte, seen time.Duration) (ran time.Duration)
	// HandleRoom says that the engine may send again at a place where it found no room.
	HandleRoom(worker int, placement uint64)
	// HandleOverdueKill says that a worker is killed for what the engine ran there past its
	// deadline.
	HandleOverdueKill()
	// Move has the engine leave the worker for another one, if it is still there: another one is
	// free.
	Move(worker int)
	// TakeOut frees the engine's instance, if the engine has nothing to do.
	TakeOut()

	// The rest may be called with any lock of the pool held, and take none.

	// IsIdle says that the engine has nothing to do, IsAtRest that it has an instance besides.
	IsIdle() bool
	IsAtRest() bool
	// LastUsed returns when the engine was last dispatched to, on the host's clock.
	LastUsed() time.Duration
}

// Owner is the host, as its pool knows it.
type Owner interface {
	// HandleReady says that a worker runs requests which did not.
	HandleReady()
	// HandleLoss says that a worker has ended, and which placements with it.
	HandleLoss(Loss)
	// HandleFreePlaces says that engines that wait for a worker may be able to get one.
	HandleFreePlaces()
	// HandleActions takes in the core's list of actions, as a worker told it.
	HandleActions(list []byte)

	// The rest may be called with any lock of the pool held, and take no lock that is taken before
	// one of them.

	// HurryTick has Tick called soon, if that is not done all the time.
	HurryTick()
	// Now returns the time on the host's clock, Stamp that on the clock of measurements.
	Now() time.Duration
	Stamp() time.Duration
	// IsMeasuring says that somebody wants to know when what happens.
	IsMeasuring() bool
}

// Loss is the end of a worker, with all that was placed there.
type Loss struct {
	// Worker is the number of its process.
	Worker int
	// IsDeath says that it died by itself: what it owed is suspected. Otherwise the host ended it.
	IsDeath bool
	// Placements are those that are lost, in the order of their IDs.
	Placements []Placement
}

// Placement is an engine's place on a worker.
type Placement struct {
	ID     uint64
	Tenant Tenant
}

// Config says how many workers there are, and how they are run. Options of the host have the same
// names and say more.
type Config struct {
	Workers, Spares int
	// WorkerPath, if it is not empty, is the program; WorkerSHA256, if it is not empty, is what it
	// must have.
	WorkerPath, WorkerSHA256 string
	// Core is the core, CoreHash its SHA-256. CacheDir is where compiled code is kept, "" for
	// nowhere.
	Core     []byte
	CoreHash string
	CacheDir string
	// TellActions has each worker tell the core's list of actions.
	TellActions bool
	// IsDebug has workers log what is of use for debugging only.
	IsDebug bool

	MaxEngineMemory, MaxWorkerMemory int64
	MaxFrame                         int
	WindowRequests, WindowBytes      int
	PollFor, BusyAfter, KillGrace    time.Duration
	StallAfter, IdleAfter            time.Duration
	StartTimeout, RestartWindow      time.Duration
	MaxRestarts                      int
	// IdleTick is how often the owner calls Tick if Tick says that nothing is under way.
	IdleTick time.Duration

	Log *slog.Logger
	// Off are the ways to be fast that are not used.
	Off   fast.Set
	Seams Seams
}

// Seams are what tests and simulations replace. A nil field is what is used in earnest.
type Seams struct {
	// Start starts the process of a worker. It is called with the pool's lock held, and returns at
	// once; it has Attach called once there is a process, and HandleEnd when nothing is left of
	// it.
	Start func(*Worker)
	// CPU returns the CPU time that a process has used, in seconds; Memory its resident memory, in
	// bytes.
	CPU    func(pid int) (seconds float64, err error)
	Memory func(pid int) (bytes uint64, err error)
	// Jitter returns a number from 0 up to 1.
	Jitter func() float64
	// PingEvery replaces the constant of this name.
	PingEvery time.Duration
	// Tap, if it is not nil, stands between the pipes of a process and the pool.
	Tap tap.Func
}

// Pool is the worker processes of a host.
type Pool struct {
	config      Config
	owner       Owner
	log         *slog.Logger
	descriptors descriptorReserve
	counts      counts

	// life ends with the pool. goroutines are those that Stop waits for.
	life       context.Context
	end        context.CancelFunc
	goroutines sync.WaitGroup

	// sampledAt is when memory was looked at. The goroutine that calls Tick owns it.
	sampledAt time.Duration

	mu              sync.Mutex // guards what follows; see the package's comment for the order
	workers, spares []*slot
	processes       int // how many were started, which numbers them
}

// New returns a pool without workers. Start gives it some, Stop has to be called in any case.
func New(owner Owner) *Pool {
	p := &Pool{owner: owner}
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

// Start starts the workers, in the background. The spares wait until the workers are there. It is
// called once at most, before any other method.
func (p *Pool) Start(c Config) {
	isReal := c.Seams.Start == nil
	c.Seams.setDefaults(p)
	p.config, p.log = c, c.Log
	if isReal {
		p.descriptors.fill()
		sayIfUnconfined(p.log, process.Offered())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	supervised := supervisor{maxRestarts: c.MaxRestarts, window: c.RestartWindow, startTimeout: c.StartTimeout}
	for id := range c.Workers {
		s := &slot{id: id, supervisor: supervised}
		p.workers = append(p.workers, s)
		p.carryOutLocked(s, s.supervisor.start(p.owner.Now()))
	}
	supervised.state, supervised.due = Backoff, 1
	for id := range c.Spares {
		p.spares = append(p.spares, &slot{id: id, isSpare: true, supervisor: supervised})
	}
}

func (s *Seams) setDefaults(p *Pool) {
	if s.Start == nil {
		s.Start = func(w *Worker) { p.spawn(func() { runProcess(w) }) }
	}
	if s.CPU == nil {
		s.CPU = processCPU
	}
	if s.Memory == nil {
		s.Memory = processMemory
	}
	if s.Jitter == nil {
		s.Jitter = rand.Float64
	}
	if s.PingEvery == 0 {
		s.PingEvery = PingEvery
	}
}

// spawn runs f in a goroutine that Stop waits for.
func (p *Pool) spawn(f func()) { p.goroutines.Go(f) }

// Stop ends every worker process, and waits until nothing is left of the pool. The processes get a
// moment to end by themselves, unless ctx ends.
func (p *Pool) Stop(ctx context.Context) {
	list := p.StopSupervisors()
	for _, w := range list {
		w.hangUp()
	}
	patience, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, w := range list {
		select {
		case <-w.ended:
		case <-patience.Done():
			w.kill(Shutdown)
		}
	}
	p.end() // for a process that is still starting
	for _, w := range list {
		<-w.ended
	}
	p.goroutines.Wait()
	p.descriptors.close()
}

// StopSupervisors has no process started any more, and returns those that there are.
func (p *Pool) StopSupervisors() (list []*Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range slices.Concat(p.workers, p.spares) {
		if s.supervisor.state != Stopped {
			s.supervisor.stop()
			if s.worker != nil {
				list = append(list, s.worker)
			}
		}
	}
	return list
}

// byAge sorts tenants, so that what is done to each of them is done in the same order each time.
func byAge(list []Tenant) []Tenant {
	slices.SortFunc(list, func(a, b Tenant) int { return cmp.Compare(a.Age(), b.Age()) })
	return list
}
