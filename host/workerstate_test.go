package host_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"hypertoken/host"
)

// States and reasons have the names that metrics have had from the first version on, in JSON too.
func TestNamesOfStatesAndReasons(t *testing.T) {
	if got, want := fmt.Sprint(host.WorkerStates()), "[starting ready backoff given_up probing stopped]"; got != want {
		t.Errorf("the states are %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(host.RestartReasons()), "[died deadline stalled memory shutdown]"; got != want {
		t.Errorf("the reasons are %s, want %s", got, want)
	}
	type document struct {
		States   []host.WorkerState
		Restarts map[host.RestartReason]uint64
	}
	d := document{host.WorkerStates(), map[host.RestartReason]uint64{host.RestartDied: 1, host.RestartMemory: 2}}
	b, err := json.Marshal(d)
	want := `{"States":["starting","ready","backoff","given_up","probing","stopped"],"Restarts":{"died":1,"memory":2}}`
	if err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
	var back document
	if err := json.Unmarshal(b, &back); err != nil || !slices.Equal(back.States, d.States) ||
		fmt.Sprint(back.Restarts) != fmt.Sprint(d.Restarts) {
		t.Errorf("got %+v, %v; want %+v", back, err, d)
	}
	for _, bad := range []string{`{"States":["happy"]}`, `{"Restarts":{"boredom":1}}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is read as %+v", bad, back)
		}
	}
	if got, want := fmt.Sprint(host.WorkerState(99), host.RestartReason(99)), "state 99 reason 99"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
