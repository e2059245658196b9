package journals_test

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/journals"
	"hypertoken/internal/jsonl"
	"hypertoken/internal/marker"
	"hypertoken/journal"
)

// rewound plays a game of ten actions, a batch, two undos and a redo: the markers have the sequences
// 13 to 15. The batch has the key "pair", and those that change nothing have "before" and "behind". It
// returns the lines of its export.
func rewound(t *testing.T, s journal.Store, name string) (lines []string) {
	t.Helper()
	play(t, s, nil, name, 10)
	h, err := host.New(t.Context(), host.Options{InProcess: true, Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	e, err := h.Open(t.Context(), name, host.EngineOptions{Mode: host.OpenExisting})
	if err != nil {
		t.Fatal(err)
	}
	shuffle := host.Action{Type: "stack:shuffle"}
	batch := func(key string, members ...host.Action) {
		t.Helper()
		if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic, members, host.Key(key)); err != nil {
			t.Fatal(err)
		}
	}
	batch("before", host.Action{Type: "stack:peek"})
	batch("pair", shuffle, shuffle)
	type rewind = func(context.Context, ...host.DispatchOption) (host.Position, error)
	for _, rewind := range []rewind{e.Undo, e.Undo, e.Redo} {
		if _, err := rewind(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	batch("behind", host.Action{Type: "stack:peek"})
	if err := jsonl.Export(t.Context(), e, jsonl.Span{HasFrom: true}, func(line []byte) error {
		lines = append(lines, string(line))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return lines
}

// withoutKey returns lines whose markers do not have a key. Where the actions took long, a host that
// ends stores the state of the newest marker again, with the keys that came behind it.
func withoutKey(lines []string, key string) (list []string) {
	other := regexp.MustCompile(`,\{"key":"` + key + `"[^}]*\}`)
	for _, line := range lines {
		if strings.HasPrefix(line, `{"marker"`) {
			line = other.ReplaceAllString(line, "")
		}
		list = append(list, line)
	}
	return list
}

// Markers and batches are read as an engine reads them.
func TestMarkersAreRead(t *testing.T) {
	s := openStore(t, t.TempDir())
	want := rewound(t, s, "e")
	r := journals.NewReader(s, journals.Options{Cache: cache(t)})
	defer func() { _ = r.Close(context.Background()) }()
	game, err := r.Game(t.Context(), "e")
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	if err := jsonl.Export(t.Context(), game, jsonl.Span{HasFrom: true}, func(line []byte) error {
		have = append(have, string(line))
		return nil
	}); err != nil || !slices.Equal(withoutKey(have, "behind"), withoutKey(want, "behind")) {
		t.Errorf("got %q, %v, want %q", have, err, want)
	}
	var batches, markers []uint64
	var notes []string
	for e, err := range journals.Entries(t.Context(), s, "e", 1, 15) {
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Note != nil:
			notes = append(notes, fmt.Sprint(e.Sequence, e.Note.Key))
		case e.Marker != nil:
			markers = append(markers, e.Sequence)
		case e.Batch > 0:
			batches = append(batches, e.Batch)
		}
	}
	if !slices.Equal(batches, []uint64{11, 11}) || !slices.Equal(markers, []uint64{13, 14, 15}) {
		t.Errorf("batches %d, markers %d", batches, markers)
	}
	if want := []string{"10before", "12pair", "15behind"}; !slices.Equal(notes, want) {
		t.Errorf("notes %q, want %q", notes, want)
	}
	for at, same := range map[uint64]uint64{13: 10, 14: 9, 15: 10} {
		have, err := r.DigestAt(t.Context(), "e", at)
		if want, err1 := r.DigestAt(t.Context(), "e", same); err != nil || err1 != nil || have != want {
			t.Errorf("at %d: %x, %v, want %x, %v", at, have, err, want, err1)
		}
	}
}

// A marker is held against its state, and against the state that it went back to.
func TestVerifyChecksMarkers(t *testing.T) {
	s := openStore(t, t.TempDir())
	rewound(t, s, "e")
	play(t, s, nil, "upgraded", 3)
	play(t, s, cores.Example, "upgraded", 1)
	reports, err := verify(t, s, journals.Options{})
	if err != nil || len(reports) != 2 || !reports[0].OK() || reports[0].Actions != 12 || reports[0].Bases < 3 ||
		!reports[1].OK() {
		t.Errorf("got %+v, %v", reports, err)
	}
	change := func(kind string, f func(m *marker.Marker)) func(*journal.Stored) {
		return func(stored *journal.Stored) {
			if !stored.IsMarker {
				return
			}
			m, err := marker.Read(&stored.Base)
			if err != nil {
				t.Error(err)
			}
			if m.Kind == kind {
				f(&m)
			}
			stored.Details = m.Encode()
		}
	}
	for name, c := range map[string]struct {
		change   func(*journal.Stored)
		sequence uint64
		says     string
	}{
		"another digest": {change(marker.Revert, func(m *marker.Marker) { m.Digest++ }), 13, "the marker has the digest"},
		"another sequence": {change(marker.Revert, func(m *marker.Marker) { m.To -= 5 }), 14,
			"the marker goes back to the sequence 4 with the digest"},
		"another core": {change(marker.Upgrade, func(m *marker.Marker) { m.DigestBefore++ }), 4, "the core before the upgrade gave"},
		"no marker":    {func(stored *journal.Stored) { stored.Details = nil }, 13, "can't be read"},
	} {
		reports, err := verify(t, &changed{Store: s, loadAt: c.change}, journals.Options{})
		if err != nil || len(reports) != 2 {
			t.Fatal(err)
		}
		r := reports[0]
		if c.sequence == 4 {
			r = reports[1]
		}
		if r.Difference == nil || r.Difference.Sequence != c.sequence || !strings.Contains(r.Difference.Why, c.says) {
			t.Errorf("%s: %+v, %+v", name, r, r.Difference)
		}
	}
}
