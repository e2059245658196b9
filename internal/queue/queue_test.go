package queue_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"hypertoken/internal/clock"
	"hypertoken/internal/fault"
	"hypertoken/internal/queue"
)

// late is a request whose time is over.
type late struct{}

func (late) Late() *fault.Error { return fault.ErrTimeout.With("too late") }

func TestBounds(t *testing.T) {
	q := queue.New(new(clock.Clock), 2, 100)
	first, large, second, third := queue.Room{Size: 60}, queue.Room{Size: 60}, queue.Room{Size: 40}, queue.Room{Size: 1}
	if err := q.Take("0", &first); err != nil {
		t.Fatal(err)
	}
	if err := q.Take("a", &large); !errors.Is(err, fault.ErrOverloaded) {
		t.Errorf("more bytes than there is room for: %v", err)
	}
	if err := q.Take("b", &second); err != nil {
		t.Errorf("as many bytes as there is room for: %v", err)
	}
	if err := q.Take("c", &third); !errors.Is(err, fault.ErrOverloaded) {
		t.Errorf("more requests than there is room for: %v", err)
	}
	q.Give(&first)
	q.Give(&first) // has no effect
	if n, bytes := q.InFlight(); n != 1 || bytes != 40 {
		t.Errorf("%d requests of %d bytes are in flight", n, bytes)
	}
	q.Give(&second)
	if err := q.Take("d", &queue.Room{Size: 1000}); err != nil {
		t.Errorf("a request that is larger than the queue goes in alone: %v", err)
	}
}

func TestWaitingForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(clock.Clock)
		c.Advance()
		q := queue.New(c, 1, 100)
		taken := queue.Room{Size: 1}
		if err := q.Take("a", &taken); err != nil {
			t.Fatal(err)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.Wait(canceled, "b", &queue.Room{Size: 1}, 0, late{}); !errors.Is(err, fault.ErrCanceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		got := make(chan error)
		go func() {
			_, err := q.Wait(t.Context(), "c", &queue.Room{Size: 1}, 0, late{})
			got <- err
		}()
		synctest.Wait()
		if q.Waiting() != 1 {
			t.Errorf("%d requests wait", q.Waiting())
		}
		q.Give(&taken)
		if err := <-got; err != nil {
			t.Errorf("once there is room: %v", err)
		}
		c.SetIdle(true) // so that the clock moves by itself
		waited, err := q.Wait(t.Context(), "d", &queue.Room{Size: 1}, 20*time.Millisecond, late{})
		if !errors.Is(err, fault.ErrTimeout) || waited < 20*time.Millisecond {
			t.Errorf("after its own time: %v, after %v", err, waited)
		}
	})
}

func TestDrain(t *testing.T) {
	q := queue.New(new(clock.Clock), 1, 100)
	if err := q.Drain(t.Context()); err != nil {
		t.Errorf("nothing is in flight: %v", err)
	}
	room := queue.Room{Size: 1}
	if err := q.Take("a", &room); err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Drain(canceled); !errors.Is(err, fault.ErrCanceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	drained := make(chan error)
	go func() { drained <- q.Drain(t.Context()) }()
	q.Give(&room)
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
