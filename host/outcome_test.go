package host_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
)

// Each failure has one outcome, of a set that no core makes larger.
func TestOutcomes(t *testing.T) {
	core := func(code string) error { return &host.ActionError{Code: code} }
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "ok"},
		{core("not_found"), "not_found"},
		{core("trap"), "trap"},
		{core("my_own_code"), "core"},
		{core("ok"), "core"},
		{core("timeout"), "core"},
		{core("other"), "core"},
		{host.ErrTimeout, "timeout"},
		{fmt.Errorf("wrapped: %w", host.ErrPoisoned), "poisoned"},
		{&host.Error{Code: host.ErrBatchAborted.Code, Err: &host.BatchError{Err: core("x")}}, "batch_aborted"},
		{&host.BatchError{Err: core("exists")}, "exists"},
		{core("locked"), "core"},
		{&host.BatchError{Err: core("x")}, "core"},
		{&host.Error{Code: "not_placed"}, "other"},
		{errors.New("anything"), "other"},
	} {
		if got := host.OutcomeOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// A core's own codes are counted as one outcome, once each.
func TestACoresOwnCodesAreCounted(t *testing.T) { everywhere(t, testACoresOwnCodesAreCounted) }

func testACoresOwnCodesAreCounted(t *testing.T) {
	h := newHost(t, host.Options{Core: cores.Example})
	h.Measure()
	e := open(t, h, "e", deck(2))
	told := map[string]uint64{}
	list, err := h.Actions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Name == "long:operation" {
			continue
		}
		_, err := e.Dispatch(t.Context(), a.Name, nil)
		told[host.OutcomeOf(err)]++
	}
	_, err = e.Dispatch(t.Context(), "risky:operation", dict{"fail": true})
	told[host.OutcomeOf(err)]++
	if told["core"] == 0 {
		t.Error("no action failed with a code of the core's own")
	}
	counted := map[string]uint64{}
	m := h.Measure()
	for _, a := range m.ByAction {
		for outcome, n := range a.Outcomes {
			counted[outcome] += n
		}
	}
	for outcome, n := range m.Actions {
		if n != told[outcome] || counted[outcome] != n {
			t.Errorf("%s: callers were told of %d, %d are counted, %d by action", outcome, told[outcome], n,
				counted[outcome])
		}
	}
	if len(m.Actions) > 32 {
		t.Errorf("there are %d outcomes", len(m.Actions))
	}
}

// A list of actions that is late is asked for again: the actions are told apart from then on, and none is lost.
func TestTheListOfActionsMayBeLate(t *testing.T) { t.Run(onWorkers, testTheListOfActionsMayBeLate) }

func testTheListOfActionsMayBeLate(t *testing.T) {
	program, gate := gatedWorker(t)
	h := newHost(t, host.Options{NoFallback: true, WorkerPath: program, Workers: 1, StartTimeout: 2 * time.Second})
	h.Measure() // it misses the list: there is no worker
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := open(t, h, "e", deck(5))
	n := uint64(0)
	for {
		dispatch(t, e, "stack:peek", nil)
		n++
		m := h.Measure()
		sum, known := uint64(0), false
		for _, a := range m.ByAction {
			sum += a.Duration.Count
			known = known || a.Action == "stack:peek"
		}
		if sum != n || m.Dispatched != n {
			t.Fatalf("%d actions were dispatched, %d are counted, %d by action", n, m.Dispatched, sum)
		}
		if known {
			break
		}
	}
}
