package pool

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hypertoken/internal/fast"
	"hypertoken/ipc"
)

// What a worker may not say ends it, and the error says what it was.
func TestViolations(t *testing.T) {
	hello := func(version int) []byte {
		return frame(ipc.Hello, 0, 0, ipc.Encode(ipc.HelloBody{Protocol: version, Core: "core", Build: "b1"}))
	}
	for _, c := range []struct {
		name string
		say  [][]byte
		want string
	}{
		{"an answer before hello", [][]byte{answer(1, 0)}, "a frame of answer before hello"},
		{"another version", [][]byte{hello(99)}, "version 99 of the protocol (b1)"},
		{"a hello that can't be read", [][]byte{frame(ipc.Hello, 0, 0, []byte{0xc1})}, "malformed"},
		{"a chunk before it is configured", [][]byte{hello(ipc.Version), frame(ipc.Chunk, 1, 0, nil)}, "a frame of chunk before the worker is configured"},
		{"an answer that was not asked for", [][]byte{hello(ipc.Version), answer(2, 0)}, "an answer to request 2, which was not sent"},
		{"a core that can't be run", [][]byte{hello(ipc.Version), failed(1)}, "it can't run the core: no such core"},
		{"a second hello", [][]byte{hello(ipc.Version), answer(1, 0), hello(ipc.Version)}, "a second hello"},
		{"an answer to nothing", [][]byte{hello(ipc.Version), answer(1, 0), answer(77, 1)},
			"a frame of answer for request 77, which was not sent or is answered already"},
		{"a chunk of nothing", [][]byte{hello(ipc.Version), answer(1, 0), frame(ipc.Chunk, 77, 1, nil)}, "a frame of chunk for request 77"},
		{"a host's frame", [][]byte{hello(ipc.Version), answer(1, 0), frame(ipc.Dispatch, 1, 1, nil)}, "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, config())
			l := h.attach(h.newest(0, false))
			var err error
			for k, b := range c.say {
				if err = l.say(b); err != nil && k < len(c.say)-1 {
					t.Fatal(err)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func failed(request uint64) []byte {
	var to sink
	w := ipc.NewWriter(&to)
	f := ipc.Failure{Code: "no_core", Message: "no such core", Index: -1}
	w.Append(ipc.Header{Kind: ipc.Answer, Flags: ipc.FlagFailed, Request: request}, f.Append(nil))
	w.Flush()
	return to
}

// A frame that names another placement than its request is not the answer to it.
func TestAnAnswerFromAnotherPlacement(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	l := h.bring(w)
	r := &renter{name: "r"}
	id := h.mustSend(w, r, 1)
	if err := l.say(answer(id, 2)); err == nil || !strings.Contains(err.Error(), "names the placement 2, not 1") {
		t.Errorf("got %v", err)
	}
	if len(r.frames) > 0 {
		t.Errorf("the tenant got %v", r.frames)
	}
}

// What a worker says that breaks the protocol is logged once, ends it, and counts as a death of
// its own.
func TestAViolationEndsTheWorker(t *testing.T) {
	h := newHouse(t, config())
	w := h.newest(0, false)
	l := h.bring(w)
	h.place(w, &renter{name: "r"}, 1)
	w.EndForViolation(&ipc.MalformedError{Message: "first"})
	w.EndForViolation(errors.New("second"))
	if l.kills != 1 || !strings.Contains((*w.violation.Load()).Error(), "first") {
		t.Errorf("it is killed %d times", l.kills)
	}
	if err := l.say(answer(9, 9)); err == nil {
		t.Error("what it says afterwards is taken in")
	}
	w.HandleEnd(errors.New("killed"))
	if len(h.losses) != 1 || !h.losses[0].IsDeath {
		t.Errorf("%+v", h.losses)
	}
}

// Frames in a row for one tenant reach it in one hold, up to a bound; and each in a hold of its
// own if that way to be fast is off.
func TestFramesInARowAreOneHold(t *testing.T) {
	for _, c := range []struct {
		name    string
		off     string
		answers int
		want    int
	}{
		{"a few", "", 10, 1},
		{"as many as are held", "", mostHeldFrames, 1},
		{"one more", "", mostHeldFrames + 1, 2},
		{"not grouped", "group", 10, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := config()
			o.WindowRequests = 100
			off, err := fast.Parse(c.off)
			if err != nil {
				t.Fatal(err)
			}
			o.Off = off
			h := newHouse(t, o)
			w := h.newest(0, false)
			l := h.bring(w)
			r, other := &renter{name: "r"}, &renter{name: "other"}
			var said []byte
			for range c.answers {
				said = append(said, answer(h.mustSend(w, r, 1), 1)...)
			}
			said = append(said, answer(h.mustSend(w, other, 2), 2)...)
			l.feed(said)
			if r.holds != c.want || len(r.frames) != c.answers || r.isHeld || other.holds != 1 || other.isHeld {
				t.Errorf("%d frames in %d holds, want %d; %+v", len(r.frames), r.holds, c.want, other)
			}
		})
	}
}

// A worker that has another core gets it in pieces, each after the answer to the one before. It
// tells the core's actions if it is asked to.
func TestTheCoreIsSentInPieces(t *testing.T) {
	c := config()
	c.Core, c.TellActions = make([]byte, 2*ipc.ChunkSize+1), true
	h := newHouse(t, c)
	w := h.newest(0, false)
	l := h.attach(w)
	l.feed(frame(ipc.Hello, 0, 0, ipc.Encode(ipc.HelloBody{Protocol: ipc.Version, Core: "another"})))
	var kinds []ipc.Kind
	o := ipc.Outcome{Result: []byte("list")}
	last := ipc.AppendBytes(append(o.AppendHead(nil), o.Result...), 0)
	for request := uint64(1); h.ready == 0 && request < 10; request++ {
		for _, f := range l.frames() {
			kinds = append(kinds, f.Kind)
		}
		if request > 1 && w.handshake.isDone {
			t.Fatal("it is ready before it has the core")
		}
		l.feed(frame(ipc.Answer, request, 0, last))
	}
	if want := []ipc.Kind{ipc.Configure, ipc.Core, ipc.Core, ipc.Core}; !slices.Equal(kinds, want) {
		t.Errorf("it is sent %v, want %v", kinds, want)
	}
	if len(h.told) != 1 || string(h.told[0]) != "list" {
		t.Errorf("it tells %q", h.told)
	}
}
