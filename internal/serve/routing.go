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

// routed answers a line, here or on the node that has the engine.
func (c *conversation) routed(ctx context.Context, line jsonl.Line, q *jsonl.Request, first int) ([]byte, *problem) {
	nodes := c.server.o.Peers
	if nodes == nil {
		answer, p, _ := c.local(ctx, q, first)
		return answer, p
	}
	began := time.Now()
	now := func() time.Duration { return time.Since(began) }
	within := lineTime
	if q.Timeout > 0 {
		within = q.Timeout
	}
	isRead := q.Kind == jsonl.State || q.Kind == jsonl.Digest
	l := cluster.NewLine(thisNode, q.HasKey, isRead, within, lineRetry)
	owner, isKnown := nodes.Route(c.name)
	var last error // why the line could not be answered
	for {
		switch {
		case now() >= within:
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
			answer, p, elsewhere := c.throughGate(ctx, q, first)
			if elsewhere == nil {
				return answer, p
			}
			c.answered()
			last = elsewhere
			owner, isKnown = nodes.Moved(c.name, elsewhere)
			l.Refused(l.Attempt(), now())
		case step.isThere:
			a, err := nodes.Send(ctx, owner, c.name, line.Text, first)
			if err == nil {
				return a.Line, problemOfLine(a)
			}
			last = err
			var moved *peers.MovedError
			switch {
			case errors.As(err, &moved):
				owner, isKnown = nodes.Route(c.name)
				l.Refused(step.attempt, now())
				continue
			case errors.Is(err, peers.ErrUnreached):
				l.Unreached(step.attempt, now())
			default:
				l.Lost(step.attempt, now())
			}
			c.server.log.Debug("a line could not be answered by the node that has its engine", "engine", c.name,
				"node", owner.Address, "error", err)
			nodes.Forget(c.name)
			isKnown = false
		case step.hasEnded:
			return c.refused(q, first, unanswered(step.outcome, within, last))
		default:
			select {
			case <-time.After(lineRetry):
			case <-ctx.Done():
				return c.refused(q, first,
					failure(host.ErrCanceled.Code, "the request ended before the engine's node was found"))
			}
		}
	}
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

// unanswered is the error of a line that no node has answered. last is what the last attempt failed with.
func unanswered(o cluster.LineOutcome, within time.Duration, last error) error {
	if o == cluster.OutcomeUnknown {
		return failure(host.ErrOutcomeUnknown.Code,
			"the node that had the engine went away, and a line without a key is not sent again: it may have run or not")
	}
	return failure(host.ErrTimeout.Code, "no node could run the line for %v, and nothing of it ran: %v", within, last)
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
