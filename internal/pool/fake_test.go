package pool

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"hypertoken/ipc"
)

// house is a pool of workers that are no processes, and its owner: what the pool tells its owner
// is recorded. The test says what time it is.
type house struct {
	*Pool
	t        *testing.T
	now      time.Duration
	cpu      float64
	resident uint64

	links  map[*Worker]*fakeLink
	ready  int // calls of HandleReady
	free   int // of HandleFreePlaces
	losses []Loss
	told   [][]byte
}

// config is what most tests go by: one worker.
func config() Config {
	return Config{Workers: 1, CoreHash: "core", WindowRequests: 4, WindowBytes: 1 << 20, MaxFrame: 1 << 20,
		MaxRestarts: 2, MaxWorkerMemory: 1000, BusyAfter: 20 * time.Millisecond, KillGrace: 100 * time.Millisecond,
		StallAfter: time.Second,
		IdleAfter:  time.Minute, StartTimeout: 10 * time.Second, RestartWindow: 10 * time.Second, IdleTick: time.Second}
}

// newHouse returns a pool whose first processes are on their way.
func newHouse(t *testing.T, c Config) *house {
	h := &house{t: t, now: time.Hour, links: map[*Worker]*fakeLink{}}
	c.Log = slog.New(slog.DiscardHandler)
	c.Seams.Start = func(*Worker) {}
	c.Seams.Jitter = func() float64 { return 0.5 }
	c.Seams.CPU = func(int) (float64, error) { return h.cpu, nil }
	c.Seams.Memory = func(int) (uint64, error) { return h.resident, nil }
	h.Pool = New(h)
	h.Start(c)
	t.Cleanup(func() {
		for _, w := range h.StopSupervisors() {
			if !w.Details().IsDead {
				w.HandleEnd(errors.New("the test ends"))
			}
		}
		h.Stop(t.Context())
	})
	return h
}

func (h *house) HandleReady()              { h.ready++ }
func (h *house) HandleLoss(l Loss)         { h.losses = append(h.losses, l) }
func (h *house) HandleFreePlaces()         { h.free++ }
func (h *house) HandleActions(list []byte) { h.told = append(h.told, append([]byte(nil), list...)) }
func (h *house) HurryTick()                {}
func (h *house) Now() time.Duration        { return h.now }
func (h *house) Stamp() time.Duration      { return h.now }
func (h *house) IsMeasuring() bool         { return true }
func (h *house) tick(after time.Duration) bool {
	h.now += after
	return h.Tick(h.now)
}

// newest returns the newest process of a worker, or of a spare.
func (h *house) newest(id int, isSpare bool) *Worker {
	workers, spares, _ := h.Details()
	if isSpare {
		return spares[id].Worker
	}
	return workers[id].Worker
}

// bring attaches a process to a worker and has it shake hands.
func (h *house) bring(w *Worker) *fakeLink {
	h.t.Helper()
	l := h.attach(w)
	l.feed(frame(ipc.Hello, 0, 0, ipc.Encode(ipc.HelloBody{Protocol: ipc.Version, Core: "core"})))
	l.feed(answer(1, 0))
	if !w.handshake.isDone {
		h.t.Fatal("the handshake is not done")
	}
	return l
}

func (h *house) attach(w *Worker) *fakeLink {
	h.t.Helper()
	l := &fakeLink{t: h.t, worker: w}
	if !w.Attach(l, nil) {
		h.t.Fatal("the worker is not wanted any more")
	}
	h.links[w] = l
	return l
}

// fakeLink is a process that is none: it takes what is written, and says what the test has it say.
type fakeLink struct {
	t             *testing.T
	worker        *Worker
	written       []byte
	kills, hangUp int
}

func (l *fakeLink) TryWrite(b []byte) (int, error) {
	l.written = append(l.written, b...)
	return len(b), nil
}
func (l *fakeLink) WriteAll(b []byte, done func(error)) {
	l.written = append(l.written, b...)
	done(nil)
}
func (l *fakeLink) PID() int { return 1000 + l.worker.number }
func (l *fakeLink) Kill()    { l.kills++ }
func (l *fakeLink) HangUp()  { l.hangUp++ }

// say has the process write bytes, and returns what is wrong with them.
func (l *fakeLink) say(b []byte) error {
	for len(b) > 0 {
		n, err := l.worker.Feed(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// feed is say of what is right.
func (l *fakeLink) feed(b []byte) {
	l.t.Helper()
	if err := l.say(b); err != nil {
		l.t.Fatal(err)
	}
}

// frames returns what was written since the last call.
func (l *fakeLink) frames() (list []ipc.Frame) {
	l.t.Helper()
	r := ipc.NewReader(2<<20, true)
	for b := l.written; len(b) > 0; {
		n := copy(r.Space(), b)
		b = b[n:]
		r.Filled(n)
		for {
			f, ok, err := r.Next()
			if err != nil {
				l.t.Fatal(err)
			}
			if !ok {
				break
			}
			list = append(list, f)
		}
		r.ReleaseAll()
	}
	l.written = nil
	return list
}

// frame returns a frame as a worker writes it.
func frame(k ipc.Kind, request, placement uint64, body []byte) []byte {
	var to sink
	w := ipc.NewWriter(&to)
	w.Append(ipc.Header{Kind: k, Request: request, Placement: placement}, body)
	w.Flush()
	return to
}

func answer(request, placement uint64) []byte { return frame(ipc.Answer, request, placement, nil) }

// sink takes all that is written.
type sink []byte

func (s *sink) TryWrite(b []byte) (int, error)      { *s = append(*s, b...); return len(b), nil }
func (s *sink) WriteAll(b []byte, done func(error)) { *s = append(*s, b...); done(nil) }

// renter is a tenant that is no engine: what it is told is recorded.
type renter struct {
	name     string
	age      uint64
	isIdle   bool
	isAtRest bool
	used     time.Duration

	isHeld                 bool
	holds                  int
	frames                 []ipc.Frame
	bodies                 []string
	overdueKills, takeOuts int
	moves                  []int
	onRoom                 func(worker int, placement uint64)
}

func (r *renter) Name() string { return r.name }
func (r *renter) Age() uint64  { return r.age }
func (r *renter) Hold()        { r.isHeld = true; r.holds++ }
func (r *renter) Release()     { r.isHeld = false }
func (r *renter) HandleFrame(_ int, f ipc.Frame, body []byte, _ time.Duration) time.Duration {
	if !r.isHeld {
		panic("a frame comes to a tenant that is not held")
	}
	r.frames, r.bodies = append(r.frames, f), append(r.bodies, string(body))
	return time.Millisecond
}
func (r *renter) HandleRoom(worker int, placement uint64) {
	if r.onRoom != nil {
		r.onRoom(worker, placement)
	}
}
func (r *renter) HandleOverdueKill()      { r.overdueKills++ }
func (r *renter) Move(worker int)         { r.moves = append(r.moves, worker) }
func (r *renter) TakeOut()                { r.takeOuts++ }
func (r *renter) IsIdle() bool            { return r.isIdle }
func (r *renter) IsAtRest() bool          { return r.isAtRest }
func (r *renter) LastUsed() time.Duration { return r.used }

// place lets a tenant be placed on a worker.
func (h *house) place(w *Worker, r Tenant, placement uint64) {
	h.t.Helper()
	if !w.AddTenant(r, placement) {
		h.t.Fatal("the worker has ended")
	}
}

// send sends a request of a tenant, and reports whether there was room.
func (h *house) send(w *Worker, r *renter, placement uint64) (id uint64, ok bool) {
	id, ok = w.Send(r, ipc.Dispatch, 0, placement, []byte("body"))
	w.Write()
	return id, ok
}

// mustSend is send of what has room.
func (h *house) mustSend(w *Worker, r *renter, placement uint64) (id uint64) {
	h.t.Helper()
	id, ok := h.send(w, r, placement)
	if !ok {
		h.t.Fatal("there is no room")
	}
	return id
}

// killed says when it is killed.
type killed struct {
	fakeLink
	isKilled chan struct{}
}

func (k *killed) Kill() { close(k.isKilled) }

func contextThatHasEnded(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx, cancel
}
