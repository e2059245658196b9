package journals

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/journal"
	"hypertoken/wasm"
)

const (
	// firstInstance bounds the time for making the first instance of a core.
	firstInstance = time.Minute
	// maxUnreported bounds the journals that are checked and not reported, because one before
	// them takes longer.
	maxUnreported = 1024
)

// Report says what the check of one journal has found.
type Report struct {
	// Name is that of the journal.
	Name string
	// First is the sequence of the oldest base that was checked; 0 if the whole journal was.
	First uint64
	// Actions is how many actions gave the checksum that was acknowledged.
	Actions uint64
	// Bases is how many snapshots had the digest that the actions before them lead to.
	Bases uint64
	// Difference is the earliest difference; nil if there is none.
	Difference *Difference
	// Err is why the journal could not be checked; nil if it was.
	Err error
}

// OK reports whether the whole journal was checked and has no difference.
func (r *Report) OK() bool { return r.Difference == nil && r.Err == nil }

// Options configure a [Verifier]. The zero value is good.
type Options struct {
	// Parallel is how many journals are checked at a time. The default is a journal for each core
	// of the machine.
	Parallel int
	// MemoryLimit bounds the memory of an engine, in bytes. 0 is the default of package wasm.
	MemoryLimit uint64
	// Cores are the codes of cores that the store may not have, by their SHA-256 in hexadecimal.
	Cores map[string][]byte
	// Cache keeps compiled code; nil compiles anew. The caller closes it after the verifier.
	Cache *wasm.Cache
}

// Verifier replays journals in this process, and compares each result with the checksum of the
// result that was acknowledged, and each snapshot with the state that the actions before it lead
// to. It changes nothing.
type Verifier struct {
	source  Source
	o       Options
	actions atomic.Uint64

	mu    sync.Mutex // guards what follows
	cores map[string]*compiling
}

// compiling is a core that is compiled once.
type compiling struct {
	ready chan struct{} // closed once core or err is there
	core  *wasm.Core
	err   error
}

// NewVerifier returns a verifier. The caller calls Close.
func NewVerifier(s Source, o Options) *Verifier {
	if o.Parallel < 1 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	return &Verifier{source: s, o: o, cores: map[string]*compiling{}}
}

// Actions returns how many actions have been replayed so far. Any goroutine may call it.
func (v *Verifier) Actions() uint64 { return v.actions.Load() }

// Verify checks the journals that next returns, until it returns false, several at a time. It
// calls report for each one, in the order of next, and never twice at once. It returns the cause
// of ctx if ctx ends, or the first error of next or of report. What was reported is checked then,
// and nothing behind it is.
func (v *Verifier) Verify(
	ctx context.Context, next func() (info journal.Info, ok bool, err error), report func(Report) error,
) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	type job struct {
		info journal.Info
		done chan Report
	}
	jobs, ordered := make(chan job), make(chan job, maxUnreported)
	var checkers sync.WaitGroup
	defer checkers.Wait()
	for range v.o.Parallel {
		checkers.Go(func() {
			for j := range jobs {
				j.done <- v.check(running, j.info)
			}
		})
	}
	checkers.Go(func() {
		defer close(ordered)
		defer close(jobs)
		for running.Err() == nil {
			info, ok, err := next()
			if err != nil {
				stop(err)
			}
			if err != nil || !ok {
				return
			}
			j := job{info, make(chan Report, 1)}
			select {
			case ordered <- j:
			case <-running.Done():
				return
			}
			jobs <- j // the checkers take every job until jobs is closed
		}
	})
	for j := range ordered {
		r := <-j.done
		if running.Err() != nil {
			continue // it may have been cut off
		}
		if err := report(r); err != nil {
			stop(err)
		}
	}
	if running.Err() != nil {
		return context.Cause(running)
	}
	return nil
}

// check checks one journal.
func (v *Verifier) check(ctx context.Context, info journal.Info) Report {
	c := checking{v: v, name: info.Name}
	c.Name = info.Name
	c.Err = c.run(ctx, info.Sequence)
	return c.Report
}

// core returns the compiled core of a hash.
func (v *Verifier) core(ctx context.Context, hash string) (*wasm.Core, error) {
	v.mu.Lock()
	c := v.cores[hash]
	if c == nil {
		c = &compiling{ready: make(chan struct{})}
		v.cores[hash] = c
		go func() {
			defer close(c.ready)
			c.core, c.err = v.compile(context.WithoutCancel(ctx), hash)
		}()
	}
	v.mu.Unlock()
	select {
	case <-c.ready:
		return c.core, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (v *Verifier) compile(ctx context.Context, hash string) (*wasm.Core, error) {
	code := v.o.Cores[hash]
	if code == nil {
		var err error
		code, err = Answer(ctx, func(done func([]byte, error)) { v.source.Core(hash, done) })
		switch {
		case err != nil:
			return nil, fmt.Errorf("the core %s: %w", hash, err)
		case code == nil:
			return nil, fmt.Errorf("the core %s, which wrote it, is not in the store: name its file with --core", hash)
		case wasm.Hash(code) != hash:
			return nil, fmt.Errorf("the core %s: %w: the store has the core %s under that name", hash,
				journal.ErrDamaged, wasm.Hash(code))
		}
	}
	core, err := wasm.Compile(ctx, code, wasm.Options{Interruptible: true, MemoryLimit: v.o.MemoryLimit,
		FirstInstance: firstInstance, Cache: v.o.Cache})
	if err != nil {
		return nil, fmt.Errorf("the core %s can't be run: %w", hash, err)
	}
	return core, nil
}

// Close frees the compiled cores. No Verify is under way.
func (v *Verifier) Close(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, c := range v.cores {
		<-c.ready
		if c.core != nil {
			errs = append(errs, c.core.Close(ctx))
		}
	}
	return errors.Join(errs...)
}
