package host_test

import (
	"fmt"
	"runtime"
	"testing"

	"hypertoken/host"
)

// heap returns what is reachable, in bytes.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools give up what they have at the second
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What is remembered for keys is bounded in bytes, and gone with the engine.
func TestRememberedResultsAreBounded(t *testing.T) { everywhere(t, testRememberedResultsAreBounded) }

func testRememberedResultsAreBounded(t *testing.T) {
	const (
		result = 1 << 20
		own    = 8 << 20
	)
	h := newHost(t, host.Options{KeyBytes: own, MaxKeyBytes: 3 * own})
	huge := func(e *host.Engine, key int) host.Result {
		return dispatch(t, e, "test:huge", dict{"bytes": result}, host.Key(fmt.Sprint(key)))
	}
	dispatch(t, open(t, h, "warm", deck(1)), "stack:peek", nil)
	before := heap()
	e := open(t, h, "e", deck(1))
	for k := range 60 {
		huge(e, k)
	}
	if s := h.Stats(); s.KeyBytes > own || s.KeyBytes < own/2 || s.KeysForgotten == 0 {
		t.Errorf("%d bytes are remembered, %d are allowed; %d keys were forgotten", s.KeyBytes, own, s.KeysForgotten)
	}
	// The engine has twice that at most, with what its journal remembers, and what is on its way.
	if took := int64(heap() - before); took > 2*own+8*result {
		t.Errorf("60 results of 1 MiB take %d bytes", took)
	}
	newest := dispatch(t, e, "stack:peek", nil).Sequence
	if r := huge(e, 59); r.Sequence != newest {
		t.Errorf("the newest key ran again: %d, after %d", r.Sequence, newest)
	}
	if r := huge(e, 0); r.Sequence != newest+1 {
		t.Errorf("the oldest key was not forgotten: %d, after %d", r.Sequence, newest)
	}

	// All engines together.
	var others []*host.Engine
	for k := range 6 {
		others = append(others, open(t, h, fmt.Sprint("other", k), nil))
		for key := range 7 {
			huge(others[k], key)
		}
	}
	if s := h.Stats(); s.KeyBytes > 3*own || s.KeyBytes < own {
		t.Errorf("%d bytes are remembered by all engines, %d are allowed", s.KeyBytes, 3*own)
	}
	for _, e := range append(others, e) {
		if _, err := e.Digest(t.Context()); err != nil { // the snapshots are taken
			t.Fatal(err)
		}
		if err := e.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s := h.Stats(); s.KeyBytes != 0 {
		t.Errorf("%d bytes are remembered by no engine", s.KeyBytes)
	}
	if took := int64(heap() - before); took > 8*result {
		t.Errorf("%d bytes are left of engines that are deleted", took)
	}
}

// A result that is larger than all that may be remembered is remembered until the next one: a repetition does not run.
func TestTheNewestResultIsRemembered(t *testing.T) {
	h := newHost(t, host.Options{KeyBytes: 1 << 10})
	e := open(t, h, "e", nil)
	large := dict{"bytes": 4 << 10}
	first := dispatch(t, e, "test:huge", large, host.Key("a"))
	if again := dispatch(t, e, "test:huge", large, host.Key("a")); again.Sequence != first.Sequence ||
		string(again.Raw) != string(first.Raw) {
		t.Errorf("it ran again: %d, then %d", first.Sequence, again.Sequence)
	}
	dispatch(t, e, "test:huge", dict{"bytes": 10}, host.Key("b"))
	if again := dispatch(t, e, "test:huge", large, host.Key("a")); again.Sequence != first.Sequence+2 {
		t.Errorf("it was not forgotten: %d, then %d", first.Sequence, again.Sequence)
	}
}
