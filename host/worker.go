package host

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/fast"
	"hypertoken/internal/fifo"
	"hypertoken/internal/histogram"
	"hypertoken/ipc"
)

// link is a worker process as its worker sees it: where frames go, and how it ends.
type link interface {
	ipc.Sink
	// pid is the process's, 0 where there is none.
	pid() int
	// kill ends it at once, hangUp lets it end by itself. Both return at once.
	kill()
	hangUp()
}

// verdict is why a worker ended, or is to.
type verdict uint8

const (
	// byItself: it crashed, exited, or broke the protocol. What it owed is suspected.
	byItself verdict = iota
	// overdue: it owed an answer past a deadline. stalled: it owed one and did not run. hungry: it was over its memory.
	// stopped: the host ends.
	overdue
	stalled
	hungry
	stopped
)

func (v verdict) String() string {
	return [...]string{"died", "deadline", "stalled", "memory", "shutdown"}[v]
}

// worker is one worker process, from its start to its end. It starts as a process that has said nothing yet.
type worker struct {
	host  *Host
	slot  *slot  // the host's lock guards it, and taken
	taken uint64 // one more than was heard of it when, as a spare, it replaced a worker; 0 for others
	id    int
	name  string // of its process: that of the slot it was started for
	log   *slog.Logger
	ended chan struct{} // closed when nothing is left of it
	conn  *ipc.Conn[owner]
	link  link

	// reading says who reads from the process; hello and configured are how far it has come.
	reading    *reading
	hello      bool
	configured bool
	core       []byte // what is still to be sent of it

	// fault is the first thing by which it broke the protocol: nothing that comes after it is read.
	fault atomic.Pointer[error]
	// held is the engine that is kept locked by who has the turn to read, and for how many frames it was.
	held  *Engine
	holds int
	// heard counts what was read from the process.
	heard atomic.Uint64

	// What is measured of the process: seenAt is when something was read last, startedAt when it was started, busy for how long
	// it ran what it has answered, in nanoseconds.
	seenAt, startedAt, busy       atomic.Int64
	framesReceived, bytesReceived atomic.Uint64
	answers                       histogram.Histogram
	folded                        bool // its slot has them; the host's lock guards it

	mu sync.Mutex // guards what follows; a leaf
	// engines are those placed here, by their placement.
	engines map[uint64]*Engine
	// reserved is the placement that nobody else may send beside, or 0; alone says that it is granted.
	reserved uint64
	alone    bool
	blocked  fifo.Queue[owner]
	turn     owner // who may send now of those that were blocked; whether it has, and whether it found no room
	sent     bool
	full     bool
	serving  bool // somebody goes through blocked
	again    bool // it has to once more
	why      verdict
	ending   bool
	dead     bool
	// oldest is the request that ran at the last tick, since then it has.
	oldest uint64
	since  time.Duration
	// condemned is the request that the worker is killed for, if it still runs then; late is the one that is past its own
	// deadline. What is unwanted is condemned, too.
	condemned, late uint64
	// unwanted is the request that runs though its placement is left, unwantedAt since when it is known to.
	unwanted   uint64
	unwantedAt time.Duration
	// cpu and heardThen are what its CPU time and heard were at cpuAt.
	cpu       float64
	heardThen uint64
	cpuAt     time.Duration
	resident  uint64
}

// owner is who waits for an answer, or for room.
type owner struct {
	engine    *Engine
	placement uint64
}

// add lets an engine be placed here; false where the worker has ended.
func (w *worker) add(e *Engine, placement uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return false
	}
	w.engines[placement] = e
	return true
}

// left takes a placement off.
func (w *worker) left(placement uint64) {
	w.mu.Lock()
	delete(w.engines, placement)
	w.mu.Unlock()
	w.release(placement)
}

// release lets others send again beside a placement.
func (w *worker) release(placement uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reserved == placement {
		w.reserved, w.alone = 0, false
	}
}

// send puts a request into the pipe. Where there is no room, or somebody else's turn, the engine is told when to try again.
func (w *worker) send(e *Engine, kind ipc.Kind, flags ipc.Flags, placement uint64, body []byte) (id uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return 0, false // evLost is on its way
	}
	me := owner{e, placement}
	turn := w.turn == me
	may := turn || w.blocked.Len() == 0
	if w.reserved != 0 {
		may = w.reserved == placement
	}
	if may {
		if id, ok = w.conn.Send(me, kind, flags, placement, body); ok {
			w.sent = w.sent || turn
			return id, true
		}
	}
	// A request that does not fit is not overtaken; who has sent its share lets the others.
	if turn && !w.sent {
		w.full = may
		w.blocked.PushFront([]owner{me})
	} else {
		w.blocked.Push(me)
	}
	return 0, false
}

// unblock lets those send that wait for room, in their order. No engine's lock is held.
func (w *worker) unblock() {
	w.mu.Lock()
	if w.serving {
		w.again = true
		w.mu.Unlock()
		return
	}
	w.serving = true
	for rounds := w.blocked.Len(); ; rounds-- {
		if w.again {
			w.again, rounds = false, w.blocked.Len()
		}
		at := w.next()
		// Who was blocked meanwhile has its turn when the next answer comes, if one will.
		if at < 0 || (rounds <= 0 && w.conn.Pending() > 0) {
			break
		}
		next := w.blocked.All()[at]
		w.blocked.Remove(at)
		w.turn, w.sent, w.full = next, false, false
		w.mu.Unlock()
		next.engine.mayTry(w, next.placement)
		w.mu.Lock()
		w.turn = owner{}
		if w.full && !w.again {
			break // something is under way, whose answer goes on here
		}
	}
	w.serving = false
	w.mu.Unlock()
	w.conn.Flush()
}

// next returns who of those that are blocked may send, or -1.
func (w *worker) next() int {
	if w.dead || !w.conn.Room() {
		return -1
	}
	for k, b := range w.blocked.All() {
		if w.reserved == 0 || w.reserved == b.placement {
			return k
		}
	}
	return -1
}

// mayTry lets an engine send that was blocked, if it is still there.
func (e *Engine) mayTry(w *worker, placement uint64) {
	e.mu.Lock()
	if e.m.View().Place == w.place(placement) {
		e.m.Room(e.now())
		e.perform()
	}
	e.unlockAndDeliver(false)
}

// came takes in the frames that are read. An error ends the worker.
func (w *worker) came() error {
	w.heard.Add(1)
	seen := time.Duration(0)
	if w.host.measures() {
		seen = w.host.stamp()
		w.seenAt.Store(int64(seen))
	}
	err := w.frames(seen)
	w.let()
	if fault := w.fault.Load(); fault != nil && err == nil {
		err = *fault
	}
	if err != nil {
		return err
	}
	w.reading.reader.ReleaseAll()
	w.unblock()
	w.host.idleWorker(w)
	return nil
}

func (w *worker) frames(seen time.Duration) error {
	frames, bytes := uint64(0), uint64(0)
	defer func() {
		w.framesReceived.Add(frames)
		w.bytesReceived.Add(bytes)
	}()
	for {
		f, ok, err := w.reading.reader.Next()
		if err != nil || !ok {
			return err
		}
		frames++
		bytes += ipc.HeaderSize + uint64(f.Length)
		if err := w.frame(f, seen); err != nil || w.fault.Load() != nil {
			return err
		}
	}
}

// hold locks an engine that a frame is for, and keeps it locked for the next ones: what they change gets into its journal as
// one group. let frees it.
func (w *worker) hold(e *Engine) {
	if w.held == e && w.holds < mostHeld && !w.host.off.Has(fast.Group) {
		w.holds++
		return
	}
	w.let()
	e.mu.Lock()
	w.held, w.holds = e, 1
}

// mostHeld is for how many frames an engine is kept locked at most, since its callers wait.
const mostHeld = 32

func (w *worker) let() {
	if e := w.held; e != nil {
		w.held = nil
		e.unlockAndDeliver(false)
	}
}

// place returns the place of a placement here.
func (w *worker) place(placement uint64) engine.Place {
	return engine.Place{Worker: w.id, Placement: placement}
}

func (w *worker) frame(f ipc.Frame, seen time.Duration) error {
	body := w.reading.reader.Body(f)
	if !w.configured {
		return w.handshake(f, body)
	}
	var o owner
	var ok bool
	switch f.Kind {
	case ipc.Hello:
		return &ipc.MalformedError{Message: "a second hello"}
	case ipc.Chunk:
		o, ok = w.conn.Owner(f.Request)
	default:
		o, ok = w.conn.Answered(f.Request)
	}
	if !ok {
		if w.isDead() {
			return nil
		}
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v for request %d, which was not sent or is answered already", f.Kind, f.Request)}
	}
	if o.placement != f.Placement {
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v for request %d names the placement %d, not %d", f.Kind, f.Request, f.Placement, o.placement)}
	}
	if e := o.engine; e != nil {
		w.hold(e)
		ran := e.takeFrame(w.place(f.Placement), f.Kind, f.Flags, f.Request, body, seen)
		w.busy.Add(int64(ran))
	}
	return nil
}

func (w *worker) isDead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

// verdict returns why it ends, as far as that is known.
func (w *worker) verdict() verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

// handshake takes in what comes before the worker is configured.
func (w *worker) handshake(f ipc.Frame, body []byte) error {
	switch {
	case !w.hello:
		var hello ipc.HelloBody
		if f.Kind != ipc.Hello {
			return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v before hello", f.Kind)}
		}
		if err := ipc.Decode(body, &hello); err != nil {
			return err
		}
		if hello.Protocol != ipc.Version {
			return fmt.Errorf("it speaks version %d of the protocol (%s), this host %d: update WorkerPath", hello.Protocol, hello.Build, ipc.Version)
		}
		w.hello = true
		w.configure(hello.Core)
		w.log.Debug("worker started", "pid", hello.PID, "build", hello.Build)
	case f.Kind != ipc.Answer:
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v before the worker is configured", f.Kind)}
	default:
		if _, ok := w.conn.Answered(f.Request); !ok {
			return &ipc.MalformedError{Message: fmt.Sprintf("an answer to request %d, which was not sent", f.Request)}
		}
		if f.Flags&ipc.FlagFailed != 0 {
			failure, err := ipc.ReadFailure(body)
			if err != nil {
				return err
			}
			return fmt.Errorf("it can't run the core: %s", failure.Message)
		}
		w.sendCore()
		if w.conn.Pending() == 0 {
			if o, err := ipc.ReadOutcome(body); err == nil && w.host.options.NoFallback {
				w.host.tellActions(o.Result)
			}
			w.configured = true
			w.host.workerReady(w)
		}
	}
	return nil
}

// configure answers the worker's hello. The core follows where it has another one.
func (w *worker) configure(has string) {
	o := &w.host.options
	c := ipc.ConfigureBody{Core: w.host.hash, EngineMemory: o.MaxEngineMemory, WorkerMemory: o.MaxWorkerMemory,
		MaxFrame: o.MaxFrame, CacheDir: w.host.cacheDir,
		PollFor: int64(max(o.PollFor, 0)), Actions: o.NoFallback, Debug: w.host.debug}
	if has != c.Core {
		w.core = w.host.code
	}
	c.CoreBytes = len(w.core)
	w.conn.Send(owner{}, ipc.Configure, 0, 0, ipc.Encode(c))
	w.conn.Flush()
}

// sendCore sends the next piece of the core.
func (w *worker) sendCore() {
	if len(w.core) > 0 {
		piece := w.core[:min(ipc.ChunkSize, len(w.core))]
		w.core = w.core[len(piece):]
		w.conn.Send(owner{}, ipc.Core, 0, 0, ipc.AppendBytes(nil, len(piece)), piece)
		w.conn.Flush()
	}
}

// condemn takes note that a request is past its deadline; false where it is not what runs. The worker is killed at the
// next tick, once what is in the pipe is read, if it still runs then.
func (w *worker) condemn(id uint64) bool {
	if w.conn.Oldest() != id {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.condemned, w.late = id, id
	return true
}

// end kills the worker.
func (w *worker) end(why verdict) {
	w.mu.Lock()
	if (w.ending && w.why != stopped) || w.dead {
		w.mu.Unlock()
		return
	}
	w.ending, w.why = true, why
	l := w.link
	w.mu.Unlock()
	if l != nil {
		l.kill()
	}
}

// linked takes note of the process, and of what it writes; false where the worker is not wanted any more.
func (w *worker) linked(l link, from ipc.Source) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending {
		return false
	}
	o := &w.host.options
	w.startedAt.Store(int64(w.host.stamp()))
	w.link, w.conn = l, ipc.NewConn[owner](l, ipc.Window{Requests: o.WindowRequests, Bytes: o.WindowBytes})
	w.reading = newReading(from, o.MaxFrame, max(o.PollFor, 0))
	return true
}

// hangUp lets the worker end by itself.
func (w *worker) hangUp() {
	w.mu.Lock()
	w.ending, w.why = true, stopped
	l := w.link
	w.mu.Unlock()
	if l != nil {
		l.hangUp()
	}
}

// violated ends a worker that broke the protocol, or can't be used. It counts as one that died by itself.
func (w *worker) violated(err error) {
	if w.fault.CompareAndSwap(nil, &err) {
		message := "a worker can't be used and is replaced"
		if malformed := new(ipc.MalformedError); errors.As(err, &malformed) {
			message = "a worker broke the protocol and is replaced"
		}
		w.log.Error(message, "error", err)
	}
	w.end(byItself)
}

// gone takes in that the process has ended, and all it wrote is read. Its engines go elsewhere.
func (w *worker) gone(err error) {
	w.mu.Lock()
	if w.dead {
		w.mu.Unlock()
		return
	}
	w.dead = true
	why, engines, alone := w.why, w.engines, w.reserved != 0 && w.alone
	w.engines = nil
	w.mu.Unlock()
	inFlight := 0
	if w.conn != nil {
		inFlight = len(w.conn.Close())
	}
	var d *engine.Death
	if why == byItself {
		d = new(engine.Death)
	}
	w.host.workerGone(w, why, alone, inFlight, err)
	for _, placement := range slices.Sorted(maps.Keys(engines)) {
		engines[placement].placeLost(w.place(placement), d)
	}
	w.host.assign()
	close(w.ended)
}

// tick looks after what runs. busy says since when the oldest request does, and which it is.
func (w *worker) tick(now time.Duration) (oldest uint64, ran time.Duration) {
	oldest = w.conn.Oldest()
	runs, _ := w.conn.Owner(oldest)
	w.mu.Lock()
	switch wanted := oldest == 0 || w.engines[runs.placement] != nil; {
	case wanted:
		w.unwanted = 0
	case w.unwanted != oldest:
		w.unwanted, w.unwantedAt = oldest, now
	case now-w.unwantedAt >= w.host.options.KillGrace:
		// Nobody waits for it, so no deadline says that it takes too long; but others wait behind it.
		w.condemned = oldest
	}
	if oldest != w.oldest {
		w.oldest, w.since, w.cpuAt = oldest, now, 0
	}
	ran = now - w.since
	kill := oldest != 0 && w.condemned == oldest
	if kill && w.ending {
		kill = false
	}
	isLate := w.late == oldest
	w.mu.Unlock()
	if kill {
		name := ""
		if runs.engine != nil {
			name = runs.engine.name
			if isLate {
				runs.engine.step((*engine.Machine).ChargeKill)
			}
		}
		message := "a worker owes an answer past its deadline and is killed"
		if !isLate {
			message = "a worker runs what its engine needs no more and is killed"
		}
		w.log.Warn(message, "ran", ran.Round(time.Millisecond), "engine", name)
		w.end(overdue)
	}
	return oldest, ran
}
