package serve

import (
	"context"
	"errors"
	"net/http"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cluster"
	"hypertoken/internal/jsonl"
	"hypertoken/internal/peers"
)

// How a line of a client comes to the node of the cluster that has the engine: internal/cluster decides.

// In the machine of a line, this node and any other one.
const (
	thisNode  cluster.NodeID = 1
	otherNode cluster.NodeID = 2
)

// lineTime is how long a line that names no timeout may be on its way to the node that has its engine.
// An answer that takes longer is waited for.
const lineTime = 30 * time.Second

// lineRetry is the wait before a line is sent to the same owner again.
const lineRetry = 30 * time.Millisecond

// lineStep is what the machine of a line asks for.
type lineStep struct {
	isHere, isThere, hasEnded bool
	attempt                   int
	outcome                   cluster.LineOutcome
}

func (s *lineStep) RunHere(uint64) { s.isHere = true }

func (s *lineStep) Forward(_ cluster.NodeID, _ uint64, attempt int, _ bool) {
	s.isThere, s.attempt = true, attempt
}

func (s *lineStep) End(o cluster.LineOutcome) { s.hasEnded, s.outcome = true, o }

// trip is the way of a line, or of calls, to the node that has the engine of a name.
type trip struct {
	name string
	// what is on its way, for errors and the log.
	what string
	// hasKey says that it runs once however often it comes, isRead that it changes nothing.
	hasKey, isRead bool
	// within is how long it may be on its way.
	within time.Duration
	// here answers it on this node. It returns an error if nothing ran and another node may have the
	// engine. there has another node answer it, and fails as [peers.Peers.Send] does.
	here  func() (elsewhere error)
	there func(to peers.Owner) error
}

// carry has the node answer that has the engine. If it fails, nobody has answered, and the error is what
// the client is told.
func (s *Server) carry(ctx context.Context, t trip) error {
	nodes := s.o.Peers
	began := time.Now()
	now := func() time.Duration { return time.Since(began) }
	l := cluster.NewLine(thisNode, t.hasKey, t.isRead, t.within, lineRetry)
	owner, isKnown := nodes.Route(t.name)
	var last error // why nobody has answered
	for {
		switch {
		case now() >= t.within:
			l.Tick(now())
		case isKnown:
			l.Routed(otherNode, owner.Epoch, now())
		default:
			l.Routed(thisNode, 0, now())
		}
		var step lineStep
		l.Perform(&step)
		switch {
		case step.isHere:
			elsewhere := t.here()
			if elsewhere == nil {
				return nil
			}
			if last == nil { // why the owner was not reached says more
				last = elsewhere
			}
			owner, isKnown = nodes.Moved(t.name, elsewhere)
			l.Refused(l.Attempt(), now())
		case step.isThere:
			err := t.there(owner)
			if err == nil {
				return nil
			}
			last = err
			var moved *peers.MovedError
			switch {
			case errors.As(err, &moved):
				owner, isKnown = nodes.Route(t.name)
				l.Refused(step.attempt, now())
				continue
			case errors.Is(err, peers.ErrUnreached):
				l.Unreached(step.attempt, now())
			default:
				l.Lost(step.attempt, now())
			}
			s.log.Debug("a line could not be answered by the node that has its engine", "engine", t.name,
				"node", owner.Address, "error", err)
			nodes.Forget(t.name)
			isKnown = false
		case step.hasEnded:
			return t.unanswered(step.outcome, last)
		default:
			select {
			case <-time.After(lineRetry):
			case <-ctx.Done():
				return failure(host.ErrCanceled.Code, "the request ended before the engine's node was found")
			}
		}
	}
}

// routed answers a line, here or on the node that has the engine.
func (c *conversation) routed(ctx context.Context, line jsonl.Line, q *jsonl.Request, first int) (answer []byte,
	p *problem) {
	nodes := c.server.o.Peers
	if nodes == nil {
		answer, p, _ := c.local(ctx, q, first)
		return answer, p
	}
	t := trip{name: c.name, what: "line", hasKey: q.HasKey, within: lineTime,
		isRead: q.Kind == jsonl.State || q.Kind == jsonl.Digest}
	if q.Timeout > 0 {
		t.within = q.Timeout
	}
	t.here = func() (elsewhere error) {
		if answer, p, elsewhere = c.throughGate(ctx, q, first); elsewhere != nil {
			c.answered()
		}
		return elsewhere
	}
	isLost := false
	t.there = func(to peers.Owner) error {
		a, err := nodes.Send(ctx, to, c.name, line.Text, first)
		answer, p = a.Line, problemOfLine(a)
		isLost = isLost || errors.Is(err, peers.ErrLost)
		return err
	}
	if err := c.server.carry(ctx, t); err != nil {
		return c.refused(q, first, err)
	}
	if isLost && !t.isRead {
		if err := truthAfterLoss(answer); err != nil {
			return c.refused(q, first, err)
		}
	}
	return answer, p
}

// unsaid are the codes of errors that do not say whether a line ran when it was sent before: who answers
// with one may not have looked for the line's key.
var unsaid = []string{host.ErrTimeout.Code, host.ErrCanceled.Code, host.ErrOverloaded.Code, host.ErrShutdown.Code,
	host.ErrBroken.Code, host.ErrMoved.Code, host.ErrWorkerUnavailable.Code, host.ErrStoreFull.Code}

// truthAfterLoss returns the error of a line that was sent to a node which went away, if the answer to the
// line's repetition does not say whether it ran there; otherwise nil.
func truthAfterLoss(answer []byte) error {
	if jsonl.CodeOfFailure(answer, unsaid...) == "" {
		return nil
	}
	_, message := jsonl.ErrorOf(answer)
	return failure(host.ErrOutcomeUnknown.Code, "the line was sent to a node that went away, and then: %s", message)
}

// throughGate is local, behind the gate of the engine's slot.
func (c *conversation) throughGate(ctx context.Context, q *jsonl.Request, first int) (answer []byte, p *problem,
	elsewhere error) {
	slot := c.server.o.Peers.SlotOf(c.name)
	if err := c.server.gates.enter(ctx, slot); err != nil {
		answer, p = c.refused(q, first, err)
		return answer, p, movedOf(err)
	}
	defer c.server.gates.leave(slot)
	return c.local(ctx, q, first)
}

// movedOf returns the error if it says that another node has the engine; otherwise nil.
func movedOf(err error) error {
	var moved *peers.MovedError
	if errors.As(err, &moved) {
		return moved
	}
	return nil
}

// unanswered is the error if no node has answered. last is what the last attempt failed with.
func (t *trip) unanswered(o cluster.LineOutcome, last error) error {
	if o == cluster.OutcomeUnknown {
		return failure(host.ErrOutcomeUnknown.Code,
			"the node that had the engine went away, and the %s may have run there or not: one without a key is not sent again, "+
				"and nobody could be asked about one with a key for %v", t.what, t.within)
	}
	return failure(host.ErrTimeout.Code, "no node could run the %s for %v, and nothing of it ran: %v", t.what, t.within,
		last)
}

// problemOfLine returns why another node has refused a line, or nil.
func problemOfLine(a peers.Answer) *problem {
	if a.Status == 0 {
		return nil
	}
	code, message := jsonl.ErrorOf(a.Line)
	return &problem{status: a.Status, code: code, message: message}
}

// NodeHandler answers the lines that other nodes of the cluster send.
func (s *Server) NodeHandler() http.Handler {
	return s.o.Peers.Handler(func(ctx context.Context, engine string, text []byte, first int) (peers.Answer, error) {
		c := &conversation{server: s, name: engine}
		if s.draining.Err() != nil {
			return peers.Answer{}, failure(host.ErrShutdown.Code, "the node is stopping")
		}
		line := jsonl.Line{Number: 1, Text: text}
		q, err := jsonl.Parse(line, nil)
		if err != nil {
			return peers.Answer{Line: jsonl.BadLine(1, err), Status: http.StatusBadRequest}, nil
		}
		answer, p, elsewhere := c.throughGate(ctx, q, first)
		c.answered()
		if elsewhere != nil {
			return peers.Answer{}, elsewhere
		}
		if s.draining.Err() != nil && jsonl.CodeOfFailure(answer, host.ErrShutdown.Code) != "" {
			return peers.Answer{}, failure(host.ErrShutdown.Code, "the node is stopping")
		}
		a := peers.Answer{Line: answer}
		if p != nil {
			a.Status = p.status
		}
		return a, nil
	}, s.forwarded)
}
