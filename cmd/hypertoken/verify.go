package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hypertoken/host"
	"hypertoken/internal/printable"
	"hypertoken/internal/replay"
	"hypertoken/internal/trace"
)

func newVerify() *cobra.Command {
	var f hostFlags
	var v verifier
	c := &cobra.Command{
		Use:   "verify [flags] TRACE...",
		Short: "Compare the engine with recorded runs",
		Long: `verify replays conformance traces, and compares every result and every state with the recorded
one. At the first difference in a trace it shows the step, the path within the value, the
wanted value and the value that came. Then it goes on with the next trace.

With --batch it sends runs of steps as batches. It first makes independent batches. They are
cut only before a payload that needs an identifier of an earlier step, and before a comparison
of states. Then it makes atomic batches, which are also cut around recorded failures.

Exit status: 0 if everything is the same, 1 on any difference, 2 for wrong usage.`,
		Example: `  hypertoken verify integration/testdata/conformance/*.jsonl
  hypertoken verify --batch game.jsonl`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			traces := make([]*trace.Trace, len(args))
			for i, name := range args {
				var t *trace.Trace
				err := untilDone(c.Context(), func(context.Context) (err error) {
					t, err = trace.ReadFile(name)
					return err
				})
				if errors.Is(err, fs.ErrNotExist) {
					return usageError{err}
				}
				if err != nil && c.Context().Err() == nil {
					return fmt.Errorf("this is not a trace: %w", err)
				}
				if err != nil {
					return err
				}
				traces[i] = t
			}
			h, err := f.open(c.Context(), nil)
			if err != nil {
				return err
			}
			defer func() { _ = h.Shutdown(context.Background()) }()
			v.host, v.out, v.progress = h, c.OutOrStdout(), newProgress(c.ErrOrStderr())
			modes := []trace.Mode{trace.Single}
			if v.batch {
				modes = []trace.Mode{trace.Independent, trace.Atomic}
			}
			for _, mode := range modes {
				for i, t := range traces {
					if err := v.verify(c.Context(), printable.Line(filepath.Base(args[i]), 0), t, mode); err != nil {
						return fmt.Errorf("%s: %w", args[i], err)
					}
				}
			}
			return v.finish(len(traces))
		},
	}
	f.register(c.Flags())
	c.Flags().BoolVar(&v.batch, "batch", false, "send runs of steps as batches")
	return c
}

type verifier struct {
	host           *host.Host
	out            io.Writer
	progress       *progress
	batch          bool
	engines        int
	steps, batches int
	states         int
	differ         int
}

var modeNames = map[trace.Mode]string{
	trace.Single:      "",
	trace.Independent: ", independent batches",
	trace.Atomic:      ", atomic batches",
}

func (v *verifier) verify(ctx context.Context, name string, t *trace.Trace, mode trace.Mode) error {
	v.engines++
	e, err := v.host.Open(ctx, fmt.Sprintf("verify-%d", v.engines), host.EngineOptions{Setup: host.Raw(t.Setup)})
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	defer func() {
		_ = e.Close(ctx)
		_ = v.host.Delete(ctx, e.Name())
	}()
	total := t.Steps()
	checker := trace.Verifier{Mode: mode, Progress: func(steps int) {
		v.progress.show("%s%s: step %d of %d", name, modeNames[mode], steps, total)
	}}
	report, err := checker.Verify(ctx, t, replay.Engine{Engine: e})
	v.progress.clear()
	if err != nil {
		return err
	}
	v.steps += report.Steps
	v.batches += report.Batches
	v.states += report.States
	if d := report.Difference; d != nil {
		v.differ++
		_, err = fmt.Fprintf(v.out, "DIFFERS %s%s: step %d, %s\n  at   %s\n  want %s\n  got  %s\n",
			name, modeNames[mode], d.Step, printable.Line(d.Action, 0), printable.Line(d.Path, 0),
			printable.Line(d.Want, 0), printable.Line(d.Got, 0))
		return err
	}
	_, err = fmt.Fprintf(v.out, "ok      %s: %d steps, %d states%s\n", name, report.Steps, report.States,
		modeNames[mode])
	return err
}

// finish prints the totals.
func (v *verifier) finish(traces int) error {
	sums := fmt.Sprintf("%d traces, %d steps, %d states", traces, v.steps, v.states)
	if v.batch && v.batches > 0 {
		sums += fmt.Sprintf(", mean batch size %.1f", float64(v.steps)/float64(v.batches))
	}
	result := "all the same"
	if v.differ > 0 {
		result = fmt.Sprintf("%d differ", v.differ)
	}
	if _, err := fmt.Fprintf(v.out, "%s: %s\n", sums, result); err != nil {
		return err
	}
	if v.differ > 0 {
		return errReported
	}
	return nil
}

// progress overwrites a line of a terminal; elsewhere it writes nothing.
type progress struct {
	out   io.Writer
	next  time.Time
	drawn bool
}

func newProgress(w io.Writer) *progress {
	if f, ok := w.(interface{ Fd() uintptr }); !ok || !term.IsTerminal(int(f.Fd())) {
		w = nil
	}
	return &progress{out: w, next: time.Now().Add(time.Second)}
}

// show writes the line, ten times a second at most, once there has been something to wait for.
func (p *progress) show(format string, args ...any) {
	if p.out == nil || time.Now().Before(p.next) {
		return
	}
	p.next, p.drawn = time.Now().Add(100*time.Millisecond), true
	fmt.Fprintf(p.out, "\r\x1b[K"+format, args...)
}

func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}
