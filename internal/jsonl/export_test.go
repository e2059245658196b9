package jsonl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/journal"
)

// The members of an export are known where an export is read, and nowhere else.
func TestMembersOfExports(t *testing.T) {
	core, sum := strings.Repeat("0f", 32), strings.Repeat("a5", 32)
	note := `"key":"k","sum":"` + sum + `","result":"wA==","sequence":1,"changed":true`
	key := `{"key":"k","sum":"` + sum + `","result":"wA==","sequence":1,"changed":true,"number":3}`
	for line, want := range map[string]string{ // "" is no error
		`{"setup":{},"core":"` + core + `"}`: "",
		`{"snapshot":"aGk=","sequence":5,"core":"` + core + `","digest":"000000000000000f","keys":[` + key + `]}`: "",
		`{"digest":"000000000000000f","snapshot":""}`:                                                             "",
		`{"snapshot":"","timeout":5,"want":["digest"]}`:                                                           "",
		`{"type":"x","sequence":1,"checksum":"00000000000000ff"}`:                                                 "",
		`{"digest":true,"at":1}`:                                                                                  "",

		`{"note":"key",` + note + `}`:                                 "",
		`{"note":"key",` + note + `,"want":["sequence"],"timeout":5}`: "",

		`{"note":"key",` + strings.Replace(note, `"key":"k",`, "", 1) + `}`: "note: want key, sum, result, sequence and changed",
		`{"note":"schedule",` + note + `}`:                                  `note: want "key"`,
		`{"note":"key",` + note + `,"number":3}`:                            "number",
		`{"note":"key",` + note + `,"checksum":"00000000000000ff"}`:         "checksum does not go with note",
		`{"note":"key",` + strings.Replace(note, sum, "a5", 1) + `}`:        "sum: want 64 hexadecimal digits",
		`{"note":"key",` + strings.Replace(note, "wA==", "!", 1) + `}`:      "result: want base64",

		`{"setup":{},"core":"00"}`:             "core: want 64 hexadecimal digits",
		`{"setup":{},"core":5}`:                "core: want 64",
		`{"type":"x","core":"` + core + `"}`:   "core does not go with type",
		`{"snapshot":"?"}`:                     "snapshot: want base64",
		`{"snapshot":5}`:                       "snapshot: want base64",
		`{"snapshot":"","digest":true}`:        "digest: want 16 hexadecimal digits",
		`{"snapshot":"","payload":{}}`:         "payload does not go with snapshot",
		`{"snapshot":"","setup":{}}`:           "want only one of",
		`{"digest":"000000000000000f"}`:        "digest: want true",
		`{"digest":true,"keys":[]}`:            "keys does not go with digest",
		`{"type":"x","sequence":-1}`:           "sequence: want a whole number from 0",
		`{"type":"x","checksum":"0f"}`:         "checksum: want 16 hexadecimal digits",
		`{"type":"x","checksum":1}`:            "checksum: want 16",
		`{"snapshot":"","keys":{}}`:            "keys: want an array of objects",
		`{"snapshot":"","keys":[{}]}`:          "keys: want key, sum, result, sequence, changed and number of each",
		`{"snapshot":"","keys":[{"kay":"k"}]}`: `keys: there is no member "kay"`,
		`{"snapshot":"","keys":[` + strings.Replace(key, sum, "a5", 1) + `]}`:      "keys: sum: want 64 hexadecimal digits",
		`{"snapshot":"","keys":[` + strings.Replace(key, "true", "null", 1) + `]}`: "keys: changed: want true or false",
		`{"snapshot":"","keys":[` + strings.Replace(key, `"k"`, `""`, 1) + `]}`:    "keys: key: want a string",
		`{"snapshot":"","keys":[` + strings.Replace(key, "wA==", "!", 1) + `]}`:    "keys: result: want base64",
	} {
		_, err := ParseExport(Line{Number: 1, Text: []byte(line)}, nil)
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
		var bad *LineError
		if errors.As(err, &bad) && bad.Setup != (strings.Contains(line, `"setup"`) || strings.Contains(line, `"snapshot"`)) {
			t.Errorf("%s: it was meant to begin a game: %v", line, bad.Setup)
		}
		isOfExport := slices.ContainsFunc([]string{"core", "snapshot", "sequence", "checksum", "keys", "note"},
			func(member string) bool { return strings.Contains(line, `"`+member+`"`) })
		if _, err := parsed(line); isOfExport && err == nil {
			t.Errorf("%s: a client may send it", line)
		}
	}
}

// The lines that an engine exports, with a setup or a snapshot first, are read as what the engine did.
func TestAnExportIsReadBack(t *testing.T) {
	h, err := host.New(t.Context(), host.Options{InProcess: true, SnapshotBytes: 3000,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	e, err := h.Open(t.Context(), "e", host.EngineOptions{Setup: map[string]any{"stack": []any{
		map[string]any{"id": "a", "weight": 1.5}, map[string]any{"id": "b\u2028\x7f"}}}})
	if err != nil {
		t.Fatal(err)
	}
	var seen []bool
	for k := range 120 {
		opts := []host.DispatchOption{host.Entropy([16]byte{byte(k)})}
		if k%3 == 0 {
			opts = append(opts, host.Key(fmt.Sprint("key \"", k)))
		}
		if _, err := e.Dispatch(t.Context(), "stack:shuffle", map[string]any{"seed": k}, opts...); err != nil {
			t.Fatal(err)
		}
		want, entries, err := e.JournalAt(t.Context(), e.Newest())
		if err != nil {
			t.Fatal(err)
		}
		base, lines := export(t, e, Span{})
		if base.Core != h.CoreHash() {
			t.Errorf("the core is %q", base.Core)
		}
		if base.Kind == Snapshot && base.Sequence == want.Sequence && !reflect.DeepEqual(*base.Base(), want) {
			t.Errorf("the base is %+v, want %+v", *base.Base(), want)
		}
		if base.Sequence == want.Sequence { // the snapshot is still the newest
			checkEntries(t, entries, lines)
			if !slices.Contains(seen, base.Kind == Snapshot) {
				seen = append(seen, base.Kind == Snapshot)
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("bases were exported that are snapshots: %v", seen)
	}
	ended := errors.New("the reader has gone")
	for n := range 3 {
		lines := 0
		if err := Export(t.Context(), e, Span{HasFrom: true}, func([]byte) error {
			if lines++; lines > n {
				return ended
			}
			return nil
		}); !errors.Is(err, ended) && lines > n {
			t.Errorf("after %d lines: %v", n, err)
		}
	}
	for _, span := range []Span{{From: 121, HasFrom: true}, {To: 121, HasTo: true},
		{From: 5, To: 4, HasFrom: true, HasTo: true}} {
		if err := Export(t.Context(), e, span, nil); !errors.Is(err, host.ErrBadInput) {
			t.Errorf("%+v: %v", span, err)
		}
	}
	if err := Export(t.Context(), e, Span{From: 1, To: 2, HasFrom: true, HasTo: true}, nil); !errors.Is(err,
		host.ErrHistoryTrimmed) {
		t.Errorf("what is trimmed: %v", err)
	}
}

// export returns the lines of an export.
func export(t *testing.T, e *host.Engine, span Span) (base *Request, entries []*Request) {
	t.Helper()
	if err := Export(t.Context(), e, span, func(line []byte) error {
		q, err := ParseExport(Line{Number: 1, Text: bytes.Clone(line)}, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if base == nil {
			base = q
		} else {
			entries = append(entries, q)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return base, entries
}

// checkEntries compares the actions of an export with those of the journal.
func checkEntries(t *testing.T, entries iter.Seq2[host.Entry, error], lines []*Request) {
	t.Helper()
	for want, err := range entries {
		if err != nil || len(lines) == 0 {
			t.Fatalf("at %d: %d lines, %v", want.Sequence, len(lines), err)
		}
		q := lines[0]
		lines = lines[1:]
		options := 2 // now and entropy
		if want.Key != "" {
			options++
		}
		if q.Action != want.Type || !bytes.Equal(q.Value, want.Payload) || q.Sequence != want.Sequence ||
			q.Checksum != want.Checksum || len(q.Options) != options || !q.Alone {
			t.Errorf("%+v, want %+v", q, want)
		}
	}
	if len(lines) > 0 {
		t.Errorf("%d lines too many", len(lines))
	}
}

// FuzzExport reads any bytes as a line of an export. A base that comes of it is one that a host
// opens or refuses, and never more than that.
func FuzzExport(f *testing.F) {
	h, err := host.New(f.Context(), host.Options{InProcess: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Shutdown(context.Background()) })
	e, err := h.Open(f.Context(), "exported", host.EngineOptions{})
	if err != nil {
		f.Fatal(err)
	}
	add := func(base journal.Base) {
		line, err := appendBase(f.Context(), e, &base)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	base, _, err := e.JournalAt(f.Context(), 0)
	if err != nil {
		f.Fatal(err)
	}
	add(base)
	add(journal.Base{Snapshot: true, Core: h.CoreHash(), KeyNumber: 1,
		Keys: []journal.KeyRecord{{Key: "k", Number: 1, Result: []byte{0xc0}}}})
	f.Add([]byte(`{"note":"key","key":"k","sum":"` + strings.Repeat("a5", 32) + `","result":"wA==","sequence":1,"changed":true}`))
	f.Add([]byte(`{"type":"stack:draw","payload":{},"now":5,"key":"k","sequence":1,"checksum":"00000000000000ff"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		q, err := ParseExport(Line{Number: 1, Text: text}, nil)
		if err != nil {
			if !errors.Is(err, ErrLine) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if q.Kind != Snapshot {
			return
		}
		e, err := h.Open(t.Context(), "e", host.EngineOptions{Snapshot: q.Base()})
		if err != nil {
			return
		}
		if e.Newest() != q.Sequence {
			t.Errorf("%q: the engine has the sequence %d", text, e.Newest())
		}
		if err := e.Delete(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
