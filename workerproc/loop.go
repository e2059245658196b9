package workerproc

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/executor"
	"hypertoken/ipc"
	"hypertoken/wasm"
)

// Runtime compiles cores and makes instances of them.
type Runtime interface {
	// Has reports whether the runtime has the core with this hash, so that the host need not send
	// it.
	Has(hash string) bool
	// Use compiles a core, and from then on instances are made of it. If core is nil, it compiles
	// the one that the runtime has.
	Use(ctx context.Context, c ipc.ConfigureBody, core []byte) error
	Instantiate(context.Context) (executor.Instance, error)
	// Actions returns the core's list of actions, as the core encodes it.
	Actions(context.Context) ([]byte, error)
}

// Loop runs the requests that a worker reads, one at a time, in the order of their arrival. It has
// no goroutine, no clock and no pipe. The caller reads bytes into [Loop.Space] and calls
// [Loop.Filled], and calls [Loop.Run] for each request. So a simulation can drive it.
type Loop struct {
	log     *slog.Logger
	runtime Runtime
	in      *ipc.Reader
	out     executor.Out

	queue queue
	// unread is how many requests ran since the last call of Filled.
	unread   int
	engines  map[uint64]*executor.Engine
	executor *executor.Executor // nil until the worker is configured

	config ipc.ConfigureBody
	core   []byte // the part of the core that has arrived
}

// maxControl bounds frames until the host has configured MaxFrame.
const maxControl = ipc.ChunkSize + 1<<10

// NewLoop returns the loop of a worker that answers to out.
func NewLoop(runtime Runtime, out executor.Out, log *slog.Logger) *Loop {
	return &Loop{log: log, runtime: runtime, in: ipc.NewReader(maxControl, true), out: out,
		engines: map[uint64]*executor.Engine{}}
}

// Hello sends the first frame.
func (l *Loop) Hello(h ipc.HelloBody) {
	l.out.Append(ipc.Header{Kind: ipc.Hello}, ipc.Encode(h))
	l.out.Flush()
}

// Space returns room for bytes that come in.
func (l *Loop) Space() []byte {
	if f, ok := l.queue.front(); ok {
		l.in.Release(f.Frame)
	} else {
		l.in.ReleaseAll()
	}
	return l.in.Space()
}

// Idle reports whether there is nothing to run. If so, the time until the next request counts as
// run time of no request.
func (l *Loop) Idle() bool {
	if l.queue.head < len(l.queue.items) {
		return false
	}
	if l.executor != nil {
		l.executor.Paused()
	}
	return true
}

// readEvery is how many requests may run before the pipe is read.
const readEvery = 16

// Due reports whether the caller should read the pipe before the next request runs: a frame there
// may recall the request. If actions are short, the pipe is not read before each of them, because
// reading would take longer than the action.
func (l *Loop) Due() bool {
	return l.unread >= readEvery || l.executor == nil || l.executor.Slow()
}

// Filled takes in the n bytes that the caller has read into Space. If they recall a request or
// close a placement, requests that have not begun are dropped at once. It fails with a
// [*ipc.MalformedError]; the worker ends then.
func (l *Loop) Filled(n int) error {
	l.in.Filled(n)
	l.unread = 0
	for {
		f, ok, err := l.in.Next()
		if err != nil || !ok {
			return err
		}
		switch f.Kind {
		case ipc.Recall:
			l.drop(func(q *queued) bool { return q.Request == f.Request })
		case ipc.Close:
			l.drop(func(q *queued) bool { return q.Placement == f.Placement && q.Placement != 0 })
			if e := l.engines[f.Placement]; e != nil {
				e.Close()
				delete(l.engines, f.Placement)
			}
		default:
			if f.Request == 0 {
				return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v has no request ID", f.Kind)}
			}
			l.queue.push(queued{Frame: f})
		}
	}
}

// drop answers the queued requests that match with Dropped.
func (l *Loop) drop(match func(*queued) bool) {
	for k := l.queue.head; k < len(l.queue.items); k++ {
		if q := &l.queue.items[k]; !q.dropped && match(q) {
			q.dropped = true
			l.out.Append(ipc.Header{Kind: ipc.Dropped, Request: q.Request, Placement: q.Placement})
		}
	}
	l.queue.trim()
}

// Run runs the next request. It returns false if there is none. After an error the worker ends.
func (l *Loop) Run(ctx context.Context) (bool, error) {
	q, ok := l.queue.front()
	if !ok {
		return false, nil
	}
	body := l.in.Body(q.Frame)
	l.queue.pop()
	l.unread++
	return true, l.run(ctx, q.Header, body)
}

// Engines returns how many placements are open.
func (l *Loop) Engines() int { return len(l.engines) }

// Flush writes the answers that are finished.
func (l *Loop) Flush() { l.out.Flush() }

func (l *Loop) run(ctx context.Context, h ipc.Header, body []byte) error {
	switch {
	case h.Kind == ipc.Ping:
		l.answer(h, nil)
		return nil
	case h.Kind == ipc.Configure:
		return l.handleConfigure(ctx, h, body)
	case h.Kind == ipc.Core:
		return l.handleCore(ctx, h, body)
	case l.executor == nil:
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v before the worker was configured", h.Kind)}
	case h.Placement == 0:
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v without a placement", h.Kind)}
	}
	e := l.engines[h.Placement]
	if e == nil {
		// The placement was closed, or was never opened. An engine that is not open answers the
		// request.
		e = l.executor.Engine(h.Placement)
		if h.Kind == ipc.Open {
			l.engines[h.Placement] = e
		}
	}
	return e.Run(ctx, h, body)
}

func (l *Loop) answer(h ipc.Header, result []byte) {
	o := ipc.Outcome{Result: result}
	if len(result) > 0 {
		o.Checksum = xxhash.Sum64(result)
	}
	l.out.Append(ipc.Header{Kind: ipc.Answer, Request: h.Request, Placement: h.Placement}, o.AppendHead(nil), result,
		ipc.AppendBytes(nil, 0))
}

func (l *Loop) handleConfigure(ctx context.Context, h ipc.Header, body []byte) error {
	if l.executor != nil || l.config.Core != "" {
		return &ipc.MalformedError{Message: "the worker is configured already"}
	}
	if err := ipc.Decode(body, &l.config); err != nil {
		return err
	}
	const maxCore = 1 << 30
	if c := &l.config; c.Core == "" || c.MaxFrame < maxControl || c.MaxFrame > 1<<31-1 || c.CoreBytes < 0 ||
		c.CoreBytes > maxCore || c.PollFor < 0 {
		return &ipc.MalformedError{Message: fmt.Sprintf("it is configured with the core %q of %d bytes and frames of %d bytes", c.Core, c.CoreBytes, c.MaxFrame)}
	}
	l.in.SetMaxFrame(l.config.MaxFrame)
	if l.config.CoreBytes == 0 {
		return l.use(ctx, h)
	}
	l.answer(h, nil)
	return nil
}

// handleCore takes in a piece of the core. The last piece is answered once the core is compiled.
func (l *Loop) handleCore(ctx context.Context, h ipc.Header, body []byte) error {
	piece, err := ipc.ReadPiece(body)
	if err != nil {
		return err
	}
	if l.executor != nil || len(l.core)+len(piece) > l.config.CoreBytes {
		return &ipc.MalformedError{Message: fmt.Sprintf("a piece of a core beyond its %d bytes", l.config.CoreBytes)}
	}
	if l.core = append(l.core, piece...); len(l.core) < l.config.CoreBytes {
		l.answer(h, nil)
		return nil
	}
	if hash := wasm.Hash(l.core); hash != l.config.Core {
		return &ipc.MalformedError{Message: fmt.Sprintf("the core that came has the hash %s, not %s", hash,
			l.config.Core)}
	}
	return l.use(ctx, h)
}

// maxActions bounds the list of actions that is sent to the host, in bytes. Such a list fits into
// a frame, whatever MaxFrame is.
const maxActions = 1 << 20

// use compiles the core and answers.
func (l *Loop) use(ctx context.Context, h ipc.Header) error {
	core := l.core
	l.core = nil
	err := error(nil)
	if core == nil && !l.runtime.Has(l.config.Core) {
		err = fmt.Errorf("the worker does not have the core %s", l.config.Core)
	} else {
		err = l.runtime.Use(ctx, l.config, core)
	}
	if err != nil {
		f := ipc.Failure{Code: ipc.CodeNoCore, Message: err.Error(), Index: -1}
		l.out.Append(ipc.Header{Kind: ipc.Answer, Flags: ipc.FlagFailed, Request: h.Request}, f.Append(nil))
		return nil
	}
	l.executor = executor.New(l.runtime.Instantiate, l.out, l.config.MaxFrame)
	l.log.Debug("worker configured", "core", l.config.Core)
	var actions []byte
	if l.config.Actions {
		if actions, err = l.runtime.Actions(ctx); err != nil || len(actions) > maxActions {
			l.log.Warn("the core's list of actions can't be used", "error", err, "bytes", len(actions))
			actions = nil
		}
	}
	l.answer(h, actions)
	return nil
}

// Close frees every instance.
func (l *Loop) Close() {
	for _, e := range l.engines {
		e.Close()
	}
	clear(l.engines)
}

// queued is a request that has not begun.
type queued struct {
	ipc.Frame
	dropped bool
}

// queue keeps requests in the order of their arrival.
type queue struct {
	items []queued
	head  int
}

func (q *queue) push(f queued) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, f)
}

// trim removes dropped requests from the front.
func (q *queue) trim() {
	for q.head < len(q.items) && q.items[q.head].dropped {
		q.head++
	}
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
}

func (q *queue) front() (queued, bool) {
	if q.head == len(q.items) {
		return queued{}, false
	}
	return q.items[q.head], true
}

func (q *queue) pop() {
	q.head++
	q.trim()
}
