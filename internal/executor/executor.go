// Package executor runs the requests of placed engines on instances of a core. A worker process
// uses it, and so does a host that has no worker. So in both places the same code runs the same
// bytes of a request, and answers with the same bytes.
package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// Instance is an instance of a core: a [wasm.Instance], or a toy in a simulation.
type Instance interface {
	BeginOpen(context.Context, wasm.Limits) error
	BeginRestore(context.Context) error
	Feed(context.Context, []byte) error
	Ready(context.Context) error
	Dispatch(context.Context, *wasm.Action) (wasm.Reply, error)
	Batch(ctx context.Context, actions []wasm.Action, atomic bool) ([]wasm.Member, wasm.Reply, error)
	Snapshot(context.Context, func(chunk []byte) error) error
	State(context.Context, func(chunk []byte) error) error
	Digest(context.Context) (uint64, error)
	Memory() uint64
	Close(context.Context) error
}

// Out takes the answers. An [ipc.Writer] is one.
type Out interface {
	Append(h ipc.Header, parts ...[]byte) int
	// Flush writes the finished answers. It is called before a request that may take long, so that
	// they do not wait for it.
	Flush()
	// Drain waits while more than limit bytes wait to be written. It is called after each chunk of
	// a stream.
	Drain(limit int)
}

const (
	// slow is the run time above which an action is slow. Finished answers are written before a
	// slow action runs.
	slow = 20 * time.Microsecond
	// maxTimings is the greatest number of actions whose run times are kept.
	maxTimings = 4096
	// streamed is the most bytes of a stream that may wait to be written.
	streamed = 4 << 20
)

// Executor runs the requests of any number of engines, one at a time.
type Executor struct {
	instantiate func(context.Context) (Instance, error)
	out         Out
	maxFrame    int
	timings     map[string]*timing
	epoch       time.Time
	// mark is the time at which the last request ended, counted from epoch; 0 if there was a pause
	// since.
	mark time.Duration
	last time.Duration // the run time of the last request
	// The fields below are buffers that are reused between requests.
	head, tail, table []byte
	parts             [][]byte
	members           []ipc.BatchMember
	actions           []wasm.Action
	running           wasm.Action
}

// timing is the name of an action, and the run time of its last request.
type timing struct {
	name string
	last time.Duration
}

// New returns an executor that answers to out, in frames of at most maxFrame bytes.
func New(instantiate func(context.Context) (Instance, error), out Out, maxFrame int) *Executor {
	return &Executor{instantiate: instantiate, out: out, maxFrame: maxFrame, timings: map[string]*timing{},
		epoch: time.Now()}
}

// Paused tells the executor that time has passed since the last request. Without a pause, a
// request begins when the last one ends, and the clock is read once for both.
func (x *Executor) Paused() { x.mark = 0 }

func (x *Executor) start() {
	if x.mark == 0 {
		x.mark = time.Since(x.epoch)
	}
}

func (x *Executor) elapsed() time.Duration {
	now := time.Since(x.epoch)
	took := now - x.mark
	x.mark, x.last = now, took
	return took
}

// Slow reports whether the last request took so long that the next one may, too.
func (x *Executor) Slow() bool { return x.last > slow }

// timing returns the timing of an action. An action that has not run yet counts as slow.
func (x *Executor) timing(name []byte) *timing {
	if t := x.timings[string(name)]; t != nil {
		return t
	}
	t := &timing{name: string(name), last: slow + 1}
	if len(x.timings) < maxTimings {
		x.timings[t.name] = t
	}
	return t
}

// Engine is one placement of an engine.
type Engine struct {
	x         *Executor
	placement uint64
	instance  Instance
	sequence  uint64
	ready     bool
}

// Engine returns a placement that no request has opened yet.
func (x *Executor) Engine(placement uint64) *Engine { return &Engine{x: x, placement: placement} }

// Close frees the instance, if there is one. Later requests are answered with not_placed.
func (e *Engine) Close() {
	if e.instance != nil {
		_ = e.instance.Close(context.Background())
	}
	e.instance, e.ready = nil, false
}

// Memory returns the size of the instance's linear memory, in bytes.
func (e *Engine) Memory() uint64 {
	if e.instance == nil {
		return 0
	}
	return e.instance.Memory()
}

// Run runs a request and appends its answer. It fails with a [*ipc.MalformedError] if the request
// breaks the protocol; then there is no answer. If ctx ends while an interruptible core runs, the
// answer is a failure with CodeInterrupted, and the placement is lost.
func (e *Engine) Run(ctx context.Context, h ipc.Header, body []byte) error {
	switch h.Kind {
	case ipc.Dispatch:
		return e.dispatch(ctx, h, body)
	case ipc.Open:
		return e.open(ctx, h, body)
	}
	e.x.out.Flush()
	e.x.start()
	switch h.Kind {
	case ipc.Feed:
		piece, err := ipc.ReadPiece(body)
		if err != nil {
			return err
		}
		e.runPlacingStep(h, func() error { return e.instance.Feed(ctx, piece) })
	case ipc.Ready:
		e.runPlacingStep(h, func() error { return e.finishFeeding(ctx) })
	case ipc.Replay:
		return e.replay(ctx, h, body)
	case ipc.Batch:
		return e.batch(ctx, h, body)
	case ipc.Snapshot:
		e.stream(ctx, h, Instance.Snapshot)
	case ipc.State:
		e.stream(ctx, h, Instance.State)
	case ipc.Digest:
		e.digest(ctx, h)
	default:
		return &ipc.MalformedError{Message: fmt.Sprintf("a frame of %v is for no engine", h.Kind)}
	}
	return nil
}

// answer appends the answer to a request that succeeded.
func (e *Engine) answer(h ipc.Header, flags ipc.Flags, o ipc.Outcome) {
	o.Sequence, o.Memory = e.sequence, e.Memory()
	e.x.head = o.AppendHead(e.x.head[:0])
	e.x.tail = ipc.AppendBytes(e.x.tail[:0], len(o.Events))
	if n := ipc.HeaderSize + len(e.x.head) + len(o.Result) + len(e.x.tail) + len(o.Events); n > e.x.maxFrame {
		// The answer can't be sent, so the journal does not get the action. Its changes are
		// dropped together with the placement.
		e.fail(h, time.Duration(o.RunTime), true, ipc.Failure{Code: "too_large", Index: -1,
			Message: fmt.Sprintf("its answer has %d bytes, %d are allowed (MaxFrame)", n, e.x.maxFrame)})
		return
	}
	parts := append(e.x.parts[:0], e.x.head, o.Result, e.x.tail, o.Events)
	e.x.out.Append(ipc.Header{Kind: ipc.Answer, Flags: flags, Request: h.Request, Placement: e.placement}, parts...)
	clear(parts) // they point into the instance's memory
	e.x.parts = parts
}

// fail appends a failure as the answer. If lost is true, the placement is lost and its instance is
// freed.
func (e *Engine) fail(h ipc.Header, took time.Duration, lost bool, f ipc.Failure) {
	flags := ipc.FlagFailed
	if lost {
		e.Close()
		flags |= ipc.FlagLost
	}
	f.RunTime, f.Sequence, f.Memory = uint64(took), e.sequence, e.Memory()
	e.x.head = f.Append(e.x.head[:0])
	e.x.out.Append(ipc.Header{Kind: ipc.Answer, Flags: flags, Request: h.Request, Placement: e.placement}, e.x.head)
}

// failure turns an error of the instance into a failure, and returns whether the instance is lost.
func failure(err error) (f ipc.Failure, lost bool) {
	var trap *wasm.TrapError
	lost = errors.As(err, &trap)
	var action *wasm.ActionError
	switch {
	case lost && trap.Interrupted:
		return ipc.Failure{Code: CodeInterrupted, Message: trap.Error(), Index: -1}, true
	case errors.As(err, &action):
		return ipc.Failure{Code: action.Code, Message: action.Message, Index: int64(action.Index)}, lost
	}
	return ipc.Failure{Code: ipc.CodeNotPlaced, Message: err.Error(), Index: -1}, true
}

// CodeInterrupted is the code of a failure if the context ended while an interruptible core ran.
const CodeInterrupted = "interrupted"

// failWith answers with an error of the instance.
func (e *Engine) failWith(h ipc.Header, took time.Duration, err error) {
	f, lost := failure(err)
	e.fail(h, took, lost, f)
}

// refuseUnlessReady answers with not_placed, and returns true, if the engine is not open.
func (e *Engine) refuseUnlessReady(h ipc.Header) bool {
	if e.ready {
		return false
	}
	e.fail(h, 0, true, ipc.Failure{Code: ipc.CodeNotPlaced, Index: -1,
		Message: fmt.Sprintf("%v: the placement %d is not open", h.Kind, e.placement)})
	return true
}

func (e *Engine) open(ctx context.Context, h ipc.Header, body []byte) error {
	o, err := ipc.ReadOpen(body)
	if err != nil {
		return err
	}
	if e.instance != nil {
		return &ipc.MalformedError{Message: fmt.Sprintf("the placement %d is opened twice", e.placement)}
	}
	e.x.out.Flush()
	e.x.start()
	e.sequence = o.Sequence
	if e.instance, err = e.x.instantiate(ctx); err != nil {
		e.instance = nil
		e.fail(h, e.x.elapsed(), true, ipc.Failure{Code: ipc.CodeNotPlaced, Message: err.Error(), Index: -1})
		return nil
	}
	e.runPlacingStep(h, func() error {
		if o.Snapshot {
			return e.instance.BeginRestore(ctx)
		}
		return e.instance.BeginOpen(ctx, wasm.Limits{MaxStateBytes: o.MaxStateBytes, MaxResult: o.MaxResult,
			MaxDepth: o.MaxDepth})
	})
	return nil
}

// runPlacingStep runs a step of a placing, and answers. Any failure loses the placement.
func (e *Engine) runPlacingStep(h ipc.Header, step func() error) {
	if e.instance == nil {
		e.refuseUnlessReady(h)
		return
	}
	if err := step(); err != nil {
		f, _ := failure(err)
		e.fail(h, e.x.elapsed(), true, f)
		return
	}
	e.answer(h, 0, ipc.Outcome{RunTime: uint64(e.x.elapsed())})
}

// finishFeeding opens the engine with the state that was fed. Only the first call does so; later
// ones do nothing.
func (e *Engine) finishFeeding(ctx context.Context) error {
	if e.ready {
		return nil
	}
	err := e.instance.Ready(ctx)
	e.ready = err == nil
	return err
}

// replay runs entries of a journal again. Each result must have the checksum of the result that
// was acknowledged.
func (e *Engine) replay(ctx context.Context, h ipc.Header, body []byte) error {
	if e.instance == nil {
		e.refuseUnlessReady(h)
		return nil
	}
	if err := e.finishFeeding(ctx); err != nil {
		f, _ := failure(err)
		e.fail(h, e.x.elapsed(), true, f)
		return nil
	}
	for n := int64(0); len(body) > 0; n++ {
		entry, rest, err := ipc.ReadEntry(body)
		if err != nil {
			return err
		}
		e.x.running = e.action(&entry.Action)
		reply, err := e.instance.Dispatch(ctx, &e.x.running)
		if err != nil && isTrap(err) {
			e.failWith(h, e.x.elapsed(), err)
			return nil
		}
		switch sum := xxhash.Sum64(reply.Result); {
		case err != nil:
			e.failDiverged(h, n, fmt.Sprintf("it was acknowledged, and now fails: %v", err))
			return nil
		case sum != entry.Checksum:
			e.failDiverged(h, n, fmt.Sprintf("its result has the checksum %016x, %016x was acknowledged", sum,
				entry.Checksum))
			return nil
		}
		e.sequence++
		body = rest
	}
	e.answer(h, 0, ipc.Outcome{RunTime: uint64(e.x.elapsed())})
	return nil
}

// failDiverged answers a replay if its n-th entry did not give the acknowledged result.
func (e *Engine) failDiverged(h ipc.Header, n int64, how string) {
	e.fail(h, e.x.elapsed(), true, ipc.Failure{Code: ipc.CodeDiverged, Index: n,
		Message: fmt.Sprintf("sequence %d, %s: %s", e.sequence+1, e.x.running.Type, how)})
}

func isTrap(err error) bool {
	var trap *wasm.TrapError
	return errors.As(err, &trap)
}

func (e *Engine) action(a *journal.Action) wasm.Action {
	return wasm.Action{Now: a.Now, Entropy: a.Entropy, Type: e.x.timing(a.Type).name, Payload: a.Payload}
}

func (e *Engine) conflict(a *journal.Action) error {
	if !a.Conditional || a.IfSequence == e.sequence {
		return nil
	}
	return &wasm.ActionError{Code: ipc.CodeConflict, Index: -1,
		Message: fmt.Sprintf("the engine has the sequence %d, not %d", e.sequence, a.IfSequence)}
}

func (e *Engine) dispatch(ctx context.Context, h ipc.Header, body []byte) error {
	in, err := ipc.ReadAction(body)
	if err != nil {
		return err
	}
	if e.refuseUnlessReady(h) {
		return nil
	}
	t := e.x.timing(in.Type)
	if t.last > slow {
		e.x.out.Flush()
	}
	if err := e.conflict(&in); err != nil {
		e.failWith(h, 0, err)
		return nil
	}
	e.x.start()
	e.x.running = wasm.Action{Now: in.Now, Entropy: in.Entropy, Type: t.name, Payload: in.Payload}
	reply, err := e.instance.Dispatch(ctx, &e.x.running)
	t.last = e.x.elapsed()
	if err != nil {
		e.failWith(h, t.last, err)
		return nil
	}
	flags := ipc.Flags(0)
	if reply.Changed {
		flags = ipc.FlagChanged
	}
	if reply.Changed || h.Flags&ipc.FlagJournaled != 0 {
		e.sequence++
	}
	e.answer(h, flags, ipc.Outcome{RunTime: uint64(t.last), Checksum: xxhash.Sum64(reply.Result), Result: reply.Result,
		Events: reply.Events})
	return nil
}

func (e *Engine) batch(ctx context.Context, h ipc.Header, body []byte) (err error) {
	x := e.x
	if x.members, err = ipc.ReadBatch(body, x.members[:0]); err != nil {
		return err
	}
	if e.refuseUnlessReady(h) {
		return nil
	}
	x.actions = x.actions[:0]
	for k := range x.members {
		if err := e.conflict(&x.members[k].Action); err != nil {
			// A batch is one request: the condition of a member is checked before the whole batch
			// runs.
			f, _ := failure(err)
			f.Index = int64(k)
			e.fail(h, 0, false, f)
			return nil
		}
		x.actions = append(x.actions, e.action(&x.members[k].Action))
	}
	members, reply, err := e.instance.Batch(ctx, x.actions, h.Flags&ipc.FlagAtomic != 0)
	took := x.elapsed()
	if err != nil {
		e.failWith(h, took, err)
		return nil
	}
	flags := ipc.Flags(0)
	if reply.Changed {
		flags = ipc.FlagChanged
	}
	x.table = x.table[:0]
	for k, m := range members {
		o := ipc.MemberOutcome{Changed: m.Changed, Result: m.Result}
		if m.Err != nil {
			o = ipc.MemberOutcome{Code: m.Err.Code, Message: m.Err.Message}
		} else {
			o.Checksum = xxhash.Sum64(m.Result)
			if m.Changed || x.members[k].Journaled {
				e.sequence++
			}
		}
		x.table = o.Append(x.table)
	}
	e.answer(h, flags, ipc.Outcome{RunTime: uint64(took), Checksum: xxhash.Sum64(x.table), Result: x.table,
		Events: reply.Events})
	return nil
}

// stream sends a snapshot or a state in chunks, and then the answer.
func (e *Engine) stream(ctx context.Context, h ipc.Header,
	of func(Instance, context.Context, func([]byte) error) error) {
	if e.refuseUnlessReady(h) {
		return
	}
	err := of(e.instance, ctx, func(chunk []byte) error {
		e.x.head = ipc.AppendBytes(e.x.head[:0], len(chunk))
		e.x.out.Append(ipc.Header{Kind: ipc.Chunk, Request: h.Request, Placement: e.placement}, e.x.head, chunk)
		e.x.out.Drain(streamed)
		return nil
	})
	if err != nil {
		e.failWith(h, e.x.elapsed(), err)
		return
	}
	e.answer(h, 0, ipc.Outcome{RunTime: uint64(e.x.elapsed())})
}

func (e *Engine) digest(ctx context.Context, h ipc.Header) {
	if e.refuseUnlessReady(h) {
		return
	}
	digest, err := e.instance.Digest(ctx)
	took := e.x.elapsed()
	if err != nil {
		e.failWith(h, took, err)
		return
	}
	var b [8]byte
	for k := range b {
		b[k] = byte(digest >> (8 * k))
	}
	e.answer(h, 0, ipc.Outcome{RunTime: uint64(took), Checksum: xxhash.Sum64(b[:]), Result: b[:]})
}
