package coredev

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/wasm"
)

// Verdict is the weight of a finding.
type Verdict string

// The verdicts. A core with a finding that is Failed can't be trusted with a game.
const (
	Passed Verdict = "ok"
	Warned Verdict = "warn"
	Failed Verdict = "FAIL"
)

// Finding is one result of a check.
type Finding struct {
	Verdict Verdict
	// Text says what was found. If it is a fault, it also says what to do about it.
	Text string
}

// DefaultActionTimeout bounds each action that a check runs.
const DefaultActionTimeout = 2 * time.Second

// Checker checks a core as a host would, and more.
type Checker struct {
	// Report takes the findings as they come.
	Report func(Finding)
	// Progress, if it is set, is called with the name of each step before the step begins.
	Progress func(string)
	// Timeout bounds each action; 0 means DefaultActionTimeout.
	Timeout time.Duration
	// Traces are run in addition to actions with made-up payloads.
	Traces []Trace

	failed bool
	cache  *wasm.Cache
}

func (c *Checker) compile(ctx context.Context, code []byte) (*wasm.Core, error) {
	return wasm.Compile(ctx, code,
		wasm.Options{Interruptible: true, FirstInstance: manyActions * c.Timeout, Cache: c.cache})
}

// manyActions times the timeout of an action is the timeout of every other step: making an
// instance, listing actions, opening an engine, writing or restoring a snapshot, computing a
// digest.
const manyActions = 10

// bounded bounds the time of calls that are not actions.
func (c *Checker) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := manyActions * c.Timeout
	return context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("it does not end within %v, %d times --timeout", limit, manyActions))
}

func (c *Checker) report(v Verdict, format string, args ...any) {
	c.failed = c.failed || v == Failed
	c.Report(Finding{v, fmt.Sprintf(format, args...)})
}

func (c *Checker) progress(what string) {
	if c.Progress != nil {
		c.Progress(what)
	}
}

// Check checks a module, and returns whether a host can use it. It fails if the check itself could
// not go on.
func (c *Checker) Check(ctx context.Context, code []byte) (sound bool, err error) {
	if c.Timeout == 0 {
		c.Timeout = DefaultActionTimeout
	}
	c.progress("compiling")
	// Hosts use the same cache. Without it, compiling takes longer, and nothing else changes.
	if dir, err := wasm.DefaultCacheDir(); err == nil {
		if c.cache, err = wasm.OpenCache(dir); err == nil {
			defer func() { _ = c.cache.Close(context.Background()) }()
		}
	}
	core, err := c.compile(ctx, code)
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		c.report(Failed, "%s", refusal(err))
		return false, nil
	}
	defer func() { _ = core.Close(context.Background()) }()
	c.report(Passed,
		"it imports nothing, exports memory, ht_abi, ht_reply, ht_input and ht_call, and speaks version %d of the ABI",
		wasm.ABIVersion)
	i, err := core.Instantiate(ctx)
	if err != nil {
		return false, err
	}
	toolchain := core.Toolchain()
	if toolchain == "" {
		toolchain = "a compiler that it does not name"
	}
	c.report(Passed, "it has %s of code, made by %s; an instance begins with %s of memory",
		humanize.IBytes(uint64(len(code))), toolchain, humanize.IBytes(i.Memory()))
	if slow := core.Slow(); slow != nil {
		c.report(Warned,
			"without workers it runs some five times as slow: it can't be rewritten to be interrupted (%v)", slow)
	}
	listing, cancel := c.bounded(ctx)
	actions, err := listActions(listing, i)
	cancel()
	_ = i.Close(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		c.report(Failed, "its list of actions can't be read: %v", err)
		return false, nil
	}
	own, err := c.describe(ctx, actions)
	if err != nil {
		return false, err
	}
	if err := c.checkReplays(ctx, core, own); err != nil {
		return false, err
	}
	return !c.failed, nil
}

// refusals has the next step for each fault for which a host refuses a core.
var refusals = []struct{ reason, step string }{
	{"invalid magic number", "is it a file that 'hypertoken core build' made?"},
	{"it imports",
		"a crate that reads a clock, draws random numbers or talks to JavaScript makes imports: find it with 'cargo tree', " +
			"and leave out its feature; the clock is cx.now, random numbers are cx.rng()"},
	{"does not export the function",
		"src/lib.rs needs hypertoken_core::export!(registry), and [lib] crate-type = [\"cdylib\"]"},
	{"of the ABI", "build it with the hypertoken-core of this version of HyperToken"},
}

// refusal is why a host refuses a module, and the next step.
func refusal(err error) string {
	text := strings.TrimPrefix(err.Error(), "wasm: not a core: ")
	for _, r := range refusals {
		if strings.Contains(text, r.reason) {
			return fmt.Sprintf("a host refuses it: %s; %s", text, r.step)
		}
	}
	return "a host refuses it: " + text
}

// action is an action as the list has it.
type action struct {
	Name   string  `msgpack:"name"`
	About  string  `msgpack:"about"`
	Fields []field `msgpack:"fields"`
}

type field struct {
	Name     string `msgpack:"name"`
	Kind     string `msgpack:"kind"`
	Required bool   `msgpack:"required"`
}

func listActions(ctx context.Context, i *wasm.Instance) (list []action, err error) {
	bytes, err := i.Actions(ctx)
	if err == nil {
		err = msgpack.Unmarshal(bytes, &list)
	}
	return list, err
}

var actionForm = regexp.MustCompile(`^[A-Za-z][\w.-]*(:[A-Za-z][\w.-]*)+$`)

// describe checks the descriptions of the actions, and returns the actions that the built-in core
// does not have.
func (c *Checker) describe(ctx context.Context, actions []action) ([]action, error) {
	builtin, err := c.builtinActions(ctx)
	if err != nil {
		return nil, err
	}
	own := slices.DeleteFunc(slices.Clone(actions), func(a action) bool {
		return slices.ContainsFunc(builtin, func(b action) bool { return a.Name == b.Name })
	})
	names := make([]string, len(own))
	for i, a := range own {
		names[i] = fmt.Sprintf("%q", a.Name)
	}
	switch {
	case len(actions) == 0:
		c.report(Failed,
			"it has no actions: nothing can be done with it; register some, or begin with Registry::builtin()")
	case len(own) == 0:
		c.report(Warned, "it has %d actions, all of them built-in ones: the built-in core does as much", len(actions))
	default:
		c.report(Passed, "it has %d actions, %d of its own: %s", len(actions), len(own), strings.Join(names, ", "))
	}
	for _, a := range own {
		if !actionForm.MatchString(a.Name) {
			c.report(Warned, "the action %q should be named family:verb, as the built-in ones are", a.Name)
		}
		if strings.TrimSpace(a.About) == "" {
			c.report(Warned,
				"the action %q has no description: give it one in about, which 'hypertoken actions' shows", a.Name)
		}
	}
	return own, nil
}

func (c *Checker) builtinActions(ctx context.Context) ([]action, error) {
	core, err := c.compile(ctx, wasm.Builtin())
	if err != nil {
		return nil, err
	}
	defer func() { _ = core.Close(context.Background()) }()
	i, err := core.Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close(context.Background()) }()
	return listActions(ctx, i)
}

var codeForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// checkError looks at an error that an action returned.
func (c *Checker) checkError(s step, err *wasm.ActionError) {
	switch {
	case !codeForm.MatchString(err.Code):
		c.report(Warned,
			"%s fails with the code %q: want a short stable one in lower case, such as not_your_turn", s, err.Code)
	case err.Message == "":
		c.report(Warned, "%s fails with the code %s and no message: say which field, which value and which limit",
			s, err.Code)
	}
}

// asActionError returns the error that an action returned, or nil.
func asActionError(err error) *wasm.ActionError {
	var trap *wasm.TrapError
	var refused *wasm.ActionError
	if errors.As(err, &trap) || !errors.As(err, &refused) {
		return nil
	}
	return refused
}
