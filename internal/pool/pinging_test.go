package pool

import (
	"errors"
	"strings"
	"testing"
	"time"

	"hypertoken/ipc"
)

// quiet is a pool of one worker and one spare that are ready and have nothing to do.
type quiet struct {
	*house
	worker, spare *Worker
	links         [2]*fakeLink
}

func newQuiet(t *testing.T) *quiet {
	c := config()
	c.Spares = 1
	q := &quiet{house: newHouse(t, c)}
	q.worker = q.newest(0, false)
	q.links[0] = q.bring(q.worker)
	q.tick(0)
	q.spare = q.newest(0, true)
	q.links[1] = q.bring(q.spare)
	for _, w := range []*Worker{q.worker, q.spare} {
		w.reading.source = new(source)
	}
	q.tick(0) // from here on nothing is heard of them
	q.frames(0)
	q.frames(1)
	return q
}

// frames returns what the process of a link was sent since the last call, by the kinds.
func (q *quiet) frames(link int) string {
	var kinds []string
	for _, f := range q.links[link].frames() {
		kinds = append(kinds, f.Kind.String())
	}
	return strings.Join(kinds, " ")
}

// pong is a good answer to a ping.
func pong(request uint64) []byte {
	var o ipc.Outcome
	return frame(ipc.Answer, request, 0, ipc.AppendBytes(o.AppendHead(nil), 0))
}

// both runs a test with the worker, and with the spare.
func both(t *testing.T, f func(t *testing.T, q *quiet, w *Worker, link int)) {
	t.Run("worker", func(t *testing.T) { q := newQuiet(t); f(t, q, q.worker, 0) })
	t.Run("spare", func(t *testing.T) { q := newQuiet(t); f(t, q, q.spare, 1) })
}

// A worker of which nothing was heard for PingEvery is sent one ping. If it answers in time,
// nothing happens up to the next one.
func TestAnIdleWorkerThatAnswers(t *testing.T) {
	both(t, func(t *testing.T, q *quiet, w *Worker, link int) {
		for range 3 {
			if q.tick(PingEvery - 1); q.frames(link) != "" {
				t.Fatal("it is pinged too early")
			}
			if q.tick(1) {
				t.Error("a ping makes an idle host look sooner again")
			}
			if got := q.frames(link); got != "ping" {
				t.Fatalf("it is sent %q", got)
			}
			if !q.tick(0) {
				t.Error("a ping is unanswered, and the host looks no sooner again")
			}
			q.tick(q.config.StallAfter - 1)
			q.links[0].feed(pong(q.worker.conn.Oldest()))
			q.links[1].feed(pong(q.spare.conn.Oldest()))
			q.tick(1)
			if got := q.frames(link); got != "" || q.links[link].kills != 0 || w.Details().Pending != 0 {
				t.Fatalf("it is sent %q and killed %d times", got, q.links[link].kills)
			}
			q.tick(0)
		}
	})
}

// A worker that does not answer a ping for StallAfter is killed as one that stands still, whatever
// CPU time it uses. The death does not count for the restart intensity.
func TestAnIdleWorkerThatDoesNotAnswer(t *testing.T) {
	both(t, func(t *testing.T, q *quiet, w *Worker, link int) {
		r := &renter{name: "r", isIdle: true, used: q.now}
		if link == 0 {
			q.place(w, r, 1)
		}
		q.tick(PingEvery)
		q.tick(time.Second) // the first look that finds the ping unanswered
		q.cpu++
		if q.tick(q.config.StallAfter - 1); q.links[link].kills != 0 {
			t.Fatal("it is killed too early")
		}
		q.cpu++
		q.tick(1)
		q.tick(time.Second)
		if d := w.Details(); q.links[link].kills != 1 || d.Reason != Stalled {
			t.Fatalf("%d kills, %+v", q.links[link].kills, d)
		}
		w.HandleEnd(errors.New("killed"))
		if counts := q.Counts(); counts.Ends[Stalled] != 1 || counts.InFlight != 0 {
			t.Errorf("%+v", counts)
		}
		workers, spares, _ := q.Details()
		slot := workers[0]
		if link == 1 {
			slot = spares[0]
		} else if len(q.losses) != 1 || q.losses[0].IsDeath || len(q.losses[0].Placements) != 1 {
			t.Errorf("%+v", q.losses)
		}
		if slot.Worker == w || slot.Deaths != 0 {
			t.Errorf("it is not replaced, or its end counts: %+v", slot)
		}
	})
}

// A worker that owes an answer, or is reserved for a suspect, is sent no ping.
func TestABusyWorkerIsNotPinged(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(q *quiet)
		want string
	}{
		{"it owes an answer", func(q *quiet) { q.mustSend(q.worker, &renter{}, 1) }, "dispatch"},
		{"it is reserved", func(q *quiet) { q.worker.Reserve(1) }, ""},
		{"it is to end", func(q *quiet) { q.worker.kill(OverMemory) }, ""},
		{"something came meanwhile", func(q *quiet) {
			q.tick(PingEvery - 1)
			q.links[0].feed(answer(q.mustSend(q.worker, &renter{}, 1), 1))
		}, "dispatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := newQuiet(t)
			q.config.KillGrace = time.Hour
			q.place(q.worker, &renter{}, 1)
			c.do(q)
			if q.tick(PingEvery); q.frames(0) != c.want {
				t.Errorf("it is sent something else than %q", c.want)
			}
		})
	}
}

// What is counted as requests has no pings in it; frames and what was heard do.
func TestPingsAreNoRequests(t *testing.T) {
	q := newQuiet(t)
	r := &renter{}
	q.place(q.worker, r, 1)
	before, _ := q.Measure()
	q.tick(PingEvery)
	ping := q.worker.conn.Oldest()
	id := q.mustSend(q.worker, r, 1)
	if workers, _ := q.Status(); workers[0].Pending != 1 {
		t.Errorf("%d requests are pending", workers[0].Pending)
	}
	if d := q.worker.Details(); d.Pending != 2 || !d.IsPinged || d.Oldest != ping {
		t.Errorf("%+v", d)
	}
	q.links[0].feed(pong(ping))
	q.links[0].feed(answer(id, 1))
	after, _ := q.Measure()
	was, is := before[0], after[0]
	if is.Answered != was.Answered+1 || is.FramesSent != was.FramesSent+2 ||
		is.FramesReceived != was.FramesReceived+2 || is.HeardAt != q.now || is.Pending != 0 {
		t.Errorf("%+v\n%+v", was, is)
	}
	q.tick(0)
	q.tick(PingEvery)
	q.worker.HandleEnd(errKilled)
	if after, _ := q.Measure(); after[0].Answered != is.Answered || q.Counts().InFlight != 0 {
		t.Errorf("%+v, %+v", after[0], q.Counts())
	}
}

// What is no answer to a ping breaks the protocol.
func TestWrongAnswersToAPing(t *testing.T) {
	result := ipc.Outcome{Result: []byte("x")}
	for name, c := range map[string]struct {
		says  func(id uint64) []byte
		error string
	}{
		"another kind":    {func(id uint64) []byte { return frame(ipc.Dropped, id, 0, nil) }, "a ping gets a frame of dropped"},
		"a chunk":         {func(id uint64) []byte { return frame(ipc.Chunk, id, 0, nil) }, "a ping gets a frame of chunk"},
		"no outcome":      {func(id uint64) []byte { return answer(id, 0) }, "ends"},
		"a placement":     {func(id uint64) []byte { return answer(id, 1) }, "names the placement 1, not 0"},
		"a second answer": {func(id uint64) []byte { return append(pong(id), pong(id)...) }, "answered already"},
		"a result": {func(id uint64) []byte {
			return frame(ipc.Answer, id, 0, ipc.AppendBytes(append(result.AppendHead(nil), result.Result...), 0))
		}, "a ping gets a result of 1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQuiet(t)
			q.tick(PingEvery)
			err := q.links[0].say(c.says(q.worker.conn.Oldest()))
			malformed := new(ipc.MalformedError)
			if !errors.As(err, &malformed) || !strings.Contains(err.Error(), c.error) {
				t.Errorf("got %v", err)
			}
		})
	}
}
