package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/journal"
)

// outcomesOf prints what a caller sees of a batch.
func outcomesOf(r host.BatchResult, err error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v %v;", r.Sequence, r.Changed, err)
	for _, o := range r.Outcomes {
		fmt.Fprintf(&b, " %d %v %x %v;", o.Result.Sequence, o.Result.Changed, []byte(o.Result.Raw), o.Err)
	}
	return b.String()
}

// A batch with a key runs once, whatever became of its members.
func TestABatchWithAKeyRunsOnce(t *testing.T) { everywhere(t, testABatchWithAKeyRunsOnce) }

func testABatchWithAKeyRunsOnce(t *testing.T) {
	store := journal.NewMemory()
	h := newHost(t, host.Options{Store: store})
	e := open(t, h, "e", deck(20))
	shuffles := []host.Action{{Type: "stack:shuffle"}, {Type: "stack:draw", Payload: dict{"count": 0}},
		{Type: "stack:draw"}}
	nothing := []host.Action{{Type: "stack:draw", Payload: dict{"count": 0}}, {Type: "stack:peek"}}
	batch := func(e *host.Engine, mode host.BatchMode, key string, members []host.Action) string {
		return outcomesOf(e.DispatchBatch(t.Context(), mode, members, host.Key(key)))
	}
	first := batch(e, host.BatchIndependent, "shuffles", shuffles)
	second := batch(e, host.BatchIndependent, "nothing", nothing)
	atomic := batch(e, host.BatchAtomic, "atomic", shuffles[2:])
	if !strings.Contains(first, "out_of_range") || !strings.HasPrefix(first, "2 true <nil>;") ||
		!strings.HasPrefix(second, "2 false <nil>;") {
		t.Fatalf("got %s and %s", first, second)
	}
	dispatch(t, e, "stack:draw", dict{"count": 17}) // now a peek would say something else
	check := func(what string, e *host.Engine) {
		t.Helper()
		before := digest(t, e)
		for _, c := range []struct{ is, want string }{
			{batch(e, host.BatchIndependent, "shuffles", shuffles), first},
			{batch(e, host.BatchIndependent, "nothing", nothing), second},
			{batch(e, host.BatchAtomic, "atomic", shuffles[2:]), atomic},
		} {
			if c.is != c.want {
				t.Errorf("%s: a repetition got %s, the first one %s", what, c.is, c.want)
			}
		}
		if digest(t, e) != before {
			t.Errorf("%s: a repetition had an effect", what)
		}
	}
	check("again", e)
	for _, c := range []struct {
		name    string
		mode    host.BatchMode
		members []host.Action
	}{
		{"another mode", host.BatchAtomic, shuffles},
		{"fewer members", host.BatchIndependent, shuffles[:2]},
		{"another payload", host.BatchIndependent, []host.Action{shuffles[0], shuffles[1], {Type: "stack:draw", Payload: dict{"count": 1}}}},
	} {
		if _, err := e.DispatchBatch(t.Context(), c.mode, c.members, host.Key("shuffles")); !errors.Is(err,
			host.ErrKeyReused) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := e.Dispatch(t.Context(), "stack:draw", nil, host.Key("atomic")); !errors.Is(err, host.ErrKeyReused) {
		t.Errorf("a single action with the key of a batch: %v", err)
	}

	// A failed atomic batch forgets its key.
	if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic, shuffles, host.Key("failed")); !errors.As(err,
		new(*host.BatchError)) {
		t.Errorf("got %v", err)
	}
	if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic, nothing[1:], host.Key("failed")); err != nil {
		t.Errorf("another batch after one that failed: %v", err)
	}

	// The store remembers: another engine of the journal, from its snapshot and from its records.
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = open(t, h, "e", nil)
	check("after a snapshot", e)
	late := []host.Action{{Type: "no:such"}}
	third := batch(e, host.BatchIndependent, "late", late)
	other, err := host.New(t.Context(), host.Options{InProcess: true, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Shutdown(context.Background()) }()
	f := open(t, other, "e", nil)
	check("on another host", f)
	if again := batch(f, host.BatchIndependent, "late", late); again != third {
		t.Errorf("got %s, the first one %s", again, third)
	}
}

// Batches of one key that are in flight together share one outcome.
func TestBatchesInFlightShareAKey(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(52))
	for _, c := range []struct {
		mode  host.BatchMode
		count int
		want  uint64
	}{{host.BatchIndependent, 1, 2}, {host.BatchAtomic, 0, 2}} {
		answers := make(chan string)
		for range 8 {
			go func() {
				answers <- outcomesOf(e.DispatchBatch(t.Context(), c.mode, []host.Action{{Type: "stack:shuffle"},
					{Type: "stack:draw", Payload: dict{"count": c.count}}}, host.Key(c.mode.String())))
			}()
		}
		first := <-answers
		for range 7 {
			if again := <-answers; again != first {
				t.Errorf("%s, and %s", first, again)
			}
		}
		if p, err := e.Position(t.Context()); err != nil || p.Sequence != c.want {
			t.Errorf("%+v, %v", p, err)
		}
	}
}

// What is for the whole batch is not for a member, and the other way round.
func TestOptionsOfBatches(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", deck(5))
	draw := []host.Action{{Type: "stack:draw"}}
	for _, mode := range []host.BatchMode{host.BatchAtomic, host.BatchIndependent} {
		for name, option := range map[string]host.DispatchOption{"Key": host.Key("k"),
			"IfSequence": host.IfSequence(0), "WithDigest": host.WithDigest()} {
			_, err := e.DispatchBatch(t.Context(), mode,
				[]host.Action{{Type: "stack:draw"}, {Type: "stack:peek", Options: []host.DispatchOption{option}}})
			if !errors.Is(err, host.ErrBadInput) || !strings.Contains(err.Error(), name) ||
				!strings.Contains(err.Error(), "DispatchBatch") {
				t.Errorf("a member with %s: %v", name, err)
			}
		}
		if _, err := e.DispatchBatch(t.Context(), mode, draw, host.Entropy([16]byte{})); !errors.Is(err,
			host.ErrBadInput) {
			t.Errorf("Entropy for the whole: %v", err)
		}
		for _, key := range []string{"", strings.Repeat("k", 257), "\x00k"} {
			if _, err := e.DispatchBatch(t.Context(), mode, draw, host.Key(key)); !errors.Is(err, host.ErrBadInput) {
				t.Errorf("a key of %d bytes: %v", len(key), err)
			}
		}
		if _, err := e.DispatchBatch(t.Context(), mode, nil, host.IfSequence(7)); !errors.Is(err, host.ErrConflict) {
			t.Errorf("an empty batch with a condition: %v", err)
		}
	}
	at := time.UnixMilli(1234567)
	own := time.UnixMilli(99)
	members := []host.Action{{Type: "stack:draw"}, {Type: "stack:draw", Options: []host.DispatchOption{host.Now(own)}}}
	if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic, members, host.Now(at), host.IfSequence(0)); err != nil {
		t.Fatal(err)
	}
	entries, err := e.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var nows []int64
	for entry := range entries {
		nows = append(nows, entry.Now)
	}
	if len(nows) != 2 || nows[0] != at.UnixMilli() || nows[1] != own.UnixMilli() {
		t.Errorf("the members saw %v", nows)
	}
}

// A digest is that of the state right after its action, whatever else is dispatched meanwhile.
func TestWithDigest(t *testing.T) { everywhere(t, testWithDigest) }

func testWithDigest(t *testing.T) {
	h := newHost(t, host.Options{})
	e, twin := open(t, h, "e", deck(52)), open(t, h, "twin", deck(52))
	seen := map[uint64]host.Digest{}
	var others []*host.Future
	entropy := host.Entropy([16]byte{1})
	for k := range 40 {
		others = append(others, e.DispatchAsync(t.Context(), "stack:shuffle", nil, entropy))
		f := e.DispatchAsync(t.Context(), "stack:shuffle", nil, entropy, host.WithDigest())
		others = append(others, f, e.DispatchAsync(t.Context(), "stack:shuffle", nil, entropy))
		if k%10 == 9 {
			b, err := e.DispatchBatch(t.Context(), host.BatchAtomic,
				[]host.Action{{Type: "stack:shuffle", Options: []host.DispatchOption{entropy}}}, host.WithDigest())
			if err != nil || !b.HasDigest {
				t.Fatalf("%+v, %v", b, err)
			}
			seen[b.Sequence] = b.Digest
		}
		r, err := f.Wait(t.Context())
		if err != nil || !r.HasDigest {
			t.Fatalf("%+v, %v", r, err)
		}
		seen[r.Sequence] = r.Digest
	}
	if _, err := host.All(t.Context(), others...); err != nil {
		t.Fatal(err)
	}
	end, err := e.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for {
		r := dispatch(t, twin, "stack:shuffle", nil, entropy)
		if p, err := twin.Position(t.Context()); err != nil || p.Sequence != r.Sequence {
			t.Fatalf("%+v, %v", p, err)
		} else if want, known := seen[p.Sequence]; known && p.Digest != want {
			t.Errorf("the digest after %d is %v, want %v", p.Sequence, want, p.Digest)
		} else if p.Sequence == end.Sequence {
			if p.Digest != end.Digest {
				t.Errorf("the end has the digest %v, want %v", end.Digest, p.Digest)
			}
			break
		}
	}
	if r := dispatch(t, e, "stack:peek", nil); r.HasDigest || r.Digest != 0 {
		t.Errorf("a digest that nobody asked for: %+v", r)
	}

	// A repetition has it only while the engine is where the first one left it.
	first := dispatch(t, e, "stack:shuffle", nil, host.Key("k"), host.WithDigest())
	if again := dispatch(t, e, "stack:shuffle", nil, host.Key("k"), host.WithDigest()); !again.HasDigest ||
		again.Digest != first.Digest {
		t.Errorf("%+v, then %+v", first, again)
	}
	dispatch(t, e, "stack:draw", nil)
	if again := dispatch(t, e, "stack:shuffle", nil, host.Key("k"), host.WithDigest()); again.HasDigest ||
		again.Sequence != first.Sequence {
		t.Errorf("%+v, then %+v", first, again)
	}
	if r, err := e.Dispatch(t.Context(), "no:such", nil, host.WithDigest()); err == nil || r.HasDigest {
		t.Errorf("%+v, %v", r, err)
	}
}
