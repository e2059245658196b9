package driver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/migration"
	"hypertoken/ipc"
	"hypertoken/journal"
)

// The state of an engine at a sequence of its past. A driver of its own is placed from the part of
// the journal that leads there. It is asked one question and closed. It never calls the store, and
// the engine itself, if it is placed, goes on meanwhile.

// StateAt returns the whole state that the engine had at a sequence, and its digest. It fails with
// ErrHistoryTrimmed if the store does not keep the journal that far back, and with ErrBadInput for
// a sequence beyond the newest. It takes no longer than OpenTimeout.
func (e *Driver) StateAt(ctx context.Context, sequence uint64) (Result, error) {
	return e.askPast(ctx, ipc.State, fmt.Sprintf("StateAt(%d)", sequence), sequence)
}

// DigestAt returns the digest of the state that the engine had at a sequence. It fails as StateAt
// does.
func (e *Driver) DigestAt(ctx context.Context, sequence uint64) (Result, error) {
	return e.askPast(ctx, ipc.Digest, fmt.Sprintf("DigestAt(%d)", sequence), sequence)
}

// askPast asks a question, State or Digest, of the state at a sequence. what names it in errors.
func (e *Driver) askPast(ctx context.Context, kind ipc.Kind, what string, sequence uint64) (Result, error) {
	if err := e.openError(what); err != nil {
		return Result{}, err
	}
	limited, cancel := e.engines.limitOpening(ctx)
	defer cancel()
	r, err := e.engines.askPast(limited, kind, what, e.name, sequence)
	return r, e.noteMoved(err)
}

// askPast asks a question of the state that an engine had at a sequence. The engine need not be open.
func (h *Engines) askPast(ctx context.Context, kind ipc.Kind, what, name string, sequence uint64) (Result, error) {
	s, err := h.loadAt(ctx, what, name, sequence)
	if err != nil {
		return Result{}, err
	}
	return h.askLoaded(ctx, kind, what, name, s)
}

// askLoaded asks a question, State, Digest or Snapshot, of the state that a part of the journal of
// a name leads to. The answer has the digest of the state.
func (h *Engines) askLoaded(ctx context.Context, kind ipc.Kind, what, name string, s *journal.Stored) (Result, error) {
	if err := h.beginPast(); err != nil {
		return Result{}, err
	}
	defer h.residents.Done()
	if s.Core != "" && s.Core != h.config.CoreHash {
		return h.askOldCore(ctx, kind, what, s)
	}
	p, err := h.newPast(fmt.Sprintf("%s at %d", name, s.Sequence+s.Count), s)
	if err != nil {
		return Result{}, err
	}
	defer p.stop()
	r, err := p.answerPast(ctx, kind, what, s)
	return r, h.pastError(what, err)
}

// openError returns ErrShutdown if the engine is closed, or ErrMoved if it has closed itself because
// another owner has its journal. what names the call.
func (e *Driver) openError(what string) error {
	select {
	case <-e.closed:
	default:
		return nil
	}
	if e.lostTo != nil {
		return fault.Moved(what, e.lostTo)
	}
	return fault.Shutdown()
}

// noteMoved ends the engine if an error of a call of the store says that another owner has its
// journal. It returns the error.
func (e *Driver) noteMoved(err error) error {
	if errors.Is(err, fault.ErrMoved) && !e.isPast {
		e.step(func(m *engine.Machine, now time.Duration) { m.Superseded(now, err) })
	}
	return err
}

// beginPast counts a question about the past, so that Shutdown waits for its end: the caller calls
// Done of residents. It fails with ErrShutdown if the host is closing.
func (h *Engines) beginPast() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosing {
		return fault.Shutdown()
	}
	h.residents.Add(1)
	return nil
}

// loadAt asks the store for the journal of a name up to a sequence, and waits.
func (h *Engines) loadAt(ctx context.Context, what, name string, sequence uint64) (*journal.Stored, error) {
	historian, err := h.historian(what)
	if err != nil {
		return nil, err
	}
	s, err := storeAnswer(ctx, what, func(done func(*journal.Stored, error)) {
		historian.LoadAt(name, sequence, done)
	})
	switch {
	case err != nil:
		return nil, historyError(what, err)
	case s == nil:
		return nil, fault.ErrEngineNotFound.With("%s: the store does not know the engine %q", what, name)
	case s.Sequence+s.Count != sequence:
		return nil, fmt.Errorf("%s: the store has read the journal up to the sequence %d", what, s.Sequence+s.Count)
	}
	return s, nil
}

// historyError gives the store's refusal to read a part of a history its code.
func historyError(what string, err error) error {
	code := fault.ErrBadInput
	switch {
	case errors.Is(err, fault.ErrMoved), errors.Is(err, fault.ErrBroken):
		return err
	case errors.Is(err, journal.ErrTrimmed):
		code = fault.ErrHistoryTrimmed
	case !errors.Is(err, journal.ErrRefused):
		return err
	}
	return code.Because(err, "%s: %s", what, strings.TrimPrefix(errors.Unwrap(err).Error(), "journal: "))
}

// newPast returns a driver for the state that a part of a journal leads to. The caller calls stop.
func (h *Engines) newPast(name string, s *journal.Stored) (*Driver, error) {
	p := h.newDriver(name, OpenOptions{})
	p.isPast = true
	p.m.ReadsPast(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosing {
		return nil, fault.Shutdown()
	}
	h.pasts[p] = true
	return p, nil
}

// answerPast asks a driver of the past a question. The bytes of its journal count in the host's
// queue until the question is answered.
func (p *Driver) answerPast(ctx context.Context, kind ipc.Kind, what string, s *journal.Stored) (Result, error) {
	c := newQuestion(ctx, p, kind, what)
	c.request.Allowed, c.request.Limit = 0, "" // the context is limited
	c.room.Size += int64(len(s.Data) + len(s.Entries))
	if kind != ipc.Digest {
		c.waitForDigest()
	}
	r, err := c.ask(ctx)
	if err == nil && kind == ipc.Digest {
		r = Result{Sequence: r.Sequence, HasDigest: true, Digest: binary.LittleEndian.Uint64(r.Raw)}
	}
	return r, err
}

// pastError says of a state that can't be placed why not. The engine itself is not broken.
func (h *Engines) pastError(what string, err error) error {
	var broken *fault.Error
	if !errors.As(err, &broken) || broken.Code != fault.ErrBroken.Code {
		return err
	}
	if fault.CodeOf(broken.Err) != "" {
		return fmt.Errorf("%s: %w", what, broken.Err)
	}
	return fault.ErrBroken.Because(broken.Err, "%s: the state could not be placed %d times (MaxAttempts): %v", what,
		h.config.Machine.MaxAttempts, broken.Err)
}

// askOldCore asks a question of the state that a journal of another core leads to. That core
// answers it, in this process.
func (h *Engines) askOldCore(ctx context.Context, kind ipc.Kind, what string, s *journal.Stored) (Result, error) {
	core, err := h.cores.find(ctx, h, what, s.Core)
	if err != nil {
		return Result{}, err
	}
	i, err := migration.Replay(ctx, what, s, core, h.config.Machine.Limits)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = i.Close(context.WithoutCancel(ctx)) }()
	r := Result{Sequence: s.Sequence + s.Count, HasDigest: true}
	add := func(chunk []byte) error {
		r.Raw = append(r.Raw, chunk...)
		return nil
	}
	if r.Digest, err = i.Digest(ctx); err == nil {
		switch kind {
		case ipc.State:
			err = i.State(ctx, add)
		case ipc.Snapshot:
			err = i.Snapshot(ctx, add)
		}
	}
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", what, err)
	}
	return r, nil
}
