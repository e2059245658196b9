package journals

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"hypertoken/journal"
)

// maxUnreported bounds the journals that are checked and not reported, because one before them
// takes longer.
const maxUnreported = 1024

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

// Verifier replays journals in this process, and compares each result with the checksum of the
// result that was acknowledged, and each snapshot with the state that the actions before it lead
// to. It changes nothing.
type Verifier struct {
	source   Source
	parallel int
	cores    cores
	actions  atomic.Uint64
}

// NewVerifier returns a verifier. The caller calls Close.
func NewVerifier(s Source, o Options) *Verifier {
	if o.Parallel < 1 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	return &Verifier{source: s, parallel: o.Parallel, cores: newCores(s, o)}
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
	for range v.parallel {
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
	c := checking{v: v, name: info.Name, wanted: map[uint64][]wanted{}}
	c.Name = info.Name
	c.Err = c.run(ctx, info.Sequence)
	return c.Report
}

// Close frees the compiled cores. No Verify is under way.
func (v *Verifier) Close(ctx context.Context) error { return v.cores.close(ctx) }
