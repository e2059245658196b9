package trace

import (
	"context"
	"fmt"
)

// Engine is an engine that a trace is run on.
type Engine interface {
	// Dispatch runs an action. A failure of the action is an Outcome with Failed; err is anything
	// else.
	Dispatch(ctx context.Context, s Step) (Outcome, error)
	// Batch runs a batch. If it is atomic and a member fails, all outcomes have failed.
	Batch(ctx context.Context, atomic bool, steps []Step) ([]Outcome, error)
	// State returns the whole state as MessagePack.
	State(ctx context.Context) ([]byte, error)
}

// Step is an action to send.
type Step struct {
	Now     int64
	Type    string
	Payload []byte
}

// Outcome is the outcome of a step: its result as MessagePack, or why it failed.
type Outcome struct {
	Result []byte
	Failed error
}

// Mode is the way in which steps are sent.
type Mode int

const (
	// Single sends one action at a time.
	Single Mode = iota
	// Independent sends runs of steps as independent batches.
	Independent
	// Atomic sends runs of steps that succeed as atomic batches.
	Atomic
)

// Report is the result of a verification.
type Report struct {
	Steps, States, Batches int
	// Difference is the first difference, or nil.
	Difference *Difference
}

const (
	maxBatch      = 256
	maxBatchBytes = 1 << 20
)

// Verifier compares an engine with a trace.
type Verifier struct {
	Mode Mode
	// Progress, if it is set, is called after every step or batch with the steps done so far.
	Progress func(steps int)
	// Each, if it is set, is called after every step or batch; an error ends the verification.
	Each func(ctx context.Context) error
}

// Verify runs a trace, up to the first difference, which is in the report. It fails if the trace
// can't be run for another reason.
func (v *Verifier) Verify(ctx context.Context, t *Trace, e Engine) (Report, error) {
	var r Report
	ids := Bindings{}
	for at := 0; at < len(t.Lines); {
		l := &t.Lines[at]
		if l.IsState {
			r.States++
			at++
			state, err := e.State(ctx)
			if err != nil {
				return r, fmt.Errorf("state after step %d: %w", r.Steps, err)
			}
			if d := ids.state(l.State, state); d != nil {
				d.Step, d.Action = r.Steps, "state"
				r.Difference = d
				return r, nil
			}
			continue
		}
		n := v.run(t.Lines[at:], ids)
		d, err := v.send(ctx, t.Lines[at:at+n], ids, e, &r)
		at += n
		if err != nil {
			return r, fmt.Errorf("step %d (%s): %w", l.N, l.Type, err)
		}
		if d != nil {
			r.Difference = d
			return r, nil
		}
		if v.Progress != nil {
			v.Progress(r.Steps)
		}
		if v.Each != nil {
			if err := v.Each(ctx); err != nil {
				return r, fmt.Errorf("after step %d (%s): %w", t.Lines[at-1].N, t.Lines[at-1].Type, err)
			}
		}
	}
	return r, nil
}

// run returns how many of the next lines go into one batch. The batch ends before a state, and
// before a payload that needs an identifier which the batch itself makes. An atomic batch also
// ends before a recorded failure.
func (v *Verifier) run(lines []Line, ids Bindings) int {
	if v.Mode == Single || (v.Mode == Atomic && lines[0].Fails) {
		return 1
	}
	n := 1
	for n < len(lines) && n < maxBatch {
		l := &lines[n]
		if l.IsState || !ids.bound(l.Payload) || (v.Mode == Atomic && l.Fails) {
			break
		}
		n++
	}
	return n
}

func (v *Verifier) send(ctx context.Context, lines []Line, ids Bindings, e Engine, r *Report) (*Difference, error) {
	steps := make([]Step, len(lines))
	for i, l := range lines {
		payload, err := ids.Fill(l.Payload)
		if err != nil {
			return nil, err
		}
		steps[i] = Step{Now: l.Now, Type: l.Type, Payload: payload}
	}
	for len(steps) > 0 {
		n := fitting(steps)
		outcomes, err := v.outcomes(ctx, steps[:n], e)
		r.Steps += n
		r.Batches++
		if err != nil {
			return nil, err
		}
		for i, o := range outcomes {
			if d := ids.outcome(&lines[i], o); d != nil {
				return d, nil
			}
		}
		steps, lines = steps[n:], lines[n:]
	}
	return nil, nil
}

// fitting returns how many steps fit into one batch by their size, at least one.
func fitting(steps []Step) int {
	size := 0
	for i, s := range steps {
		if size += len(s.Payload); size > maxBatchBytes && i > 0 {
			return i
		}
	}
	return len(steps)
}

func (v *Verifier) outcomes(ctx context.Context, steps []Step, e Engine) ([]Outcome, error) {
	if v.Mode != Single {
		return e.Batch(ctx, v.Mode == Atomic, steps)
	}
	o, err := e.Dispatch(ctx, steps[0])
	return []Outcome{o}, err
}

func (b Bindings) outcome(l *Line, o Outcome) *Difference {
	switch {
	case l.Fails && o.Failed == nil:
		got, err := decode(o.Result)
		if err != nil {
			got = err.Error()
		}
		return l.differ(&Difference{Path: "result", Want: "an error", Got: show(got)})
	case l.Fails:
		return nil
	case o.Failed != nil:
		return l.differ(&Difference{Path: "result", Want: show(l.Result), Got: "the error " + o.Failed.Error()})
	}
	return b.result(l, o.Result)
}
