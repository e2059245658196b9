package journals_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/journals"
	"hypertoken/internal/jsonl"
	"hypertoken/journal"
)

// A reader has the same states and the same export of a journal as an engine that is open.
func TestAReaderReadsWhatAnEngineReads(t *testing.T) {
	s := openStore(t, t.TempDir())
	play(t, s, nil, "e", 60)
	r := journals.NewReader(s, journals.Options{Cache: cache(t)})
	defer func() { _ = r.Close(context.Background()) }()
	game, err := r.Game(t.Context(), "e")
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(t.Context(), host.Options{InProcess: true, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	e, err := h.Open(t.Context(), "e", host.EngineOptions{Mode: host.OpenExisting})
	if err != nil {
		t.Fatal(err)
	}
	for at := range game.Newest() + 1 {
		want, err := e.StateAt(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		have, err := r.StateAt(t.Context(), "e", at)
		if err != nil || have.Sequence != at || have.Digest != uint64(want.Digest) ||
			string(have.Value) != string(want.Raw) {
			t.Fatalf("at %d: %v", at, err)
		}
	}
	for _, span := range []jsonl.Span{{}, {HasFrom: true}, {HasFrom: true, From: 30}, {HasTo: true, To: 40},
		{HasAfter: true, After: 33}} {
		export := func(from jsonl.Source) (lines []string) {
			if err := jsonl.Export(t.Context(), from, span, func(line []byte) error {
				lines = append(lines, string(line))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			return lines
		}
		if have, want := export(game), export(e); strings.Join(have, "\n") != strings.Join(want, "\n") {
			t.Errorf("%+v: %q, want %q", span, have, want)
		}
	}
}

func TestWhatAReaderCannotRead(t *testing.T) {
	s := openStore(t, t.TempDir())
	play(t, s, nil, "e", 3)
	play(t, s, cores.Test, "other", 3)
	r := journals.NewReader(s, journals.Options{Cache: cache(t)})
	defer func() { _ = r.Close(context.Background()) }()
	if _, err := r.StateAt(t.Context(), "none", 0); !errors.Is(err, journals.ErrUnknown) {
		t.Error(err)
	}
	if _, err := r.Game(t.Context(), "none"); !errors.Is(err, journals.ErrUnknown) {
		t.Error(err)
	}
	if _, err := r.StateAt(t.Context(), "e", 4); !errors.Is(err, journal.ErrRefused) {
		t.Error(err)
	}
	// Another core is one that the store has.
	if _, err := r.StateAt(t.Context(), "other", 3); err != nil {
		t.Error(err)
	}
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := r.DigestAt(ctx, "e", 3); !errors.Is(err, gone) {
		t.Error(err)
	}
}
