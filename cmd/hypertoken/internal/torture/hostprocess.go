package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"hypertoken/host"
	"hypertoken/journal/disk"
)

// hostVariable is the environment variable that makes this program the process of a host that a
// torture kills.
const hostVariable = "HYPERTOKEN_TORTURE_HOST"

// Exit statuses of a host's process that nobody has killed. A process that ends by a panic has 2,
// a process that is killed has 1 on some systems.
const (
	hostEnded  = 0
	hostFailed = 4
)

// Main runs a host until it is killed, if a torture has started this process for that. Then it
// does not return. A program that calls [RunHost] calls Main at its start, after workerproc.Main.
func Main() {
	if os.Getenv(hostVariable) == "" {
		return
	}
	if err := runHostProcess(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "the host of a torture: %v\n", err)
		os.Exit(hostFailed)
	}
	os.Exit(hostEnded)
}

// hostProcess is the process of a host that is killed.
type hostProcess struct {
	host *host.Host

	writing sync.Mutex // guards the fields below
	out     *bufio.Writer
	encoder *json.Encoder
	replies int

	mu      sync.Mutex // guards engines
	engines map[string]*openEngine
}

// openEngine is an engine that is open, or is being opened.
type openEngine struct {
	opening *hostOpening
	once    sync.Once
	engine  *host.Engine
	err     error
}

// runHostProcess answers questions until the input ends, and shuts the host down then.
func runHostProcess(in io.Reader, out io.Writer) error {
	// A terminal interrupts all its processes. The torture says when this one ends.
	signal.Ignore(os.Interrupt)
	questions := json.NewDecoder(bufio.NewReader(in))
	var order hostOrder
	if err := questions.Decode(&order); err != nil {
		return fmt.Errorf("%s is for the hosts of hypertoken torture, unset it: %w", hostVariable, err)
	}
	if order.Doom.Moment == AtOpening {
		dieAfter(order.Doom.Delay)
	}
	level := slog.LevelWarn
	if order.Debug {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	o := disk.Options{Logger: logger}
	if order.Tuning.SyncsInterval {
		o.Sync = disk.SyncInterval
	}
	store, err := disk.Open(order.Dir, o)
	if err != nil {
		return err
	}
	p := &hostProcess{out: bufio.NewWriter(out), engines: map[string]*openEngine{}}
	p.encoder = json.NewEncoder(p.out)
	// The torture itself notices if a call never ends.
	p.host, err = host.New(context.Background(), host.Options{
		Workers: order.Workers, CorePath: order.CorePath, Logger: logger, Timeout: -1,
		Store:         &doomedStore{Store: store, doom: order.Doom, die: dieAfter},
		SnapshotBytes: order.Tuning.SnapshotBytes, IdleAfter: order.Tuning.IdleAfter, MaxEngineMemory: hostEngineMemory,
	})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	var answering sync.WaitGroup
	for {
		var q question
		if err := questions.Decode(&q); err != nil {
			break // the torture ends the input to shut the host down
		}
		if q.Opening != nil {
			p.mu.Lock()
			p.engines[q.Engine] = &openEngine{opening: q.Opening}
			p.mu.Unlock()
		}
		answering.Go(func() { p.answer(q) })
	}
	if order.Doom.Moment == AtShutdown {
		dieAfter(order.Doom.Delay)
	}
	err = p.host.Shutdown(context.Background())
	answering.Wait()
	return errors.Join(err, store.Close())
}

// hostSnapshotBytes makes bases frequent. A third of the hosts has it, and the model.
// hostEngineMemory bounds what an engine takes.
const (
	hostSnapshotBytes = 4 << 10
	hostEngineMemory  = 64 << 20
)

// dieAfter kills this process after a time. It does not return if that is 0.
func dieAfter(after time.Duration) {
	if after > 0 {
		time.AfterFunc(after, func() { dieAfter(0) })
		return
	}
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	select {} // until the signal has arrived
}

// workersEvery: one of so many replies names the processes of the workers.
const workersEvery = 32

func (p *hostProcess) answer(q question) {
	r := p.ask(context.Background(), &q)
	r.ID = q.ID
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.replies++; p.replies%workersEvery == 1 {
		for _, w := range p.host.Stats().Workers {
			if w.PID != 0 {
				r.Workers = append(r.Workers, w.PID)
			}
		}
	}
	// If the torture has gone, the input ends, too.
	_ = p.encoder.Encode(r)
	_ = p.out.Flush()
}

// ask asks the host.
func (p *hostProcess) ask(ctx context.Context, q *question) reply {
	if q.What == askDelete || q.What == askClose {
		return reply{Err: tellError(p.close(ctx, q))}
	}
	e, err := p.open(ctx, q)
	if err != nil {
		return reply{Err: tellError(err)}
	}
	switch q.What {
	case askAction:
		a := &q.Actions[0]
		r, err := e.Dispatch(ctx, a.Kind, host.Raw(a.Payload), append(a.options(), host.Key(q.Key))...)
		return reply{Outcomes: []toldOutcome{tellOutcome(a.Kind, r, err)}}
	case askBatch:
		return askBatchOf(ctx, e, q)
	case askState:
		r, err := e.State(ctx)
		return reply{Outcomes: []toldOutcome{tellOutcome("", r, err)}}
	case askPosition:
		at, err := e.Position(ctx)
		return reply{Position: at, Err: tellError(err)}
	case askJournal:
		var r reply
		for entry, err := range e.History(ctx, 1, 0) {
			if err != nil {
				return reply{Err: tellError(err)}
			}
			if entry.Note != nil {
				continue // the keys are checked by what their callers were told
			}
			if entry.Marker != nil {
				entry.Marker.Base = nil // it is large, and is not looked at
			}
			r.Journal = append(r.Journal, entry)
		}
		return r
	case askRewind:
		at, err := rewind(ctx, e, q)
		return reply{Outcomes: []toldOutcome{{Sequence: at.Sequence, Changed: err == nil, Hash: uint64(at.Digest),
			Err: tellError(err)}}}
	}
	return reply{Err: &toldError{Message: fmt.Sprintf("the torture asked for %q", q.What)}}
}

func rewind(ctx context.Context, e *host.Engine, q *question) (host.Position, error) {
	switch q.Actions[0].Kind {
	case undoKind:
		return e.Undo(ctx, host.Key(q.Key))
	case redoKind:
		return e.Redo(ctx, host.Key(q.Key))
	}
	return e.Revert(ctx, q.Actions[0].To, host.Key(q.Key))
}

// askBatchOf runs a batch.
func askBatchOf(ctx context.Context, e *host.Engine, q *question) reply {
	members := make([]host.Action, len(q.Actions))
	for k := range members {
		a := &q.Actions[k]
		members[k] = host.Action{Type: a.Kind, Payload: host.Raw(a.Payload), Options: a.options()}
	}
	var r reply
	result, err := e.DispatchBatch(ctx, q.Mode, members, host.Key(q.Key))
	for k := range members {
		o := host.Outcome{Err: err}
		if result.Outcomes != nil {
			o = result.Outcomes[k]
		}
		r.Outcomes = append(r.Outcomes, tellOutcome(q.Actions[k].Kind, o.Result, o.Err))
	}
	return r
}

// open returns the engine of a question. The first question about an engine opens it.
func (p *hostProcess) open(ctx context.Context, q *question) (*host.Engine, error) {
	p.mu.Lock()
	e := p.engines[q.Engine]
	p.mu.Unlock()
	e.once.Do(func() {
		o := host.EngineOptions{Setup: host.Raw(e.opening.Setup), EnableBatching: e.opening.Gathers,
			BatchMode: e.opening.Mode, BatchWindow: time.Millisecond}
		if e.opening.Exists {
			o.Mode = host.OpenExisting
		}
		e.engine, e.err = p.host.Open(ctx, q.Engine, o)
	})
	return e.engine, e.err
}

// close closes the engine of a question. If the question says so, it deletes the engine, too.
func (p *hostProcess) close(ctx context.Context, q *question) error {
	p.mu.Lock()
	e := p.engines[q.Engine]
	delete(p.engines, q.Engine)
	p.mu.Unlock()
	if e != nil && e.engine != nil {
		if err := e.engine.Close(ctx); err != nil {
			return err
		}
	}
	if q.What == askDelete {
		return p.host.Delete(ctx, q.Engine)
	}
	return nil
}
