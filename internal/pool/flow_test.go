package pool

import (
	"errors"
	"slices"
	"testing"

	"hypertoken/ipc"
)

// A request goes into the pipe, and its answer to the tenant that sent it, which is held
// meanwhile.
func TestARequestAndItsAnswer(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	l := h.bring(w)
	a, b := &renter{name: "a"}, &renter{name: "b"}
	h.place(w, a, 7)
	h.place(w, b, 8)
	l.frames()
	first, second := h.mustSend(w, a, 7), h.mustSend(w, b, 8)
	sent := l.frames()
	if len(sent) != 2 || sent[0].Request != first || sent[0].Placement != 7 || sent[1].Request != second ||
		sent[1].Kind != ipc.Dispatch {
		t.Fatalf("%+v was sent", sent)
	}
	l.feed(frame(ipc.Answer, second, 8, []byte("yes")))
	if len(a.frames) > 0 || len(b.frames) != 1 || b.frames[0].Request != second || b.bodies[0] != "yes" || b.isHeld {
		t.Errorf("a got %v, b got %v %q, is held: %v", a.frames, b.frames, b.bodies, b.isHeld)
	}
	if d := w.Details(); d.Pending != 1 || d.Oldest != first || d.Engines != 2 {
		t.Errorf("%+v", d)
	}
}

// A tenant that finds no room is told when there is some, those that waited longest first. One
// that sends its share lets the next ones send.
func TestTenantsWaitForRoomInTheirOrder(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	l := h.bring(w)
	var order []uint64
	busy := &renter{name: "busy"}
	var sent []uint64
	for range 4 {
		sent = append(sent, h.mustSend(w, busy, 1))
	}
	for placement := uint64(10); placement < 13; placement++ {
		r := &renter{}
		r.onRoom = func(worker int, p uint64) {
			if p != placement || worker != w.Number() {
				t.Errorf("the placement %d is told that worker %d has room for %d", placement, worker, p)
			}
			if _, ok := h.send(w, r, p); ok {
				order = append(order, p)
			}
		}
		if _, ok := h.send(w, r, placement); ok {
			t.Fatal("there is more room than the window says")
		}
	}
	for k, id := range sent {
		l.feed(answer(id, 1))
		if want := []uint64{10, 11, 12}[:min(k+1, 3)]; !slices.Equal(order, want) {
			t.Fatalf("after %d answers %v have sent, want %v", k+1, order, want)
		}
	}
	if d := w.Details(); d.Blocked != 0 || d.Pending != 3 {
		t.Errorf("%+v", d)
	}
}

// While somebody waits for room, nobody else overtakes.
func TestARequestThatDoesNotFitIsNotOvertaken(t *testing.T) {
	c := config()
	c.WindowBytes = 100
	h := newHouse(t, c)
	w := h.newest(0, false)
	l := h.bring(w)
	small, large := &renter{name: "small"}, &renter{name: "large"}
	first := h.mustSend(w, small, 1)
	tries := 0
	large.onRoom = func(_ int, p uint64) {
		tries++
		w.Send(large, ipc.Dispatch, 0, p, make([]byte, 90))
	}
	second := h.mustSend(w, small, 1)
	if _, ok := w.Send(large, ipc.Dispatch, 0, 2, make([]byte, 90)); ok {
		t.Fatal("it fits")
	}
	small.onRoom = func(_ int, p uint64) { h.send(w, small, p) }
	if _, ok := h.send(w, small, 1); ok {
		t.Fatal("what fits overtakes what does not")
	}
	l.feed(answer(first, 1))
	if d := w.Details(); d.Pending != 1 || d.Blocked != 2 || tries != 1 {
		t.Fatalf("after %d tries: %+v", tries, d)
	}
	l.feed(answer(second, 1)) // now the large one is alone in the pipe
	d := w.Details()
	if runs, _ := w.conn.Owner(d.Oldest); runs.placement != 2 || d.Pending != 1 || d.Blocked != 1 {
		t.Errorf("the placement %d has its turn: %+v", runs.placement, d)
	}
}

// A worker that is reserved takes requests from nobody else, and is offered once it has answered
// everything. When the reservation ends, those that waited may send, though nothing is under way
// that would say so.
func TestAReservation(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	l := h.bring(w)
	r, suspect := &renter{name: "r"}, &renter{name: "suspect"}
	rooms := 0
	r.onRoom = func(int, uint64) { rooms++ }
	h.place(w, r, 1)
	id := h.mustSend(w, r, 1)
	w.Reserve(2)
	if _, ok := h.send(w, r, 1); ok {
		t.Fatal("a reserved worker takes a request of somebody else")
	}
	if s := h.Snapshot(); len(s.Workers) != 0 || s.Reserved.Number != w.Number() || s.Reserved.Pending != 1 ||
		!s.IsAble {
		t.Errorf("%+v", s)
	}
	h.free = 0
	l.feed(answer(id, 1))
	if h.free != 1 || rooms != 0 {
		t.Fatalf("it is offered %d times, the others may send %d times", h.free, rooms)
	}
	w.GrantAlone(2)
	h.place(w, suspect, 2)
	alone := h.mustSend(w, suspect, 2)
	if d := w.Details(); d.Reserved != 2 || !d.IsAlone {
		t.Errorf("%+v", d)
	}
	l.feed(answer(alone, 2))
	if h.free != 1 || rooms != 0 {
		t.Errorf("it is offered %d times though it is taken, the others may send %d times", h.free, rooms)
	}
	w.EndReservation(1) // of another placement: nothing happens
	if d := w.Details(); d.Reserved != 2 {
		t.Errorf("%+v", d)
	}
	w.RemoveTenant(2)
	w.Unblock()
	if d := w.Details(); d.Reserved != 0 || d.IsAlone || d.Engines != 1 || rooms != 1 {
		t.Errorf("%d, %+v", rooms, d)
	}
}

// A tenant that is blocked behind others that have left has its turn once they are served: nothing
// is under way there, so no answer will come that says so.
func TestBlockedBehindOthersThatHaveLeft(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	h.bring(w)
	late, sent := &renter{name: "late"}, 0
	late.onRoom = func(_ int, p uint64) {
		if _, ok := h.send(w, late, p); ok {
			sent++
		}
	}
	gone := &renter{name: "gone"}
	gone.onRoom = func(_ int, p uint64) {
		if d := w.Details(); d.Turn != p {
			t.Errorf("it is the turn of %d, not of %d", d.Turn, p)
		}
		if p != 1 {
			return
		}
		if _, ok := h.send(w, late, 3); ok { // while the first of them has its turn
			t.Error("it overtakes those that are blocked")
		}
	}
	for placement := range uint64(2) {
		w.flow.blocked.Push(sender{gone, 1 + placement})
	}
	w.Unblock()
	if d := w.Details(); sent != 1 || d.Blocked != 0 || d.Turn != 0 {
		t.Errorf("%d requests are sent, %+v", sent, d)
	}
}

// A tenant that stands in line twice, and has nothing to send the first time, does not hold up the
// one behind.
func TestBlockedBehindOneThatStandsThereTwice(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	h.bring(w)
	for range 2 {
		w.flow.blocked.Push(sender{&renter{name: "twice"}, 1})
	}
	r, sent := &renter{name: "r"}, 0
	r.onRoom = func(_ int, p uint64) { h.mustSend(w, r, p); sent++ }
	if _, ok := h.send(w, r, 2); ok {
		t.Fatal("it is not blocked")
	}
	w.Unblock()
	if d := w.Details(); sent != 1 || d.Blocked != 0 {
		t.Errorf("%d requests are sent, %+v", sent, d)
	}
}

// A worker that has ended takes nothing any more, and says so.
func TestAWorkerThatHasEndedTakesNothing(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	h.bring(w)
	r := &renter{name: "r"}
	h.place(w, r, 1)
	w.HandleEnd(errors.New("killed"))
	if _, ok := h.send(w, r, 1); ok || w.AddTenant(r, 2) {
		t.Error("it takes something")
	}
	if d := w.Details(); d.Blocked != 0 || !d.IsDead || d.Engines != 0 {
		t.Errorf("%+v", d)
	}
	w.RemoveTenant(1)
	w.Unblock()
	w.Recall(1)
	w.Abandon(1)
	w.Flush()
}

// What was sent is written at once, unless the worker has other requests to run; then it is
// written with the next answer.
func TestRequestsAreGathered(t *testing.T) {
	c := config()
	c.WindowRequests = 100
	h := newHouse(t, c)
	w := h.newest(0, false)
	l := h.bring(w)
	r := &renter{name: "r"}
	l.frames()
	first := h.mustSend(w, r, 1)
	if n := len(l.frames()); n != 1 {
		t.Errorf("%d frames are written for the only request", n)
	}
	for range 10 {
		h.mustSend(w, r, 1)
	}
	w.Flush()
	l.frames()
	h.mustSend(w, r, 1)
	before := len(l.frames())
	l.feed(answer(first, 1))
	if after := len(l.frames()); before != 0 || after == 0 {
		t.Errorf("%d frames are written with a request of many, %d with the next answer", before, after)
	}
}

// What a worker said before its end, and is read only afterwards, is no violation and reaches
// nobody: its engines are elsewhere.
func TestAnAnswerThatIsReadAfterTheEnd(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	l := h.bring(w)
	r := &renter{name: "r"}
	id := h.mustSend(w, r, 1)
	w.HandleEnd(errKilled)
	if err := l.say(answer(id, 1)); err != nil || len(r.frames) > 0 {
		t.Errorf("%v, the tenant got %v", err, r.frames)
	}
}
