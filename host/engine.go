package host

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/wasm"
)

// Engine is one game. Its actions run one after the other, in the order in which they got their turn.
type Engine struct {
	host *Host
	name string
	// turn holds a token while the engine is free; whoever takes it owns everything below but what mu guards.
	turn     chan struct{}
	random   *rand.ChaCha8
	journal  *journal
	instance *wasm.Instance
	broken   error
	closed   bool

	// placed and used are read by the host to find an idle engine.
	placed atomic.Bool
	used   atomic.Int64

	mu      sync.Mutex // guards what follows
	cancel  context.CancelCauseFunc
	stopped error
}

func newEngine(h *Host, name string) *Engine {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	return &Engine{host: h, name: name, turn: make(chan struct{}, 1), random: rand.NewChaCha8(seed)}
}

// start opens a new engine from its setup, or takes up a stored one. The engine's turn is not free before.
func (e *Engine) start(ctx context.Context, stored *journal, o EngineOptions) error {
	defer e.release()
	if stored != nil {
		e.journal = stored
		return nil
	}
	setup, err := encode(o.Setup)
	if err != nil {
		return fmt.Errorf("EngineOptions.Setup: %w", err)
	}
	e.journal = &journal{base: append([]byte(nil), setup...)}
	what := fmt.Sprintf("open %q", e.name)
	ctx, done := e.begin(ctx)
	defer done()
	if err := e.host.slot(ctx); err != nil {
		return ended(ctx, what)
	}
	ctx, cancel := e.openTimeout(ctx)
	defer cancel()
	if err := e.tryPlace(ctx); err != nil {
		return e.failure(ctx, what, err)
	}
	return nil
}

// openTimeout bounds a placing.
func (e *Engine) openTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return e.bounded(ctx, e.host.options.OpenTimeout, "OpenTimeout")
}

// bounded adds a limit to a context: a timeout, and the name of its option.
func (e *Engine) bounded(ctx context.Context, timeout time.Duration, limit string) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return ctx, func() {}
	}
	cause := &Error{Code: ErrTimeout.Code, Message: fmt.Sprintf("not done after %v (%s)", timeout, limit), Err: context.DeadlineExceeded}
	return context.WithTimeoutCause(ctx, timeout, ownCause{cause})
}

// Name returns the engine's name.
func (e *Engine) Name() string { return e.name }

func (e *Engine) tryAcquire() bool {
	select {
	case <-e.turn:
		return true
	default:
		return false
	}
}

// acquire waits for the engine's turn.
func (e *Engine) acquire(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return ended(ctx, what)
	}
	select {
	case <-e.turn:
	case <-ctx.Done():
		return ended(ctx, what)
	}
	if e.closed {
		e.release()
		return &Error{Code: ErrShutdown.Code, Message: fmt.Sprintf("%s: the engine %q is closed", what, e.name)}
	}
	return nil
}

func (e *Engine) release() {
	e.turn <- struct{}{}
	e.host.wake()
}

// begin lets interrupt end what follows.
func (e *Engine) begin(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cancel = cancel
	if e.stopped != nil {
		cancel(e.stopped)
	}
	return ctx, func() { cancel(nil) }
}

// interrupt ends what runs on the engine, and whatever would run later.
func (e *Engine) interrupt(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = cause
	if e.cancel != nil {
		e.cancel(cause)
	}
}

// run gives f the engine's turn and a placed instance. Where f loses the instance, the error is that of the action, and
// the next turn places the engine anew from its journal.
func (e *Engine) run(ctx context.Context, what string, f func(ctx context.Context, i *wasm.Instance) error) error {
	if e.host.closing.Load() {
		return shutdownError()
	}
	ctx, done := e.bounded(ctx, e.host.options.Timeout, "Timeout")
	defer done()
	if err := e.acquire(ctx, what); err != nil {
		return err
	}
	if e.instance == nil {
		if kept, err := e.placeFor(ctx, what); err != nil {
			if kept {
				e.release()
			}
			return err
		}
	}
	defer e.release()
	ctx, finish := e.begin(ctx)
	defer finish()
	if ctx.Err() != nil {
		// It may have ended while the engine's turn came: a call would only cost the instance.
		return ended(ctx, what)
	}
	e.used.Store(e.host.tick.Add(1))
	err := f(ctx, e.instance)
	if err != nil {
		err = e.failure(ctx, what, err)
	}
	if e.instance != nil && e.instance.Ended() {
		e.drop()
	}
	return err
}

// placeFor places the engine for a caller that may give up first: placing has a limit of its own and goes on, so that
// impatient callers do not keep an engine from ever being placed. Where the caller gave up, it does not keep the
// engine's turn, which is free again once the placing has ended.
func (e *Engine) placeFor(ctx context.Context, what string) (kept bool, err error) {
	placed := make(chan error, 1)
	go func() { placed <- e.place(context.WithoutCancel(ctx)) }()
	select {
	case err := <-placed:
		return true, err
	case <-ctx.Done():
		go func() {
			<-placed
			e.release()
		}()
		return false, ended(ctx, what)
	}
}

// failure takes the instance away where it was lost, and makes the error that the caller sees.
func (e *Engine) failure(ctx context.Context, what string, err error) error {
	var trap *wasm.TrapError
	if errors.As(err, &trap) {
		e.drop()
		e.host.options.Logger.Warn("an engine lost its instance", "engine", e.name, "action", what, "error", trap.Err)
	}
	var action *ActionError
	switch {
	case trap != nil && trap.Interrupted:
		return ended(ctx, what)
	case errors.As(err, &action):
		return action
	case ctx.Err() != nil:
		return ended(ctx, what)
	}
	return err
}

// drop frees the instance, if there is one, and its slot.
func (e *Engine) drop() {
	if e.instance != nil {
		_ = e.instance.Close(context.Background())
		e.instance = nil
		e.placed.Store(false)
		e.host.slots <- struct{}{}
	}
}

// place gives the engine an instance with its newest state. An engine that can't be placed after MaxAttempts is broken.
func (e *Engine) place(ctx context.Context) error {
	if e.broken != nil {
		return e.broken
	}
	ctx, done := e.begin(ctx)
	defer done()
	what := fmt.Sprintf("placing %q", e.name)
	var err error
	for range e.host.options.MaxAttempts {
		if e.host.slot(ctx) != nil {
			return ended(ctx, what)
		}
		attempt, cancel := e.openTimeout(ctx)
		if err = e.tryPlace(attempt); err != nil && ctx.Err() == nil && attempt.Err() != nil {
			err = ended(attempt, what)
		}
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ended(ctx, what)
		}
	}
	e.broken = &Error{
		Code:    ErrBroken.Code,
		Message: fmt.Sprintf("the engine %q could not be placed %d times (MaxAttempts), Reopen tries again: %v", e.name, e.host.options.MaxAttempts, err),
		Err:     err,
	}
	e.host.options.Logger.Error("an engine is broken", "engine", e.name, "error", err)
	return e.broken
}

// tryPlace restores the base and replays the journal into a fresh instance. The slot that the caller has got goes with
// the instance, or is free again.
func (e *Engine) tryPlace(ctx context.Context) (err error) {
	i, err := e.host.core.Instantiate(ctx)
	if err != nil {
		e.host.slots <- struct{}{}
		return err
	}
	e.instance = i
	e.placed.Store(true)
	e.used.Store(e.host.tick.Add(1))
	defer func() {
		if err != nil {
			e.drop()
		}
	}()
	start, replayed := time.Now(), 0
	if e.journal.snapshot {
		err = i.Restore(ctx, e.journal.base)
	} else {
		err = i.Open(ctx, e.host.options.limits(), e.journal.base)
	}
	if err != nil {
		return err
	}
	for entry := range e.journal.all() {
		if err := replay(ctx, i, &entry); err != nil {
			return err
		}
		replayed++
	}
	if i.Ended() {
		return context.Cause(ctx)
	}
	e.host.options.Logger.Debug("engine placed", "engine", e.name, "sequence", e.journal.sequence,
		"replayed", replayed, "took", time.Since(start), "memory", i.Memory())
	return nil
}

// replay runs an entry again and holds its result against the one that was acknowledged.
func replay(ctx context.Context, i *wasm.Instance, entry *Entry) error {
	r, err := i.Dispatch(ctx, &wasm.Action{Now: entry.Now, Entropy: entry.Entropy, Type: entry.Type, Payload: entry.Payload})
	diverged := func(format string, args ...any) error {
		return &Error{Code: ErrDiverged.Code, Err: err,
			Message: fmt.Sprintf("sequence %d, %s: ", entry.Sequence, entry.Type) + fmt.Sprintf(format, args...)}
	}
	var trap *wasm.TrapError
	switch {
	case errors.As(err, &trap):
		return err
	case err != nil:
		return diverged("it was acknowledged, and now fails: %v", err)
	case xxhash.Sum64(r.Result) != entry.Checksum:
		return diverged("its result has the checksum %016x, %016x was acknowledged", xxhash.Sum64(r.Result), entry.Checksum)
	}
	return nil
}

// stamp gives an action its clock and its entropy, where it has none.
func (e *Engine) stamp(d *dispatch) {
	if !d.now {
		d.nowTime = e.host.options.Clock()
	}
	d.action.Now = d.nowTime.UnixMilli()
	if !d.entropy {
		binary.LittleEndian.PutUint64(d.action.Entropy[:], e.random.Uint64())
		binary.LittleEndian.PutUint64(d.action.Entropy[8:], e.random.Uint64())
	}
}

// Dispatch runs an action and waits for its result. payload is a map, a struct, anything that encodes to a MessagePack
// map, or [Raw]; nil is an empty map.
//
// An error means that the action had no effect: an [*ActionError] from the core, [ErrTimeout] after Options.Timeout or
// at the context's deadline, [ErrCanceled], [ErrPayloadTooLarge], [ErrBroken], [ErrShutdown], or [ErrBadInput] for what
// can't be encoded.
func (e *Engine) Dispatch(ctx context.Context, actionType string, payload any, opts ...DispatchOption) (Result, error) {
	d, err := e.host.prepare(actionType, payload, opts)
	if err != nil {
		return Result{}, err
	}
	var result Result
	err = e.run(ctx, actionType, func(ctx context.Context, i *wasm.Instance) error {
		e.stamp(d)
		start := time.Now()
		r, err := i.Dispatch(ctx, &d.action)
		if err != nil {
			return err
		}
		result = Result{Changed: r.Changed, Raw: append(Raw(nil), r.Result...)}
		if r.Changed {
			e.commit(ctx, committed{&d.action, xxhash.Sum64(r.Result), time.Since(start)})
		}
		result.Sequence = e.journal.sequence
		return nil
	})
	return result, err
}

// commit appends a group to the journal: from here on it is acknowledged. Then it takes a snapshot, if one is due.
func (e *Engine) commit(ctx context.Context, group ...committed) {
	e.journal.append(group...)
	if e.journal.due(&e.host.options) {
		e.snapshot(ctx)
	}
}

// snapshot replaces the base by the state as it is. A failure costs nothing but a longer replay.
func (e *Engine) snapshot(ctx context.Context) {
	// What is committed stays so, whatever becomes of the caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.host.options.OpenTimeout)
	defer cancel()
	var b []byte
	err := e.instance.Snapshot(ctx, func(chunk []byte) error {
		b = append(b, chunk...)
		return nil
	})
	if err != nil {
		var trap *wasm.TrapError
		if errors.As(err, &trap) {
			e.drop()
		}
		e.host.options.Logger.Warn("no snapshot could be taken", "engine", e.name, "error", err)
		return
	}
	e.journal.replace(b)
	e.host.options.Logger.Debug("snapshot taken", "engine", e.name, "sequence", e.journal.sequence, "bytes", len(b))
}

// takeOut frees the instance; the journal, a snapshot for what it has grown by, stays.
func (e *Engine) takeOut(ctx context.Context) {
	if e.instance == nil {
		return
	}
	if len(e.journal.entries) > 0 {
		e.snapshot(ctx)
	}
	e.drop()
}

// State returns the whole state as one value: a map of agents, gameLoop, gameState, locked, stack, zones and so on.
func (e *Engine) State(ctx context.Context) (Result, error) {
	var result Result
	err := e.run(ctx, "State", func(ctx context.Context, i *wasm.Instance) error {
		result = Result{Sequence: e.journal.sequence}
		return i.State(ctx, func(chunk []byte) error {
			result.Raw = append(result.Raw, chunk...)
			return nil
		})
	})
	if err != nil {
		return Result{}, err
	}
	return result, nil
}

// Digest is a 64-bit hash over a canonical state: equal states have equal digests.
type Digest uint64

// String returns the digest as 16 hexadecimal digits.
func (d Digest) String() string { return fmt.Sprintf("%016x", uint64(d)) }

// Digest returns the digest of the state.
func (e *Engine) Digest(ctx context.Context) (Digest, error) {
	var digest uint64
	err := e.run(ctx, "Digest", func(ctx context.Context, i *wasm.Instance) (err error) {
		digest, err = i.Digest(ctx)
		return err
	})
	return Digest(digest), err
}

// Journal returns the actions committed since the engine's last snapshot, oldest first, as they are now. A broken
// engine's can be read too.
func (e *Engine) Journal(ctx context.Context) (iter.Seq[Entry], error) {
	if err := e.acquire(ctx, "Journal"); err != nil {
		return nil, err
	}
	defer e.release()
	entries := e.journal.all()
	return func(yield func(Entry) bool) {
		for entry := range entries {
			entry.Payload = bytes.Clone(entry.Payload)
			if !yield(entry) {
				return
			}
		}
	}, nil
}

// Reopen makes a broken engine try again to place itself.
func (e *Engine) Reopen(ctx context.Context) error {
	if err := e.acquire(ctx, "Reopen"); err != nil {
		return err
	}
	e.broken = nil
	if e.instance == nil {
		if kept, err := e.placeFor(ctx, "Reopen"); !kept {
			return err
		} else if err != nil {
			e.release()
			return err
		}
	}
	e.release()
	return nil
}

// Close takes the engine out and keeps its journal under its name, from which Host.Open loads it. Calls that wait for
// their turn, and later ones, fail with [ErrShutdown].
func (e *Engine) Close(ctx context.Context) error {
	if err := e.acquire(ctx, "Close"); err != nil {
		return err
	}
	defer e.release()
	e.takeOut(ctx)
	e.closed = true
	e.host.mu.Lock()
	defer e.host.mu.Unlock()
	delete(e.host.engines, e.name)
	e.host.stored[e.name] = e.journal
	return nil
}
