package storeload

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/journal"
	"hypertoken/workerproc"
)

func TestMain(m *testing.M) {
	workerproc.Main()
	os.Exit(m.Run())
}

// What a run counts is committed, and nothing is in flight behind it.
func TestARunCountsWhatIsCommitted(t *testing.T) {
	h, err := host.New(t.Context(), host.Options{InProcess: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Shape{{1, 1}, {3, 1}, {2, 8}} {
		l, err := Open(t.Context(), h, s.String(), s)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for count == 0 { // a busy machine may do nothing in so short a time
			r, err := l.Run(t.Context(), 50*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			count += r.Count
			if s.InFlight > 1 && r.Laps != nil || r.NS <= 0 {
				t.Errorf("%v: %+v", s, r)
			}
		}
		stored := 0
		for _, p := range l.players {
			at, err := p.engine.Position(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if at.Sequence != uint64(p.drawn) {
				t.Errorf("%v: %d actions are committed, %d were dispatched", s, at.Sequence, p.drawn)
			}
			stored += p.drawn
		}
		if count > stored {
			t.Errorf("%v: %d actions are counted, %d are committed", s, count, stored)
		}
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process answers each order, and closes its store when its input ends.
func TestAProcessForOrders(t *testing.T) {
	isClosed, opened := false, 0
	open := func(dir string) (journal.Store, func() error, error) {
		if opened++; dir != "somewhere" {
			t.Errorf("the directory is %q", dir)
		}
		return journal.NewMemory(), func() error { isClosed = true; return nil }, nil
	}
	order := `{"engines":2,"in_flight":1,"ms":20,"dir":"somewhere"}`
	var out bytes.Buffer
	if err := Serve(t.Context(), strings.NewReader(order+"\n"+order+"\n"), &out, open); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var r Result
		if line, err := out.ReadBytes('\n'); err != nil || json.Unmarshal(line, &r) != nil || r.NS <= 0 {
			t.Errorf("%q, %v", line, err)
		}
	}
	if opened != 1 || !isClosed {
		t.Errorf("the store was opened %d times; closed: %v", opened, isClosed)
	}
	for text, want := range map[string]string{
		`{"engines":0,"in_flight":1}`: "an order for 0x1",
		"{":                           "unexpected EOF",
	} {
		if err := Serve(t.Context(), strings.NewReader(text), &out, open); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	failing := func(string) (journal.Store, func() error, error) { return nil, nil, errors.New("no store") }
	if err := Serve(t.Context(), strings.NewReader(order), &out, failing); err == nil || err.Error() != "no store" {
		t.Errorf("a store that does not open: %v", err)
	}
}
