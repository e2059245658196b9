package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/host"
)

func newRun() *cobra.Command {
	var f hostFlags
	r := runner{}
	r.maxLine = 64 << 20
	c := &cobra.Command{
		Use:   "run [flags] [FILE|-]",
		Short: "Play a game: JSON Lines in, a JSON line out for each",
		Long: `run reads JSON Lines from a file, or from standard input, and answers each line with
one line, flushed at once, so that any program can drive it over pipes.

  {"setup":{...}}                              a fresh engine          {"ok":true}
  {"type":T,"payload":P,"now":MS,"timeout":MS} an action               {"n":N,"result":R}
                                               one that failed         {"n":N,"error":{"code":C,"message":M}}
  {"state":true}                               the whole state         {"state":{...}}
  {"digest":true}                              its canonical digest    {"digest":"16 hex digits"}
  anything else                                                        {"error":{"code":"bad_input",...}}

payload, now (milliseconds since the epoch, default the clock) and timeout may be missing;
so may entropy, 32 hexadecimal digits that unseeded randomness and identifiers are made from:
the same lines with the same now and entropy give the same answers, byte for byte. N counts the
actions since the last setup, from 1; before any setup the engine is empty. A setup is
{"stack":[token...],"source":{"stacks":[[token...]...],"reshuffle":{...}}}, all of it
optional. A failed action has no effect. After a bad line the run goes on.

The game runs on a worker process. Where that dies, hangs or is killed, it is replaced, and
the answers are the same.

Exit status: 0 at the end of input, 1 if a line was bad, 2 for wrong usage.`,
		Example: `  hypertoken run examples/blackjack.jsonl
  printf '%s\n' '{"setup":{"stack":[{"id":"a"},{"id":"b"}]}}' '{"type":"stack:draw"}' | hypertoken run`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if r.atomic && !r.batch {
				return usageError{errors.New("--batch-atomic goes with --batch")}
			}
			if r.maxLine < 1 || r.window < 0 {
				return usageError{errors.New("--max-line must be above 0, --batch-window not below")}
			}
			name := "-"
			if len(args) == 1 {
				name = args[0]
			}
			in, err := openFile(name, c.InOrStdin())
			if err != nil {
				return usageError{err}
			}
			defer func() { _ = in.Close() }()
			h, err := f.open(c.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Shutdown(context.Background()) }()
			r.host, r.maxPayload = h, int(f.maxPayload)
			r.out = bufio.NewWriterSize(c.OutOrStdout(), 64<<10)
			return r.run(c.Context(), in)
		},
	}
	f.register(c.Flags())
	c.Flags().BoolVar(&r.batch, "batch", false, "send actions that arrive within the batch window as one batch")
	c.Flags().DurationVar(&r.window, "batch-window", 10*time.Millisecond, "how long a batch waits for more actions after its first")
	c.Flags().BoolVar(&r.atomic, "batch-atomic", false, "make batches all or nothing: when one action fails, the others of its batch do")
	c.Flags().Var(&r.maxLine, "max-line", "bound of a line of input")
	return c
}

// runner answers lines. It keeps one engine at a time.
type runner struct {
	host          *host.Host
	engine        *host.Engine
	engines       int
	out           *bufio.Writer
	n             int
	bad           bool
	batch, atomic bool
	window        time.Duration
	maxLine       byteSize
	maxPayload    int
}

func (r *runner) run(ctx context.Context, in io.Reader) error {
	if err := r.setup(ctx, nil); err != nil {
		return err
	}
	lines := &lineReader{in: bufio.NewReaderSize(in, 64<<10), max: int(r.maxLine)}
	answer := r.answerEach
	if r.batch {
		answer = r.answerBatches
	}
	if err := answer(ctx, lines); err != nil {
		return err
	}
	if r.bad {
		return errReported
	}
	return nil
}

func (r *runner) answerEach(ctx context.Context, lines *lineReader) error {
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		q, err := request(line, err)
		switch {
		case errors.Is(err, errLine):
			err = r.badLine(line.number, err)
		case err == nil:
			err = r.answer(ctx, q)
		}
		if err != nil {
			return err
		}
	}
}

// setup replaces the engine by a fresh one; the old one stays where the setup is refused.
func (r *runner) setup(ctx context.Context, setup host.Raw) error {
	r.engines++
	engine, err := r.host.Open(ctx, fmt.Sprintf("run-%d", r.engines), host.EngineOptions{Setup: setup})
	if err != nil {
		return err
	}
	if old := r.engine; old != nil {
		_ = old.Close(ctx)
		_ = r.host.Delete(ctx, old.Name())
	}
	r.engine, r.n = engine, 0
	return nil
}

// answer runs one request and writes its line.
func (r *runner) answer(ctx context.Context, q *command) error {
	switch q.kind {
	case setupRequest:
		err := q.valueError
		if err == nil {
			err = r.setup(ctx, q.value)
		}
		if err != nil {
			r.bad = true
			return r.write(errorLine(host.CodeOf(err), fmt.Sprintf("line %d: setup: %s", q.line, message(err))))
		}
		return r.write([]byte(`{"ok":true}`))
	case stateRequest:
		state, err := r.engine.State(ctx)
		return r.writeValue(`{"state":`, state.Raw, err)
	case digestRequest:
		digest, err := r.engine.Digest(ctx)
		if err != nil {
			return r.write(errorLine(host.CodeOf(err), message(err)))
		}
		return r.write(fmt.Appendf(nil, `{"digest":"%v"}`, digest))
	}
	r.n++
	var result host.Result
	err := q.valueError
	if err == nil {
		ctx, cancel := q.bounded(ctx)
		result, err = r.engine.Dispatch(ctx, q.action, q.value, q.options...)
		cancel()
	}
	return r.writeOutcome(r.n, result, err)
}

// maxBatch bounds the members of a batch.
const maxBatch = 4096

// answerBatches gathers actions that come within the window of the first, and sends them as one batch.
func (r *runner) answerBatches(ctx context.Context, lines *lineReader) error {
	type read struct {
		line inputLine
		err  error
	}
	reads, stop := make(chan read), make(chan struct{})
	defer close(stop)
	go func() {
		for {
			line, err := lines.next()
			select {
			case reads <- read{line, err}:
			case <-stop:
				return
			}
			if err != nil && !errors.Is(err, errLine) {
				return
			}
		}
	}()
	var gathered []*command
	size := 0
	var window <-chan time.Time
	flush := func() error {
		batch := gathered
		gathered, size, window = nil, 0, nil
		return r.answerBatch(ctx, batch)
	}
	for {
		var in read
		select {
		case in = <-reads:
		case <-window:
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		if errors.Is(in.err, io.EOF) {
			return flush()
		}
		q, err := request(in.line, in.err)
		action := err == nil && q.kind == actionRequest && q.valueError == nil
		if !action || len(gathered) == maxBatch || size+len(q.value) > r.maxPayload {
			if err := flush(); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, errLine):
			err = r.badLine(in.line.number, err)
		case err != nil:
		case action:
			if gathered = append(gathered, q); len(gathered) == 1 {
				window = time.After(r.window)
			}
			size += len(q.value)
		default:
			err = r.answer(ctx, q)
		}
		if err != nil {
			return err
		}
	}
}

// answerBatch sends a batch. Its deadline is the earliest of its members'.
func (r *runner) answerBatch(ctx context.Context, batch []*command) error {
	if len(batch) == 0 {
		return nil
	}
	members := make([]host.Action, len(batch))
	earliest := &command{}
	for i, q := range batch {
		members[i] = host.Action{Type: q.action, Payload: q.value, Options: q.options}
		if q.timeout > 0 && (earliest.timeout == 0 || q.timeout < earliest.timeout) {
			earliest = q
		}
	}
	mode := host.BatchIndependent
	if r.atomic {
		mode = host.BatchAtomic
	}
	ctx, cancel := earliest.bounded(ctx)
	defer cancel()
	outcomes, err := r.engine.DispatchBatch(ctx, mode, members...)
	for i := range batch {
		r.n++
		o := host.Outcome{Err: err}
		if outcomes != nil {
			o = outcomes[i]
		}
		if err := r.writeOutcome(r.n, o.Result, o.Err); err != nil {
			return err
		}
	}
	return nil
}
