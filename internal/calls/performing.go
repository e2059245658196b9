package calls

import (
	"context"
	"errors"
	"fmt"

	"hypertoken/host"
	"hypertoken/internal/driver"
	"hypertoken/internal/seam"
	"hypertoken/journal"
)

// How calls are carried out on an engine of this node.

// bounded returns the context of a call, which is ctx if the call has none: it ends once the time
// of the call is over.
func (c *Call) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.Context != nil {
		ctx = c.Context
	}
	cancel := func() {}
	if c.Within > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.Within)
	}
	if c.Timeout == 0 {
		return ctx, cancel
	}
	ctx, end := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done after %v (Timeout)", c.Timeout))
	return ctx, func() { end(); cancel() }
}

// Perform carries a list of calls out on an engine, in their order, and returns an answer for
// each. Each has its own context, or otherwise ctx, bounded by its time.
func Perform(ctx context.Context, engine seam.Engine, list []*Call) []*Answer {
	answers := make([]*Answer, len(list))
	if len(list) == 1 {
		ctx, cancel := list[0].bounded(ctx)
		defer cancel()
		answers[0] = perform(ctx, engine, list[0])
		return answers
	}
	running := make([]*driver.Call, len(list))
	for k, c := range list {
		ctx, cancel := c.bounded(ctx)
		defer cancel()
		if c.Method != Dispatch {
			answers[k] = perform(ctx, engine, c)
			continue
		}
		running[k] = new(driver.Call)
		engine.DispatchAsync(ctx, running[k], c.Type, c.payload(), c.Choice)
	}
	for k, r := range running {
		if r != nil {
			<-r.Done()
			result, err, _ := r.Result()
			answers[k] = answerOf(result, err)
		}
	}
	return answers
}

// answerOf returns the answer that a result and an error are.
func answerOf(r driver.Result, err error) *Answer {
	return &Answer{Result: ResultOf(r), Err: err, Moved: IsElsewhere(err)}
}

// IsElsewhere reports whether an error says that nothing was done, because another owner has the
// journal, or because the store can't be used at the moment.
func IsElsewhere(err error) bool {
	return errors.Is(err, host.ErrMoved) || errors.Is(err, journal.ErrUnavailable)
}

// payload returns the payload, encoded or not.
func (c *Call) payload() any {
	if c.Value != nil {
		return c.Value
	}
	return driver.Raw(c.Payload)
}

func perform(ctx context.Context, e seam.Engine, c *Call) *Answer {
	switch c.Method {
	case Dispatch:
		return answerOf(e.Dispatch(ctx, c.Type, c.payload(), c.Choice))
	case Batch:
		return performBatch(ctx, e, c)
	case State:
		return answerOf(e.State(ctx, c.WantsDigest))
	case Position:
		return answerOf(e.Position(ctx, c.What))
	case StateAt:
		return answerOf(e.StateAt(ctx, c.Sequence))
	case DigestAt:
		return answerOf(e.DigestAt(ctx, c.Sequence))
	case Revert:
		return answerOf(e.Revert(ctx, c.Sequence, c.Choice))
	case Undo:
		return answerOf(e.Undo(ctx, c.Choice))
	case Redo:
		return answerOf(e.Redo(ctx, c.Choice))
	case AddNote:
		return answerOf(driver.Result{}, e.AddNote(ctx, c.Note))
	case Newest:
		return answerOf(driver.Result{Sequence: e.Newest()}, nil)
	case Reopen:
		return answerOf(driver.Result{}, e.Reopen(ctx))
	case Place:
		return &Answer{Place: e.Place()}
	case Journal:
		stored, err := e.Journal(ctx)
		a := answerOf(driver.Result{}, err)
		a.Stored = stored
		return a
	case JournalAt:
		stored, batches, err := e.JournalAt(ctx, c.Sequence)
		a := answerOf(driver.Result{}, err)
		a.Stored, a.Batches = stored, batches
		return a
	case ReadHistory:
		part, err := e.ReadHistory(ctx, c.Sequence)
		a := answerOf(driver.Result{}, err)
		a.Part = &part
		return a
	}
	return answerOf(driver.Result{}, host.ErrBadInput.Because(nil,
		"%s: the node that has the engine does not know this call: its program is older", c.Method))
}

func performBatch(ctx context.Context, e seam.Engine, c *Call) *Answer {
	members := driver.Members{Len: len(c.Members), At: func(k int) driver.Member {
		m := &c.Members[k]
		if m.Value != nil {
			return driver.Member{Type: m.Type, Payload: m.Value, Choice: m.Choice}
		}
		return driver.Member{Type: m.Type, Payload: driver.Raw(m.Payload), Choice: m.Choice, Err: m.Failure.Err()}
	}}
	r, err := e.DispatchBatch(ctx, c.Mode, members, c.Choice)
	a := answerOf(r.Result, err)
	if r.Outcomes != nil {
		a.Outcomes = make([]Outcome, len(r.Outcomes))
	}
	for k, o := range r.Outcomes {
		a.Outcomes[k] = Outcome{Result: ResultOf(o.Result), Err: o.Err}
	}
	return a
}
