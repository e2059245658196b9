package coredev

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/msgjson"
	"hypertoken/wasm"
)

// step is an action to run, or a new engine to open.
type step struct {
	wasm.Action
	// setup opens an engine, if it is not nil.
	setup []byte
	// from names the origin of the step in messages.
	from string
}

func (s step) String() string { return fmt.Sprintf("%q with %s", s.Type, s.from) }

// answer is everything that can be observed of a step.
type answer struct {
	result, events []byte
	refused        *wasm.ActionError
	digest         uint64
}

func (a answer) equal(b answer) bool {
	if (a.refused == nil) != (b.refused == nil) || a.refused != nil && *a.refused != *b.refused {
		return false
	}
	return a.digest == b.digest && bytes.Equal(a.result, b.result) && bytes.Equal(a.events, b.events)
}

func (a answer) String() string {
	if a.refused != nil {
		return fmt.Sprintf("%s, digest %016x", clip(a.refused.Error()), a.digest)
	}
	text, err := msgjson.Append(nil, a.result)
	if err != nil {
		text = []byte(err.Error())
	}
	return fmt.Sprintf("%s, digest %016x", clip(string(text)), a.digest)
}

func clip(s string) string { return fmt.Sprintf("%.120q", s) }

// checkReplays runs the core's own actions, and its traces, on two engines. Then it runs them
// again: each action on one of the two engines, and on an engine that was just restored from its
// snapshot. Both engines must give equal answers each time.
func (c *Checker) checkReplays(ctx context.Context, core *wasm.Core, own []action) error {
	games := [][]step{madeUp(own)}
	for _, t := range c.Traces {
		games = append(games, steps(t))
	}
	failed, ran := c.failed, 0
	for _, game := range games {
		c.progress(fmt.Sprintf("running %d actions", len(game)))
		p := &pair{checker: c, core: core, odd: map[string]bool{}}
		err := p.play(ctx, game)
		p.close()
		if err != nil {
			return err
		}
		ran += p.ran
	}
	if c.failed == failed {
		c.report(Passed,
			"%d actions answer alike, with the same digest, on two engines and after a restore; those that failed changed nothing",
			ran)
	}
	return nil
}

// pair is two engines that have run the same actions.
type pair struct {
	checker *Checker
	core    *wasm.Core
	engines [2]*wasm.Instance
	// odd has the actions for which a fault was reported. They are not run any more.
	odd map[string]bool
	ran int
}

func (p *pair) close() {
	for _, e := range p.engines {
		if e != nil {
			_ = e.Close(context.Background())
		}
	}
}

func (p *pair) play(ctx context.Context, game []step) error {
	for round := range 2 {
		for _, s := range game {
			if s.setup != nil {
				if round == 1 {
					continue // the second round goes on with the state of the first one
				}
				if err := p.open(ctx, s.setup); err != nil {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					p.checker.report(Failed, "the setup of %s is refused: %v", s.from, err)
					return nil
				}
				continue
			}
			if p.odd[s.Type] || p.engines[0] == nil {
				continue
			}
			if err := p.step(ctx, s, round == 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// renew replaces the n-th engine by a new instance.
func (p *pair) renew(ctx context.Context, n int) (*wasm.Instance, error) {
	if p.engines[n] != nil {
		_ = p.engines[n].Close(ctx)
	}
	e, err := p.core.Instantiate(ctx)
	p.engines[n] = e
	return e, err
}

func (p *pair) open(ctx context.Context, setup []byte) error {
	ctx, cancel := p.checker.bounded(ctx)
	defer cancel()
	for n := range p.engines {
		e, err := p.renew(ctx, n)
		if err == nil {
			err = e.Open(ctx, wasm.DefaultLimits, setup)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pair) snapshot(ctx context.Context) (snapshot []byte, err error) {
	ctx, cancel := p.checker.bounded(ctx)
	defer cancel()
	err = p.engines[0].Snapshot(ctx, func(chunk []byte) error {
		snapshot = append(snapshot, chunk...)
		return nil
	})
	return snapshot, err
}

func (p *pair) restore(ctx context.Context, n int, snapshot []byte) error {
	ctx, cancel := p.checker.bounded(ctx)
	defer cancel()
	e, err := p.renew(ctx, n)
	if err == nil {
		err = e.Restore(ctx, snapshot)
	}
	return err
}

func (p *pair) digest(ctx context.Context, e *wasm.Instance) (uint64, error) {
	ctx, cancel := p.checker.bounded(ctx)
	defer cancel()
	return e.Digest(ctx)
}

// lose reports what keeps a game from going on, and ends it. It returns an error if that was the
// context's end.
func (p *pair) lose(ctx context.Context, what string, s step, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.checker.report(Failed, "%s before %s %v", what, s, err)
	p.close()
	p.engines[0] = nil
	return nil
}

// step runs an action on both engines, the second of which may be restored from a snapshot of the
// first before. An action that costs an instance, or that the two answer in different ways, is
// reported, and both engines go on from before it.
func (p *pair) step(ctx context.Context, s step, restored bool) error {
	before, err := p.digest(ctx, p.engines[0])
	if err != nil {
		return p.lose(ctx, "the digest", s, fmt.Errorf("can't be computed: %w", err))
	}
	snapshot, err := p.snapshot(ctx)
	if err != nil {
		return p.lose(ctx, "the snapshot", s, fmt.Errorf("can't be written: %w", err))
	}
	other := "another with the same state"
	if restored {
		other = "one that was restored from a snapshot of it"
		if err := p.restore(ctx, 1, snapshot); err != nil {
			return p.lose(ctx, "the snapshot", s, fmt.Errorf("can't be restored: %w", err))
		}
	}
	var answers [2]answer
	for n, e := range p.engines {
		if answers[n], err = p.run(ctx, e, s); err != nil {
			break
		}
	}
	p.ran++
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		p.reportLoss(s, err)
	case !answers[0].equal(answers[1]):
		p.checker.report(Failed, "%s answers %v on one engine and %v on %s: a handler may depend on the state, "+
			"its payload, cx.now, cx.rng() and cx.identifier() alone; look for statics and for HashMap", s,
			answers[0], answers[1], other)
	case answers[0].refused != nil && answers[0].digest != before:
		p.checker.report(Failed,
			"%s fails and changes the state: change it through cx.state, or by calls, which are taken back", s)
	default:
		if refused := answers[0].refused; refused != nil {
			p.checker.checkError(s, refused)
		}
		return nil
	}
	p.odd[s.Type] = true
	for n := range p.engines {
		if err := p.restore(ctx, n, snapshot); err != nil {
			return p.lose(ctx, "the snapshot", s, fmt.Errorf("can't be restored: %w", err))
		}
	}
	return nil
}

func (p *pair) reportLoss(s step, err error) {
	var trap *wasm.TrapError
	var refused *wasm.ActionError
	if errors.As(err, &trap) && trap.Interrupted {
		p.checker.report(Warned,
			"%s does not end within %v (--timeout), and is not checked: a host ends it after its own timeout",
			s, p.checker.Timeout)
		return
	}
	step := "a handler returns an error instead of a panic"
	switch {
	case !errors.As(err, &refused):
	case refused.Code == "out_of_memory":
		step = "bound what a payload can ask for"
	case strings.Contains(refused.Message, "breaks its ABI"):
		step = "leave the calls of the ABI to hypertoken_core::export!, and give each error a code"
	}
	p.checker.report(Failed, "%s costs the engine its instance: %v; %s", s, err, step)
}

func (p *pair) run(ctx context.Context, e *wasm.Instance, s step) (answer, error) {
	bounded, cancel := context.WithTimeout(ctx, p.checker.Timeout)
	defer cancel()
	var a answer
	reply, err := e.Dispatch(bounded, &s.Action)
	if a.refused = asActionError(err); err != nil && a.refused == nil {
		return a, err
	}
	if err == nil {
		a.result, a.events = bytes.Clone(reply.Result), bytes.Clone(reply.Events)
	}
	a.digest, err = p.digest(ctx, e)
	return a, err
}

// sampleSetup has something to draw, and somewhere to draw from.
var sampleSetup = pack(map[string]any{
	"stack":  tokens("a", "b", "c", "d", "e", "f", "g", "h"),
	"source": map[string]any{"stacks": []any{tokens("s1", "s2"), tokens("s3")}},
})

func tokens(ids ...string) []any {
	all := make([]any, len(ids))
	for i, id := range ids {
		all[i] = map[string]any{"id": id}
	}
	return all
}

func pack(v any) []byte {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic(err) // maps and slices of strings and numbers always encode
	}
	return b
}

// samples has a value of each kind of field.
var samples = map[string]any{
	"any": "a", "bool": true, "number": 1.5, "whole number": 1, "count": 1, "amount": 1, "string": "a",
	"array of strings": []any{"a"}, "map": map[string]any{}, "token": tokens("t")[0],
	"array of tokens":           tokens("t", "u"),
	"array of arrays of tokens": []any{tokens("t")}, "array": []any{}, "number or string": 1,
}

// madeUp makes steps of the actions' descriptions: no payload, the required fields, all fields,
// and fields of wrong types.
func madeUp(actions []action) []step {
	game := []step{
		{setup: sampleSetup, from: "the check"},
		{Action: wasm.Action{Type: "agent:create", Payload: pack(map[string]any{"name": "a"})}, from: "a sample"},
	}
	add := func(a action, from string, payload map[string]any) {
		s := step{Action: wasm.Action{Type: a.Name}, from: from}
		if payload != nil {
			s.Payload = pack(payload)
		}
		game = append(game, s)
	}
	for _, a := range actions {
		add(a, "no payload", nil)
		required, all, wrong := map[string]any{}, map[string]any{}, map[string]any{}
		for _, f := range a.Fields {
			if f.Name == "*" { // any other
				continue
			}
			sample, known := samples[f.Kind]
			if !known {
				sample = nil
			}
			all[f.Name], wrong[f.Name] = sample, []any{nil}
			if f.Required {
				required[f.Name] = sample
			}
		}
		add(a, "its required fields", required)
		add(a, "all its fields", all)
		add(a, "fields of wrong types", wrong)
	}
	for i := range game {
		game[i].Now, game[i].Entropy = firstNow, [wasm.EntropySize]byte{1, byte(i), byte(i >> 8)}
	}
	return game
}

// steps returns the steps of a trace. Lines that can't be used are left out: running the trace
// reports what is wrong with them.
func steps(t Trace) (game []step) {
	game = append(game, step{setup: []byte{0x80}, from: t.Path})
	for line := range bytes.Lines(t.Lines) {
		members, err := msgjson.Object(bytes.TrimSpace(line))
		s := step{from: "a line of " + t.Path}
		for _, m := range members {
			if err == nil {
				err = s.take(m)
			}
		}
		if err == nil && (s.Type != "" || s.setup != nil) {
			game = append(game, s)
		}
	}
	return game
}

// take takes a member of a line over.
func (s *step) take(m msgjson.Member) error {
	if m.Err != nil {
		return m.Err
	}
	switch m.Key {
	case "setup":
		s.setup = m.Value
	case "payload":
		s.Payload = m.Value
	case "type":
		return msgpack.Unmarshal(m.Value, &s.Type)
	case "now":
		return msgpack.Unmarshal(m.Value, &s.Now)
	case "entropy":
		var text string
		if err := msgpack.Unmarshal(m.Value, &text); err != nil {
			return err
		}
		entropy, err := hex.DecodeString(text)
		copy(s.Entropy[:], entropy)
		return err
	}
	return nil
}
