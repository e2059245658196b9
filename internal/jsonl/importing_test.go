package jsonl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/journal"
)

// keeping returns a host whose store keeps the whole history.
func keeping(t testing.TB) *host.Host {
	t.Helper()
	h, err := host.New(t.Context(), host.Options{InProcess: true, SnapshotBytes: 3000,
		Store: journal.NewMemoryWith(journal.MemoryOptions{}), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
	return h
}

// The batches with a key that [played] runs. Two of them change nothing: so the note of one is behind
// the setup, and that of another one behind a marker.
const (
	lookedBatch = `{"batch":[{"type":"stack:peek"},{"type":"stack:peek"}],"key":"looked"}`
	pairBatch   = `{"batch":[{"type":"stack:draw"},{"type":"stack:shuffle"},{"type":"stack:peek"}],"key":"pair \" of"}`
	againBatch  = `{"batch":[{"type":"stack:peek"}],"mode":"independent","key":"again"}`
)

// played returns an engine that has a bit of everything in its journal.
func played(t testing.TB, h *host.Host, name string) *host.Engine {
	t.Helper()
	e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: map[string]any{"stack": []any{
		map[string]any{"id": "a"}, map[string]any{"id": "b"}, map[string]any{"id": "c"}}}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, text := range []string{
		lookedBatch,
		`{"type":"stack:shuffle","payload":{"seed":3},"key":"first"}`,
		pairBatch,
		`{"undo":true,"key":"back"}`, `{"undo":true}`, `{"redo":true}`, `{"type":"stack:draw"}`, `{"revert":1}`, `{"undo":true}`,
		`{"batch":[{"type":"stack:draw"},{"type":"stack:shuffle"}],"mode":"independent"}`, `{"undo":true}`,
		againBatch,
	} {
		q, err := parsed(text)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := Answer(t.Context(), e, q, n+1)
		if err != nil || bytes.Contains(answer, []byte(`"error"`)) {
			t.Fatalf("%s: %s, %v", text, answer, err)
		}
		n += q.Actions()
	}
	return e
}

// linesOf returns the lines of an export.
func linesOf(t testing.TB, e Source, span Span) (lines []string) {
	t.Helper()
	if err := Export(t.Context(), e, span, func(line []byte) error {
		lines = append(lines, string(line))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return lines
}

// next returns what [Import] reads lines from.
func next(lines []string) func() (Line, error) {
	return NewReader(strings.NewReader(strings.Join(lines, "\n")), 1<<20, "").Next
}

// An export with markers and batches gives the same engine, as often as it is imported.
func TestAnExportIsImported(t *testing.T) {
	h := keeping(t)
	e := played(t, h, "e")
	lines := linesOf(t, e, Span{HasFrom: true})
	for _, want := range []string{`"batch":2,"sequence":3,`, `{"marker":"revert","to":1,"current":1,"redo":[3],"snapshot":"`,
		`{"marker":"revert","to":0,"current":0,"redo":[3,1],`, `"keys":[{"key":"looked",`, `,{"key":"first",`,
		`,{"key":"back",`, `{"note":"key","key":"looked","sum":"`, `","sequence":0,"changed":false}`,
		`{"note":"key","key":"pair \" `, `","sequence":3,"changed":true}`} {
		if !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("no line has %s", want)
		}
	}
	added := 0
	i, err := Import(t.Context(), h, "copy", next(lines), func() { added++ })
	if err != nil || added != len(lines) {
		t.Fatalf("%d of %d lines: %v", added, len(lines), err)
	}
	p, err := i.Commit(t.Context())
	want, err1 := e.Position(t.Context())
	if err != nil || err1 != nil || p != want {
		t.Fatalf("%v, %v, want %v, %v", p, err, want, err1)
	}
	c, err := h.Open(t.Context(), "copy", host.EngineOptions{Mode: host.OpenExisting})
	if err != nil {
		t.Fatal(err)
	}
	if again := linesOf(t, c, Span{HasFrom: true}); !slices.Equal(again, lines) {
		t.Errorf("the copy has the lines %q, want %q", again, lines)
	}
	wantSameBatches(t, e, c)
	// The newest base is a marker, and an export may begin with one.
	newest := linesOf(t, e, Span{})
	if len(newest) != 2 || !strings.HasPrefix(newest[0], `{"marker":`) || !strings.HasPrefix(newest[1], `{"note":`) {
		t.Fatalf("the newest base: %q", newest)
	}
	if i, err = Import(t.Context(), h, "newest", next(newest), func() {}); err != nil {
		t.Fatal(err)
	}
	if p, err := i.Commit(t.Context()); err != nil || p != want {
		t.Errorf("%v, %v, want %v", p, err, want)
	}
	if c, err = h.Open(t.Context(), "newest", host.EngineOptions{Mode: host.OpenExisting}); err != nil {
		t.Fatal(err)
	}
	wantSameBatches(t, e, c)
	// A fork begins with one, too.
	if _, err := h.Fork(t.Context(), "e", 2, "fork"); err != nil {
		t.Fatal(err)
	}
	f, err := h.Open(t.Context(), "fork", host.EngineOptions{Mode: host.OpenExisting})
	if err != nil {
		t.Fatal(err)
	}
	forked := linesOf(t, f, Span{HasFrom: true})
	if len(forked) != 1 || !strings.HasPrefix(forked[0], `{"marker":"fork","from_engine":"e","from_sequence":2,`) {
		t.Errorf("a fork: %q", forked)
	}
	if i, err = Import(t.Context(), h, "fork-copy", next(forked), func() {}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Commit(t.Context()); err != nil {
		t.Error(err)
	}
}

// wantSameBatches wants the batches of [played] to have run once: with the same key they get the first
// answer, from the engine that ran them and from a copy, and change nothing.
func wantSameBatches(t *testing.T, e, copied *host.Engine) {
	t.Helper()
	before, err := e.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{lookedBatch, pairBatch, againBatch} {
		q, err := parsed(text)
		if err != nil {
			t.Fatal(err)
		}
		q.Want = WantSequence | WantChanged
		want, err := Answer(t.Context(), e, q, 1)
		if err != nil || bytes.Contains(want, []byte(`"error"`)) {
			t.Fatalf("%s: %s, %v", text, want, err)
		}
		if got, err := Answer(t.Context(), copied, q, 1); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the copy answers %s, %v, want %s", text, got, err, want)
		}
	}
	for _, e := range []*host.Engine{e, copied} {
		if p, err := e.Position(t.Context()); err != nil || p != before {
			t.Errorf("%s: %v, %v, want %v", e.Name(), p, err, before)
		}
	}
}

// An import that fails says at which line, and leaves nothing.
func TestWhatIsNotImported(t *testing.T) {
	h := keeping(t)
	lines := linesOf(t, played(t, h, "e"), Span{HasFrom: true})
	isMarker := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, `{"marker"`) })
	replaced := func(at int, old, with string) []string {
		all := slices.Clone(lines)
		if all[at] = strings.Replace(all[at], old, with, 1); all[at] == lines[at] {
			t.Errorf("line %d has no %s", at, old)
		}
		return all
	}
	without := func(at int, member string) []string { return replaced(at, `"`+member+`":`, `"no_`+member+`":`) }
	marker := fmt.Sprintf("line %d: ", isMarker+1)
	for name, c := range map[string]struct {
		lines []string
		want  error
		says  string
	}{
		"nothing":           {nil, host.ErrBadInput, "there is no line"},
		"no base":           {lines[1:], host.ErrBadInput, "line 1: an export begins with a setup, a snapshot or a marker"},
		"a question":        {append(slices.Clone(lines), `{"digest":true}`), host.ErrBadInput, "an export has actions, markers and notes only"},
		"an error":          {append(slices.Clone(lines), `{"error":{"code":"broken"}}`), host.ErrBadInput, `there is no member "error"`},
		"another checksum":  {replaced(2, `"checksum":"`, `"checksum":"f`), host.ErrBadInput, "line 3: checksum: want 16"},
		"another result":    {replaced(2, `stack:shuffle`, `stack:nothing`), host.ErrDiverged, ""},
		"a missing line":    {slices.Delete(slices.Clone(lines), 2, 3), host.ErrBadInput, "line 3: import"},
		"no now":            {replaced(2, `"now":`, `"if_sequence":`), host.ErrBadInput, `line 3: there is no member "now", which an action`},
		"no checksum":       {without(2, "checksum"), host.ErrBadInput, "line 3: "},
		"another state":     {replaced(isMarker, `"digest":"`, `"digest":"00000000000000000`), host.ErrBadInput, marker + "digest: want 16"},
		"another kind":      {replaced(isMarker, `"revert"`, `"rewind"`), host.ErrBadInput, marker + "marker: want revert, upgrade or fork"},
		"later than itself": {replaced(isMarker, `"to":1`, `"to":9000`), host.ErrBadInput, marker + "the marker of sequence"},
		"no state":          {replaced(isMarker, `"snapshot":"`, `"from_engine":"`), host.ErrBadInput, marker + "marker: want sequence, digest"},
		"a note elsewhere":  {slices.Insert(slices.Clone(lines), isMarker, lines[1]), host.ErrBadInput, "a note of the sequence 0, and the entry before it has 3"},
		"a note of nothing": {replaced(1, `"result":"`, `"result":"kcM=`), host.ErrBadInput, "line 2: "},
		"a note too short":  {without(1, "sum"), host.ErrBadInput, "line 2: "},
		"a strange note":    {replaced(1, `"note":"key"`, `"note":"clock"`), host.ErrBadInput, `line 2: note: want "key"`},
		"a key of another":  {replaced(1, `"looked"`, `"first"`), host.ErrKeyReused, ""},
		"a strange setup":   {[]string{`{"setup":{"stack":5}}`}, nil, "line 1: "},
	} {
		i, err := Import(t.Context(), h, "copy", next(c.lines), func() {})
		if err == nil { // the last results are looked at by Commit
			_, err = i.Commit(t.Context())
			_ = i.Abort(t.Context())
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := errors.New("gone")
	breaksOff := func() (Line, error) { return Line{Number: 1}, gone }
	if _, err := Import(t.Context(), h, "copy", breaksOff, func() {}); !errors.Is(err, gone) {
		t.Error(err)
	}
	// A reader that fails in the middle, as of a client that goes away.
	half := next(lines[:3])
	if _, err := Import(t.Context(), h, "copy", func() (Line, error) {
		line, err := half()
		if errors.Is(err, io.EOF) {
			err = gone
		}
		return line, err
	}, func() {}); !errors.Is(err, gone) {
		t.Error(err)
	}
	if n, err := h.RemoveImports(t.Context()); n != 0 || err != nil {
		t.Errorf("%d imports are left, %v", n, err)
	}
	if page, err := h.Stored(t.Context(), "copy", "", 1); len(page) != 0 || err != nil {
		t.Errorf("%+v, %v", page, err)
	}
	if _, err := Import(t.Context(), h, "e", next(lines), func() {}); !errors.Is(err, host.ErrEngineExists) {
		t.Errorf("a name that is taken: %v", err)
	}
}

// FuzzImport imports any lines. It leaves nothing, or an engine whose export is imported again.
func FuzzImport(f *testing.F) {
	h := keeping(f)
	f.Add(strings.Join(linesOf(f, played(f, h, "e"), Span{HasFrom: true}), "\n"))
	f.Add(`{"setup":{},"core":"` + h.CoreHash() + `"}`)
	f.Fuzz(func(t *testing.T, text string) {
		i, err := Import(t.Context(), h, "copy", NewReader(strings.NewReader(text), 1<<20, "").Next, func() {})
		if err != nil {
			if host.CodeOf(err) == "" {
				t.Errorf("%q: an error without a code: %v", text, err)
			}
			return
		}
		p, err := i.Commit(t.Context())
		if err := i.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		c, err := h.Open(t.Context(), "copy", host.EngineOptions{Mode: host.OpenExisting})
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := Import(t.Context(), h, "again", next(linesOf(t, c, Span{HasFrom: true})), func() {})
		if err != nil {
			t.Fatalf("%q: what it has exported is not imported: %v", text, err)
		}
		if p2, err := again.Position(t.Context()); err != nil || p2 != p {
			t.Errorf("%q: %v, %v, want %v", text, p2, err, p)
		}
		if err := errors.Join(again.Abort(t.Context()), c.Delete(t.Context())); err != nil {
			t.Fatal(err)
		}
	})
}
