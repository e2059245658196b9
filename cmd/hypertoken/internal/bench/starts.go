package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"hypertoken/host"
	"hypertoken/journal"
)

const (
	// recoveryActions is how many actions are in the journal of an engine whose worker is killed.
	recoveryActions = 1000
	// replayActions is how many are in the journal whose replay is measured.
	replayActions = 50_000
)

// never is a number of bytes, and a time, that no journal comes to.
const (
	neverBytes = 1 << 40
	neverTime  = 1 << 61
)

// openStart measures from the start of a host to the first answer of its worker, the compiled core
// in the cache.
func openStart(_ context.Context, r *room) (slice, error) {
	return func(ctx context.Context, d time.Duration, s *sample) error {
		for until := time.Now().Add(d); ; {
			began := time.Now()
			h, err := r.newHost(ctx, 1, host.Options{})
			if err != nil {
				return err
			}
			e, err := r.engine(ctx, h, deckSize)
			if err == nil {
				_, err = e.Dispatch(ctx, actionDraw, nil)
			}
			took := time.Since(began)
			if err == nil {
				err = onWorkers(h)
			}
			shutdown(h)
			if err != nil {
				return err
			}
			if s.lap(took); time.Now().After(until) {
				return nil
			}
		}
	}, nil
}

// onWorkers fails if an engine was placed in this process because no worker could run.
func onWorkers(h *host.Host) error {
	if n := h.Stats().Fallbacks; n > 0 {
		return fmt.Errorf("%d engines were placed in this process because no worker could run, "+
			"so the figure would be of something else", n)
	}
	return nil
}

// openKill measures the time from the SIGKILL of a worker to the next answer of an engine that was
// on it. Before each kill it waits until ready returns true.
func openKill(o host.Options, ready func(host.Stats) bool) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		// With these options each death is the first one in its window, and no snapshot shortens
		// the journal.
		o.RestartWindow, o.SnapshotBytes, o.ReplayBudget = 1, neverBytes, neverTime
		h, err := r.hostWith(ctx, 1, o)
		if err != nil {
			return nil, err
		}
		w, err := newDrawer(ctx, r, h)
		if err != nil {
			return nil, err
		}
		for range recoveryActions {
			if err := drawOrReset(ctx, w); err != nil {
				return nil, err
			}
		}
		return func(ctx context.Context, d time.Duration, s *sample) error {
			for until := time.Now().Add(d); ; {
				for !ready(h.Stats()) {
					if err := sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
				p, err := os.FindProcess(h.Stats().Workers[0].PID)
				if err != nil {
					return err
				}
				began := time.Now()
				if err := errors.Join(p.Kill(), p.Release()); err != nil {
					return err
				}
				if _, err := w.engine.Dispatch(ctx, actionPeek, nil); err != nil {
					return err
				}
				s.lap(time.Since(began))
				if err := onWorkers(h); err != nil {
					return err
				}
				if time.Now().After(until) {
					return nil
				}
			}
		}, nil
	}
}

// frozen is a store that has the same journal for every name. It drops everything that is
// appended.
type frozen struct{ *journal.Stored }

func (f frozen) Load(_ string, _ journal.Owner, done func(*journal.Stored, error)) {
	done(f.Stored, nil)
}
func (f frozen) Append(_ string, _ journal.Owner, _ uint64, _ []journal.Record, d journal.Done) {
	d.Report(nil)
}
func (f frozen) Install(_ string, _ journal.Owner, _ journal.Base, d journal.Done) { d.Report(nil) }
func (f frozen) Delete(_ string, d journal.Done)                                   { d.Report(nil) }

// forgetful is a store that keeps the setups of engines, and drops their actions.
type forgetful struct{ setups *sync.Map }

func (f forgetful) Load(name string, _ journal.Owner, done func(*journal.Stored, error)) {
	if base, there := f.setups.Load(name); there {
		done(&journal.Stored{Base: base.(journal.Base)}, nil)
		return
	}
	done(nil, nil)
}

func (f forgetful) Install(name string, _ journal.Owner, base journal.Base, d journal.Done) {
	f.setups.LoadOrStore(name, base)
	d.Report(nil)
}

func (f forgetful) Append(_ string, _ journal.Owner, _ uint64, _ []journal.Record, d journal.Done) {
	d.Report(nil)
}

func (f forgetful) Delete(name string, d journal.Done) {
	f.setups.Delete(name)
	d.Report(nil)
}

// openReplay measures how fast a journal is replayed on a ready worker: the time from the first
// dispatch until the engine, loaded from that journal, answers.
func openReplay(ctx context.Context, r *room) (slice, error) {
	stored, err := recordJournal(ctx, r, replayActions)
	if err != nil {
		return nil, err
	}
	h, err := r.hostWith(ctx, 1, host.Options{Store: frozen{stored}, SnapshotBytes: neverBytes,
		ReplayBudget: neverTime})
	if err != nil {
		return nil, err
	}
	replay := func(ctx context.Context) (time.Duration, error) {
		r.engines++
		e, err := h.Open(ctx, fmt.Sprint("replay-", r.engines), host.EngineOptions{})
		if err != nil {
			return 0, err
		}
		began := time.Now()
		_, err = e.Dispatch(ctx, actionPeek, nil)
		took := time.Since(began)
		return took, errors.Join(err, e.Close(ctx), onWorkers(h))
	}
	// The first replay waits until the worker is ready.
	if _, err := replay(ctx); err != nil {
		return nil, err
	}
	return func(ctx context.Context, d time.Duration, s *sample) error {
		n, all := 0, time.Duration(0)
		for until := time.Now().Add(d); n == 0 || time.Now().Before(until); n++ {
			took, err := replay(ctx)
			if err != nil {
				return err
			}
			all += took
		}
		s.rate(n*replayActions, all)
		return nil
	}, nil
}

// recordJournal returns the journal of an engine after that many draws and resets.
func recordJournal(ctx context.Context, r *room, actions int) (*journal.Stored, error) {
	store := journal.NewMemory()
	h, err := r.newHost(ctx, inProcess, host.Options{Store: store, SnapshotBytes: neverBytes, ReplayBudget: neverTime})
	if err != nil {
		return nil, err
	}
	defer shutdown(h)
	w, err := newDrawer(ctx, r, h)
	if err != nil {
		return nil, err
	}
	for range actions {
		if err := drawOrReset(ctx, w); err != nil {
			return nil, err
		}
	}
	var stored *journal.Stored
	store.Load(w.engine.Name(), journal.Owner{}, func(s *journal.Stored, e error) { stored, err = s, e })
	if err == nil && stored.Count != uint64(actions) {
		err = fmt.Errorf("a journal of %d actions has %d", actions, stored.Count)
	}
	return stored, err
}

// spared returns the options of a host with a spare worker, and a function that reports whether
// the spare is ready. The function is nil if a host has no spare workers.
func spared() (o host.Options, ready func(host.Stats) bool) {
	return host.Options{Spares: 1}, func(s host.Stats) bool {
		return len(s.Spares) == 1 &&
			s.Spares[0].State == host.WorkerReady
	}
}

func openSpared(ctx context.Context, r *room) (slice, error) {
	o, ready := spared()
	if ready == nil {
		return nil, unavailable{"this host starts no spare workers"}
	}
	return openKill(o, ready)(ctx, r)
}
