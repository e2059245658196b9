package events_test

import (
	"slices"
	"testing"

	"hypertoken/internal/events"
)

// next returns the events that a listener has, up to the first wait.
func next(t *testing.T, l *events.Listener[int], n int) (list []int) {
	t.Helper()
	for range n {
		ev, ok := l.Next()
		if !ok {
			t.Fatalf("no event follows %v", list)
		}
		list = append(list, ev)
	}
	return list
}

func TestListenersGetTheEventsThatTheyWant(t *testing.T) {
	var s events.Listeners[int]
	if s.HasAny() || s.Emit("a", 1) != 0 {
		t.Error("nobody listens")
	}
	all, onlyB := s.Listen(""), s.Listen("b")
	for k, name := range []string{"a", "b", "c", "b"} {
		s.Emit(name, k)
	}
	if got := next(t, all, 4); !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Errorf("got %v", got)
	}
	if got := next(t, onlyB, 2); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("got %v", got)
	}
	onlyB.Stop()
	onlyB.Stop()
	s.Emit("b", 4)
	if _, ok := onlyB.Next(); ok {
		t.Error("a listener that has stopped gets an event")
	}
	s.End()
	if got := next(t, all, 1); got[0] != 4 {
		t.Errorf("got %v", got)
	}
	if _, ok := all.Next(); ok {
		t.Error("an event comes after the end")
	}
	if _, ok := s.Listen("").Next(); ok || s.HasAny() {
		t.Error("a listener that comes after the end waits")
	}
}

func TestASlowListenerLosesTheOldestEvents(t *testing.T) {
	var s events.Listeners[int]
	l := s.Listen("")
	dropped := 0
	for k := range events.Buffer + 3 {
		dropped += s.Emit("a", k)
	}
	if first := next(t, l, 1)[0]; dropped != 3 || first != 3 {
		t.Errorf("%d events were dropped, the first one left is %d", dropped, first)
	}
}
