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
	"hypertoken/internal/jsonl"
)

func newRun() *cobra.Command {
	var f hostFlags
	r := runner{}
	var store data
	r.maxLine = 64 << 20
	c := &cobra.Command{
		Use:   "run [flags] [FILE|-]",
		Short: "Play a game: read JSON Lines, answer each with a line",
		Long: `run reads JSON Lines from a file, or from standard input. It answers each line with one line,
which is flushed at once. So any program can drive it over pipes.

  {"setup":{...}}                  a fresh engine         {"ok":true}
  {"type":T,"payload":P}           an action              {"n":N,"result":R}
                                   if it failed           {"n":N,"error":{"code":C,"message":M}}
  {"batch":[ACTION,...],"mode":M}  several as one         {"results":[ANSWER,...]}
                                   if action K failed it  {"error":{"code":C,"message":M,"index":K}}
  {"state":true}                   the whole state        {"state":{...}}
  {"digest":true}                  its canonical digest   {"digest":"16 hex digits"}
  {"revert":N}                     back to sequence N     {"sequence":S,"digest":D}
  {"undo":true}, {"redo":true}     a step back, or forth  {"sequence":S,"digest":D}
  {"snapshot":S,...}               goes on from an export {"ok":true}
  anything else                                           {"error":{"code":"bad_input",...}}

Members that a line may have:

  payload      an action             the payload that the action needs
  now          an action, a batch    the clock, in milliseconds since the epoch; default this machine's
  entropy      an action             32 hexadecimal digits. Randomness without a seed, and new
                                     identifiers, come from them: the same lines with the same now
                                     and entropy give the same answers, byte for byte
  key          these, revert, undo,  it runs once: the same line with the same key gets the first
               redo                  answer
  if_sequence  the same              it fails with conflict unless the engine has this sequence
  at           state, digest         the answer is for an earlier sequence of the game, from 0 on
  mode         a batch               "atomic", the default: if one action fails, none has an effect;
                                     "independent": every action runs
  timeout      every line            how long the line may take, in milliseconds
  want         every line            some of ["sequence","changed","digest"]. An answer that is no
                                     error has these too: the sequence of the state after the line,
                                     whether the line changed the state, and the digest. The digest
                                     is null if it is not known any more

run also takes what GET /v1/engines/NAME/journal of a server answers: a setup with "core", or a
snapshot with "sequence", "core", "digest" and "keys", and then actions with "sequence" and
"checksum", markers, which set the state, and notes, with which a batch that had a key is known again.
It plays them again. An action whose result is another one than the line says, by its checksum or its
sequence, is answered with code diverged and ends the run.

A batch has 1 to 16384 actions. Each has type, and may have payload, now and entropy. A setup is
{"stack":[token...],"source":{"stacks":[[token...]...],"reshuffle":{...}}}; every part of it is
optional. If a line has a member that does not go with it, it fails with bad_input, and nothing of
it runs.

A step is an action, a whole batch, or a revert. An undo without a step to undo fails with conflict,
and so does a redo. Going back is a record of its own, S is its sequence, and nothing is lost. The
states of a game without --data are kept as far back as 64 MiB of history go.

N counts the actions since the last setup, from 1, those of batches too. A failed action or batch
has no effect. Before any setup the engine is empty. After a setup that was refused there is no
engine. Then all lines fail with not_found until the next setup, because they were meant for the
game that was refused. After any other bad line the run goes on.

A number with a point or an exponent is a float, any other is an integer within ±(2^53 - 1). A
printed number is accepted as input and means the same. A byte order mark at the start and blank
lines are skipped.

With --data DIR --engine NAME the game outlives the run: an answer means that its action is on the
disk, and the next run goes on with the same engine. A setup makes the engine, and is refused if the
engine exists. Without a setup, an engine that does not exist begins empty.

The game runs on a worker process. If the worker dies, hangs or is killed, it is replaced, and the
answers are the same.

A signal ends the run at once: the running action is withdrawn and has no effect. If standard output
has no reader any more, as in 'hypertoken run | head -1', the run ends with the next answer.

Exit status: 0 at the end of input; 1 if a line was bad or a result differs; 2 for wrong usage; 128
and the number of the signal that ended the run; 141 if standard output has no reader any more.`,
		Example: `  hypertoken run examples/blackjack.jsonl
  hypertoken run --data games --engine table-1 examples/blackjack.jsonl
  printf '%s\n' '{"setup":{"stack":[{"id":"a"},{"id":"b"}]}}' '{"type":"stack:draw"}' | hypertoken run`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if r.atomic && !r.batch {
				return usageError{errors.New("--batch-atomic goes with --batch: give both, or neither")}
			}
			if r.maxLine < 1 || r.window < 0 {
				return usageError{errors.New("--max-line must be above 0, and --batch-window must not be below 0")}
			}
			name := "-"
			if len(args) == 1 {
				name = args[0]
			}
			in, err := openFile(c.Context(), name, c.InOrStdin())
			if err != nil {
				return usageError{err}
			}
			defer func() { _ = in.Close() }()
			if (f.data == "") != (r.name == "") {
				return usageError{errors.New("--data and --engine go together: give both, or neither")}
			}
			if store, err = f.openData(0); err != nil {
				return err
			}
			defer store.close(f.logger())
			h, err := f.open(c.Context(), store.Store)
			if err != nil {
				return err
			}
			defer func() { _ = h.Shutdown(context.Background()) }()
			r.host, r.maxPayload = h, int(f.maxPayload)
			r.out = bufio.NewWriterSize(c.OutOrStdout(), 64<<10)
			return untilDone(c.Context(), func(ctx context.Context) error { return r.run(ctx, in) })
		},
	}
	f.register(c.Flags())
	f.registerData(c.Flags())
	c.Flags().StringVar(&r.name, "engine", "", "play on the engine of this `name` in --data")
	c.Flags().BoolVar(&r.batch, "batch", false,
		"send the actions of a batch window as one batch, except those with key, if_sequence or want")
	c.Flags().DurationVar(&r.window, "batch-window", 10*time.Millisecond,
		"how long a batch waits for more actions after its first")
	c.Flags().BoolVar(&r.atomic, "batch-atomic", false,
		"make batches all or nothing: if one action fails, none of its batch has an effect")
	c.Flags().Var(&r.maxLine, "max-line", "how long a line of input may be")
	return c
}

// runner answers lines. It keeps one engine at a time.
type runner struct {
	host          *host.Host
	name          string // of the engine that outlives the run; "" if none does
	engine        *host.Engine
	engines       int
	isPlaying     bool // a line has been played, or has begun the game
	refused       int  // the line of the setup that was refused, if there is no engine
	out           *bufio.Writer
	n             int // the actions since the last setup
	bad           bool
	batch, atomic bool
	window        time.Duration
	maxLine       byteSize
	maxPayload    int
}

func (r *runner) run(ctx context.Context, in io.Reader) error {
	if r.name == "" {
		if err := r.setup(ctx, host.EngineOptions{}); err != nil {
			return err
		}
	}
	lines := jsonl.NewReader(in, int(r.maxLine), "--max-line")
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

func (r *runner) answerEach(ctx context.Context, lines *jsonl.Reader) error {
	for {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		q, err := jsonl.ParseExport(line, err)
		if err == nil {
			err = r.answer(ctx, q)
		} else {
			err = r.badLine(ctx, line, err)
		}
		if err != nil {
			return err
		}
	}
}

// setup replaces the engine by a new one. If the setup is refused, there is no engine until the
// next setup.
func (r *runner) setup(ctx context.Context, o host.EngineOptions) error {
	if err := r.end(ctx, 0); err != nil {
		return err
	}
	r.engines++
	name := fmt.Sprintf("run-%d", r.engines)
	if r.name != "" {
		name, o.Mode = r.name, host.OpenNew
	}
	return r.open(ctx, name, o)
}

// restore replaces the engine by one that goes on from a snapshot.
func (r *runner) restore(ctx context.Context, q *jsonl.Request) error {
	if err := r.setup(ctx, host.EngineOptions{Snapshot: q.Base()}); err != nil || !q.HasDigest {
		return err
	}
	digest, err := r.engine.Digest(ctx)
	if err == nil && digest != q.Digest {
		err = host.ErrDiverged.With("the snapshot had the digest %v, and its state has %v", q.Digest, digest)
	}
	if err != nil {
		err = errors.Join(err, r.engine.Delete(ctx))
		r.engine = nil
	}
	return err
}

func (r *runner) open(ctx context.Context, name string, o host.EngineOptions) error {
	engine, err := r.host.Open(ctx, name, o)
	if err != nil {
		return err
	}
	r.engine, r.n, r.refused = engine, 0, 0
	return nil
}

// openNamed opens the engine that outlives the run, at the first line that is no setup.
func (r *runner) openNamed(ctx context.Context) error {
	if r.name == "" || r.engine != nil || r.refused > 0 {
		return nil
	}
	return r.open(ctx, r.name, host.EngineOptions{})
}

// end forgets the engine. refused is the line of the setup that was refused, or 0.
func (r *runner) end(ctx context.Context, refused int) error {
	r.refused, r.n = refused, 0
	if r.engine == nil {
		return nil
	}
	old := r.engine
	r.engine = nil
	if r.name != "" {
		return old.Close(ctx)
	}
	return old.Delete(ctx)
}

// answer runs one request and writes its line.
func (r *runner) answer(ctx context.Context, q *jsonl.Request) error {
	if q.IsStart() || q.Kind == jsonl.Marker && !r.isPlaying {
		return r.answerSetup(ctx, q)
	}
	r.isPlaying = true
	if q.Kind == jsonl.Marker {
		return r.answerMarker(ctx, q)
	}
	if err := r.openNamed(ctx); err != nil {
		return err
	}
	first := r.n + 1
	r.n += q.Actions()
	var line []byte
	var err error
	switch {
	case r.engine != nil:
		// If the core's result is no value, the line has that error.
		line, err = jsonl.Answer(ctx, r.engine, q, first)
	case q.Kind == jsonl.Action:
		line, _ = jsonl.Outcome(first, host.Result{}, r.noEngine()) // an error always has a line
	default:
		line = jsonl.Failure(r.noEngine())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // the end is no answer
	}
	if failed := r.write(line); failed != nil {
		return failed
	}
	if errors.Is(err, host.ErrDiverged) { // all that follows would be another game
		return errReported
	}
	return nil
}

func (r *runner) answerSetup(ctx context.Context, q *jsonl.Request) error {
	err := q.ValueError
	bounded, cancel := q.Bounded(ctx)
	defer cancel()
	if err == nil {
		err = r.coreOf(q)
	}
	switch {
	case err != nil:
	case q.Kind == jsonl.Snapshot || q.Kind == jsonl.Marker:
		err = r.restore(bounded, q)
	default:
		err = r.setup(bounded, host.EngineOptions{Setup: q.Value})
	}
	if err == nil {
		r.isPlaying = true
		return r.write(jsonl.Taken(bounded, r.engine, q))
	}
	r.bad, r.isPlaying = true, false
	if err := r.end(ctx, q.Line); err != nil {
		return err
	}
	return r.write(jsonl.BadSetup(q.Line, err))
}

// answerMarker sets the state to that of a marker within an export. The engine gets the sequence of
// the marker, which has to be the next one, and n goes on.
func (r *runner) answerMarker(ctx context.Context, q *jsonl.Request) error {
	bounded, cancel := q.Bounded(ctx)
	defer cancel()
	n := r.n
	err := r.setMarker(bounded, q)
	if ctx.Err() != nil {
		return context.Cause(ctx) // the end is no answer
	}
	if err == nil {
		r.n = n
		return r.write(jsonl.Taken(bounded, r.engine, q))
	}
	if err := r.write(jsonl.Failure(err)); err != nil {
		return err
	}
	return errReported // all that follows would be another game
}

func (r *runner) setMarker(ctx context.Context, q *jsonl.Request) error {
	if r.name != "" {
		return host.ErrBadInput.With("line %d: a marker can't be played on the engine of --engine: "+
			"'hypertoken journal import' keeps the history with its markers", q.Line)
	}
	at, err := r.engine.Position(ctx)
	if err == nil && at.Sequence+1 != q.Sequence {
		err = host.ErrDiverged.With("line %d: the marker has the sequence %d, and the game is at %d", q.Line, q.Sequence,
			at.Sequence)
	}
	if err == nil {
		err = r.coreOf(q)
	}
	if err == nil {
		err = r.restore(ctx, q)
	}
	return err
}

// coreOf fails if a line says that another core has played the game.
func (r *runner) coreOf(q *jsonl.Request) error {
	if q.Core == "" || q.Core == r.host.CoreHash() {
		return nil
	}
	return host.ErrCoreMismatch.With("the game was played by the core %s, and --core is %s", q.Core, r.host.CoreHash())
}

// noEngine returns the error for a line after a setup that was refused. The line was meant for the
// engine of that setup, and must not run on another one.
func (r *runner) noEngine() error {
	return &host.Error{Code: "not_found", Message: fmt.Sprintf(
		`there is no engine: the setup in line %d was refused; the next {"setup":{...}} makes one`, r.refused)}
}

// write writes a line and flushes it.
func (r *runner) write(line []byte) error {
	_, err := r.out.Write(append(line, '\n'))
	if err == nil {
		err = r.out.Flush()
	}
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// badLine answers a line that can't be used. It fails if the input can't be read.
func (r *runner) badLine(ctx context.Context, line jsonl.Line, err error) error {
	var bad *jsonl.LineError
	if !errors.As(err, &bad) {
		return err
	}
	r.bad = true
	if bad.Setup {
		if err := r.end(ctx, line.Number); err != nil {
			return err
		}
	}
	return r.write(jsonl.BadLine(line.Number, err))
}

// maxBatch bounds the members of a batch.
const maxBatch = 4096

// answerBatches gathers actions that come within the window of the first, and sends them as one
// batch.
func (r *runner) answerBatches(ctx context.Context, lines *jsonl.Reader) error {
	type read struct {
		line jsonl.Line
		err  error
	}
	reads, stop := make(chan read), make(chan struct{})
	defer close(stop)
	go func() {
		for {
			line, err := lines.Next()
			select {
			case reads <- read{line, err}:
			case <-stop:
				return
			}
			if err != nil && !errors.Is(err, jsonl.ErrLine) {
				return
			}
		}
	}()
	var gathered []*jsonl.Request
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
		q, err := jsonl.ParseExport(in.line, in.err)
		if err == nil && !q.IsStart() {
			if err := r.openNamed(ctx); err != nil {
				return err
			}
		}
		action := err == nil && q.Kind == jsonl.Action && q.ValueError == nil && !q.Alone && r.engine != nil
		if !action || len(gathered) == maxBatch || size+len(q.Value) > r.maxPayload {
			if err := flush(); err != nil {
				return err
			}
		}
		switch {
		case err != nil:
			err = r.badLine(ctx, in.line, err)
		case action:
			if gathered = append(gathered, q); len(gathered) == 1 {
				window = time.After(r.window)
			}
			size += len(q.Value)
		default:
			err = r.answer(ctx, q)
		}
		if err != nil {
			return err
		}
	}
}

// answerBatch sends a batch. Its deadline is the earliest deadline of its members.
func (r *runner) answerBatch(ctx context.Context, batch []*jsonl.Request) error {
	if len(batch) == 0 {
		return nil
	}
	members := make([]host.Action, len(batch))
	earliest := &jsonl.Request{}
	for i, q := range batch {
		members[i] = host.Action{Type: q.Action, Payload: q.Value, Options: q.Options}
		if q.Timeout > 0 && (earliest.Timeout == 0 || q.Timeout < earliest.Timeout) {
			earliest = q
		}
	}
	mode := host.BatchIndependent
	if r.atomic {
		mode = host.BatchAtomic
	}
	bounded, cancel := earliest.Bounded(ctx)
	defer cancel()
	result, err := r.engine.DispatchBatch(bounded, mode, members)
	if ctx.Err() != nil {
		return context.Cause(ctx) // the end is no answer
	}
	for i := range batch {
		r.n++
		o := host.Outcome{Err: err}
		if result.Outcomes != nil {
			o = result.Outcomes[i]
		}
		line, _ := jsonl.Outcome(r.n, o.Result, o.Err) // if the core's result is no value, the line has that error
		if err := r.write(line); err != nil {
			return err
		}
	}
	return nil
}
