package torture

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
)

// lived returns the history of an engine without faults, and a host for its model. Only the named
// actions of the core are called, or all if none is named.
func lived(t *testing.T, core []byte, only ...string) (*history, *host.Host) {
	t.Helper()
	h, err := host.New(t.Context(), host.Options{InProcess: true, Core: core, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
	actions, err := h.Actions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkload(actions)
	if len(only) > 0 {
		w = &workload{all: slices.DeleteFunc(actions,
			func(a host.ActionInfo) bool { return !slices.Contains(only, a.Name) })}
	}
	to := &torture{ctx: t.Context(), host: h, workload: w, injector: newInjector(1, nil, 1)}
	to.config.For = 1 << 40
	to.until = to.injector.epoch.Add(1 << 40)
	l := &life{t: to, name: "e"}
	if err := l.run(rand.New(rand.NewPCG(1, 1)), false); err != nil {
		t.Fatal(err)
	}
	return &l.history, h
}

// change returns the first call of a single action without a key that was told a change, with the
// sequence from or a later one.
func (h *history) change(t *testing.T, from uint64) (x *call) {
	t.Helper()
	for _, calls := range h.callers {
		for _, c := range calls {
			if c.form == single && c.advances(0) && c.actions[0].key == "" && c.outcomes[0].sequence >= from &&
				(x == nil || c.outcomes[0].sequence < x.outcomes[0].sequence) {
				x = c
			}
		}
	}
	if x == nil {
		t.Fatal("there is no such change")
	}
	return x
}

// Each fate is found in a history that has it. A sound history has none.
func TestEachFateIsFound(t *testing.T) {
	for _, c := range []struct {
		fate  Fate
		name  string
		spoil func(t *testing.T, h *history)
	}{
		{"", "nothing", func(*testing.T, *history) {}},
		{Lost, "two were told the same change", func(t *testing.T, h *history) {
			h.change(t, 30).outcomes[0].sequence = h.change(t, 10).outcomes[0].sequence
		}},
		{Lost, "the engine ends before what was acknowledged", func(_ *testing.T, h *history) { h.last.sequence-- }},
		{Lost, "the journal has another result", func(_ *testing.T, h *history) { h.journal[len(h.journal)-1].Checksum++ }},
		{Duplicated, "what failed had an effect", func(t *testing.T, h *history) {
			h.change(t, 20).outcomes[0] = outcome{err: &host.ActionError{Code: "not_found"}}
		}},
		{Duplicated, "a key ran twice", func(_ *testing.T, h *history) {
			for _, calls := range h.callers {
				for _, x := range calls {
					if x.form == single && x.actions[0].key != "" && x.outcomes[0].sequence > 40 {
						x.outcomes[0].sequence--
						return
					}
				}
			}
		}},
		{Diverged, "another result", func(t *testing.T, h *history) { h.change(t, 20).outcomes[0].hash++ }},
		{Diverged, "another read", func(_ *testing.T, h *history) {
			for _, calls := range h.callers {
				for _, x := range calls {
					if x.form == wholeState && x.outcomes[0].err == nil {
						x.outcomes[0].hash++
						return
					}
				}
			}
		}},
		{Diverged, "another digest", func(_ *testing.T, h *history) { h.digest++ }},
		{Disordered, "told before it called", func(t *testing.T, h *history) {
			x, later := h.change(t, 10), h.change(t, 90)
			x.start, x.end = later.end+1, later.end+2
		}},
		{Disordered, "a caller's own order", func(t *testing.T, h *history) {
			calls := h.callers[0]
			slices.Reverse(calls)
		}},
		{Disordered, "an event twice", func(_ *testing.T, h *history) { h.events[3] = h.events[4] }},
		{Disordered, "an event missing", func(_ *testing.T, h *history) { h.events = h.events[1:] }},
		{Visible, "a fault's error", func(_ *testing.T, h *history) {
			x := h.callers[1][5]
			x.outcomes[0] = outcome{err: host.ErrPoisoned}
		}},
		{Visible, "no worker, without waiting for one", func(_ *testing.T, h *history) {
			h.callers[1][5].outcomes[0] = outcome{err: host.ErrWorkerUnavailable}
		}},
		{Disordered, "half an atomic batch", func(_ *testing.T, h *history) {
			for _, calls := range h.callers {
				for _, x := range calls {
					if x.form == atomicBatch && x.outcomes[0].err == nil {
						x.outcomes[1] = outcome{err: &host.ActionError{Code: "not_found"}}
						return
					}
				}
			}
		}},
		{Visible, "a deadline that nobody asked for", func(_ *testing.T, h *history) {
			for _, x := range h.callers[1] {
				if !x.mayEnd {
					x.outcomes[0] = outcome{err: host.ErrTimeout}
					return
				}
			}
		}},
	} {
		t.Run(strings.TrimSpace(string(c.fate)+" "+c.name), func(t *testing.T) {
			h, models := lived(t, cores.Example)
			c.spoil(t, h)
			model, err := models.Open(t.Context(), "model", host.EngineOptions{Setup: h.setup})
			if err != nil {
				t.Fatal(err)
			}
			found, err := check(t.Context(), h, model, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.fate == "" && len(found) > 0:
				t.Errorf("found %v", found)
			case c.fate != "" && !slices.ContainsFunc(found, func(v Violation) bool { return v.Fate == c.fate }):
				t.Errorf("found %v", found)
			}
		})
	}
}

// A core whose action is no function of the state and its inputs gives itself away: a fresh engine
// returns something else.
func TestACoreThatIsNotDeterministic(t *testing.T) {
	h, models := lived(t, cores.Test, "test:differ")
	model, err := models.Open(t.Context(), "model", host.EngineOptions{Setup: h.setup})
	if err != nil {
		t.Fatal(err)
	}
	found, err := check(t.Context(), h, model, time.Second)
	if err != nil || !slices.ContainsFunc(found,
		func(v Violation) bool { return v.Fate == Diverged && strings.Contains(v.What, "test:differ") }) {
		t.Errorf("found %v, %v", found, err)
	}
}

// A schedule depends on its seed, and on nothing else.
func TestASeedIsASchedule(t *testing.T) {
	draw := func(seed uint64, kinds []Kind) (list []fault) {
		s := newSchedule(seed, kinds)
		for range 200 {
			f, ok := s.next()
			if !ok {
				t.Fatal("no fault")
			}
			list = append(list, f)
		}
		return list
	}
	if a, b := draw(7, Kinds()), draw(7, Kinds()); !slices.Equal(a, b) {
		t.Error("the same seed draws other faults")
	}
	if slices.Equal(draw(7, Kinds()), draw(8, Kinds())) {
		t.Error("another seed draws the same faults")
	}
	seen := map[Kind]bool{}
	for _, f := range draw(1, Kinds()) {
		seen[f.kind] = true
	}
	for _, k := range Kinds() {
		if k != Cancel && k != Store && !seen[k] {
			t.Errorf("no %s in 200 faults", k)
		}
	}
	if _, ok := newSchedule(1, []Kind{Cancel}).next(); ok {
		t.Error("callers that give up are no fault of a worker")
	}
}

func TestParseKinds(t *testing.T) {
	if kinds, err := ParseKinds("all"); err != nil || !slices.Equal(kinds, Kinds()) {
		t.Error(kinds, err)
	}
	if kinds, err := ParseKinds("kill, repeat,kill"); err != nil || !slices.Equal(kinds, []Kind{Kill, Repeat}) {
		t.Error(kinds, err)
	}
	if _, err := ParseKinds("kill,flood"); err == nil || !strings.Contains(err.Error(), `"flood"`) {
		t.Error(err)
	}
}

// Too few deaths with requests in flight prove nothing.
func TestATortureNeedsDeaths(t *testing.T) {
	r := Report{Elapsed: 60e9, InFlight: LeastInFlight}
	if err := r.Err(Config{Faults: Kinds()}); err != nil {
		t.Error(err)
	}
	r.InFlight--
	if err := r.Err(Config{Faults: Kinds()}); err == nil {
		t.Error("one death less passes")
	}
	if err := r.Err(Config{Faults: []Kind{Repeat}}); err != nil {
		t.Error(err)
	}
	r.InFlight = 5
	if err := r.Err(Config{Faults: Kinds(), Deaths: 5}); err != nil {
		t.Error(err)
	}
	if err := r.Err(Config{Faults: Kinds(), Deaths: 6}); err == nil || !strings.Contains(err.Error(), "only 5 deaths") {
		t.Error(err)
	}
	r.found([]Violation{{Fate: Lost}}, nil)
	if err := r.Err(Config{Faults: []Kind{Repeat}}); err == nil || errors.Unwrap(err) != nil {
		t.Error(err)
	}
}
