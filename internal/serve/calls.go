package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"hypertoken/host"
	"hypertoken/internal/calls"
	"hypertoken/internal/driver"
	"hypertoken/internal/fault"
	"hypertoken/internal/payload"
	"hypertoken/internal/peers"
	"hypertoken/internal/seam"
)

// How calls of applications are answered, by the node that has the engine.

// maxCalls bounds the bytes of calls that come together. A call may have the base of an engine
// with it.
const maxCalls = 1 << 30

// Call has calls about an engine answered, here or on the node that has it, in their order. It
// answers each of them. ctx bounds the search for the node; each call has its own context.
// Payloads that go to another node are encoded within limits.
func (s *Server) Call(ctx context.Context, name string, list []*calls.Call, limits payload.Limits) []*calls.Answer {
	b := &bundle{server: s, name: name, list: list, answers: make([]*calls.Answer, len(list)), limits: limits}
	t := trip{name: name, what: "call", hasKey: true, isRead: true, within: lineTime,
		here:  func() error { return b.here(ctx) },
		there: func(to peers.Owner) error { return b.there(ctx, to) }}
	for k, c := range list {
		b.waiting = append(b.waiting, k)
		if c.Timeout > 0 {
			t.within = min(t.within, c.Timeout)
		}
		t.isRead, t.hasKey = t.isRead && c.IsRead(), t.hasKey && c.MayRepeat()
	}
	if deadline, ok := ctx.Deadline(); ok {
		t.within = min(t.within, time.Until(deadline))
	}
	if err := s.carry(ctx, t); err != nil {
		if ctx.Err() != nil && (errors.Is(err, host.ErrCanceled) || errors.Is(err, host.ErrTimeout)) {
			err = fault.Ended(ctx, list[0].What)
		}
		for _, k := range b.waiting {
			b.answers[k] = &calls.Answer{Err: b.truth(list[k], err)}
		}
	}
	return b.answers
}

// bundle has calls that are on their way together.
type bundle struct {
	server  *Server
	name    string
	list    []*calls.Call
	answers []*calls.Answer
	waiting []int // the calls without an answer, by their index
	limits  payload.Limits
	// isLost says that the calls without an answer were sent, and may have run on a node that went
	// away.
	isLost bool
}

// afterLoss are the codes of errors that say of a call which may have run before that it has not:
// who answers with one has looked for the key.
var afterLoss = []string{host.ErrConflict.Code, host.ErrKeyReused.Code, host.ErrPoisoned.Code, host.ErrBadInput.Code,
	host.ErrPayloadTooLarge.Code}

// truth returns the error of a call. If the call may have run before, and the error does not say
// that it has not, that is not known.
func (b *bundle) truth(c *calls.Call, err error) error {
	var own *host.Error
	if err == nil || !b.isLost || c.IsRead() || !errors.As(err, &own) || slices.Contains(afterLoss, own.Code) {
		return err
	}
	return host.ErrOutcomeUnknown.Because(err, "%s: it was sent to a node that went away, and then: %v", c.What, err)
}

// open returns the calls without an answer.
func (b *bundle) open() (list []*calls.Call) {
	for _, k := range b.waiting {
		list = append(list, b.list[k])
	}
	return list
}

// take takes in the answers to the calls without one. It fails if another node may have the
// engine.
func (b *bundle) take(answers []*calls.Answer) (elsewhere error) {
	var again []int
	for i, a := range answers {
		k := b.waiting[i]
		if a.Moved {
			again = append(again, k)
			elsewhere = a.Err
			continue
		}
		a.Err = b.truth(b.list[k], a.Err)
		b.answers[k] = a
	}
	b.waiting = again
	return elsewhere
}

// dropEnded answers the calls whose contexts have ended. It reports whether others are left.
func (b *bundle) dropEnded() bool {
	b.waiting = slices.DeleteFunc(b.waiting, func(k int) bool {
		c := b.list[k]
		if c.Context == nil || c.Context.Err() == nil {
			return false
		}
		b.answers[k] = &calls.Answer{Err: b.truth(c, fault.Ended(c.Context, c.What))}
		return true
	})
	return len(b.waiting) > 0
}

// here has this node answer.
func (b *bundle) here(ctx context.Context) (elsewhere error) {
	if !b.dropEnded() {
		return nil
	}
	answers, err := b.server.callHere(ctx, b.name, b.open())
	if err != nil {
		return err
	}
	return b.take(answers)
}

// there has another node answer. It fails as [peers.Peers.Send] does.
func (b *bundle) there(ctx context.Context, to peers.Owner) error {
	if !b.dropEnded() {
		return nil
	}
	list := b.open()
	for i, c := range list {
		if err := c.Prepare(b.limits); err != nil { // calls that come together are prepared before
			b.answers[b.waiting[i]], b.waiting = &calls.Answer{Err: err}, nil
			return nil
		}
	}
	body, err := calls.Encode(list)
	if err != nil {
		return err
	}
	defer b.server.withdrawWith(list, to)()
	if body, err = b.server.o.Peers.Call(context.WithoutCancel(ctx), to, b.name, body); err != nil {
		b.isLost = b.isLost || errors.Is(err, peers.ErrLost)
		return err
	}
	answers, err := calls.DecodeAnswers(body, len(list))
	if err != nil {
		b.isLost = true
		return fmt.Errorf("%w: %w", peers.ErrLost, err)
	}
	if err := b.take(answers); err != nil {
		return &peers.MovedError{} // the node does not have the engine any more
	}
	return nil
}

// withdrawAgain is the wait before a node is asked again to withdraw a call that it did not know.
const withdrawAgain = 50 * time.Millisecond

// withdrawWith withdraws calls that were sent to a node once their contexts are canceled. A node
// sees by itself when their time is over. The caller calls stop once the node has answered.
func (s *Server) withdrawWith(list []*calls.Call, from peers.Owner) (stop func()) {
	waiting, end := context.WithCancel(context.Background())
	var stops []func() bool
	for _, c := range list {
		if c.Context == nil || c.Context.Done() == nil {
			continue
		}
		stops = append(stops, context.AfterFunc(c.Context, func() {
			if errors.Is(c.Context.Err(), context.DeadlineExceeded) {
				return
			}
			for {
				had, err := s.o.Peers.Withdraw(waiting, from, c.ID)
				if had || err != nil {
					return
				}
				select {
				case <-time.After(withdrawAgain):
				case <-waiting.Done():
					return
				}
			}
		}))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
		end()
	}
}

// answerCalls answers the calls of another node.
func (s *Server) answerCalls(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCalls))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	list, err := calls.Decode(body)
	if err != nil || len(list) == 0 {
		http.Error(w, fmt.Sprint("these are no calls: ", err), http.StatusBadRequest)
		return
	}
	// The calls run even if the other node goes away, as lines do.
	ctx := context.WithoutCancel(r.Context())
	for _, c := range list {
		if c.ID == "" {
			continue
		}
		var withdraw context.CancelFunc
		c.Context, withdraw = context.WithCancel(ctx)
		s.withdrawals.Store(c.ID, withdraw)
		defer s.withdrawals.Delete(c.ID)
		defer withdraw()
	}
	answers, err := s.callHere(ctx, peers.NameIn(r), list)
	if err != nil {
		s.o.Peers.Misdirected(w, err)
		return
	}
	if body, err = calls.EncodeAnswers(answers); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/msgpack")
	_, _ = w.Write(body) // if the other node is gone, it needs no answer
}

// withdrawCall withdraws a call that another node has sent.
func (s *Server) withdrawCall(w http.ResponseWriter, r *http.Request) {
	withdraw, ok := s.withdrawals.Load(r.PathValue("id"))
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	withdraw.(context.CancelFunc)()
	w.WriteHeader(http.StatusNoContent)
}

// callHere answers calls on this node. It fails if nothing of them was done, because another node
// may have the engine, or because this one ends.
func (s *Server) callHere(ctx context.Context, name string, list []*calls.Call) ([]*calls.Answer, error) {
	if s.draining.Err() != nil {
		return nil, failure(host.ErrShutdown.Code, "the node is stopping")
	}
	if c := list[0]; len(list) == 1 && c.Context != nil {
		ctx = c.Context
	}
	slot := s.o.Peers.SlotOf(name)
	if err := s.gates.enter(ctx, slot); err != nil {
		return nil, err
	}
	defer s.gates.leave(slot)
	if f := s.forHosts(list[0].Method); f != nil {
		a := f(ctx, name, list[0])
		if calls.IsElsewhere(a.Err) {
			return nil, a.Err
		}
		return []*calls.Answer{a}, nil
	}
	engine, done, err := s.engines.use(ctx, name)
	if err != nil {
		if elsewhere := elsewhereOf(err); elsewhere != nil {
			return nil, elsewhere
		}
		return answerAll(list, namedForHosts(name, err)), nil
	}
	defer done()
	answers := calls.Perform(ctx, seam.Behind(engine), list)
	for k, a := range answers {
		switch {
		case errors.Is(a.Err, host.ErrBroken):
			a.Moved = s.reopened(ctx, engine)
		case errors.Is(a.Err, host.ErrShutdown) && s.draining.Err() != nil:
			a.Moved = true
		}
		answers[k] = a
	}
	return answers, nil
}

// reopened reopens an engine that is broken because its journal could not be loaded while the
// store could not be used, and reports whether it is such an engine.
func (s *Server) reopened(ctx context.Context, engine *host.Engine) bool {
	_, err := engine.Digest(ctx) // a broken engine says why
	if elsewhereOf(err) == nil {
		return false
	}
	_ = engine.Reopen(ctx) // if it fails, the next attempt says so
	return true
}

// answerAll answers all calls with an error.
func answerAll(list []*calls.Call, err error) (answers []*calls.Answer) {
	for range list {
		answers = append(answers, &calls.Answer{Err: err})
	}
	return answers
}

// namedForHosts returns an error of this server's own as a host has it.
func namedForHosts(name string, err error) error {
	var own *host.Error
	if errors.As(err, &own) {
		switch own.Code {
		case codeNotFound:
			return host.ErrEngineNotFound.With("open %q: the store knows no engine of that name", name)
		case codeExists:
			return host.ErrEngineExists.With("open %q: the store knows an engine of that name already", name)
		}
	}
	return err
}

// forHosts returns what answers a call that is not about an engine that is there; nil for any
// other call.
func (s *Server) forHosts(m calls.Method) func(context.Context, string, *calls.Call) *calls.Answer {
	switch m {
	case calls.Open:
		return s.openForHost
	case calls.Fork:
		return s.forkForHost
	case calls.Delete:
		return s.deleteForHost
	}
	return nil
}

// openForHost opens the engine of a name, or creates it.
func (s *Server) openForHost(ctx context.Context, name string, c *calls.Call) *calls.Answer {
	for {
		if c.Opening != driver.OpenNew {
			_, done, err := s.engines.use(ctx, name)
			if err == nil {
				done()
				return &calls.Answer{}
			}
			if host.CodeOf(err) != codeNotFound || c.Opening == driver.OpenExisting {
				return &calls.Answer{Err: namedForHosts(name, err)}
			}
		}
		err := s.engines.make(ctx, name, netip.Prefix{}, host.EngineOptions{Snapshot: c.Base, Mode: host.OpenNew})
		if host.CodeOf(err) == codeExists && c.Opening != driver.OpenNew {
			continue // somebody has created it meanwhile
		}
		return &calls.Answer{Err: namedForHosts(name, err)}
	}
}

// forkForHost makes the engine of a name of the state of another one.
func (s *Server) forkForHost(ctx context.Context, name string, c *calls.Call) *calls.Answer {
	var p host.Position
	err := s.engines.onHost(ctx, func(h *host.Host) (err error) {
		p, err = h.Fork(ctx, c.From, c.Sequence, name)
		return err
	})
	r := calls.Result{Sequence: p.Sequence, HasDigest: true, Digest: uint64(p.Digest)}
	return &calls.Answer{Result: r, Err: err}
}

// deleteForHost deletes the engine of a name, if there is one.
func (s *Server) deleteForHost(ctx context.Context, name string, _ *calls.Call) *calls.Answer {
	err := s.engines.delete(ctx, name)
	if host.CodeOf(err) == codeNotFound {
		err = nil
	}
	return &calls.Answer{Err: err}
}
