package journals_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/journals"
	"hypertoken/journal"
	"hypertoken/journal/disk"
	"hypertoken/wasm"
)

// openStore opens a directory.
func openStore(t *testing.T, dir string) *disk.Store {
	t.Helper()
	s, err := disk.Open(dir, disk.Options{MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// play runs actions on an engine of a store, by a host of its own. A core of nil is the built-in
// one.
func play(t *testing.T, s journal.Store, core []byte, name string, actions int) {
	t.Helper()
	h, err := host.New(t.Context(), host.Options{InProcess: true, Store: s, Core: core, SnapshotBytes: 256,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: map[string]any{"stack": []map[string]any{
		{"id": "a"}, {"id": "b"}, {"id": "c"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for k := range actions {
		// The result of a shuffle does not show what it did.
		action, payload := "stack:shuffle", map[string]any{"seed": k}
		if k%2 == 0 && core == nil || k == 0 {
			action, payload = "game:setProperty", map[string]any{"key": "k", "value": k}
		}
		if _, err := e.Dispatch(t.Context(), action, payload); err != nil {
			t.Fatal(err)
		}
	}
}

// cache opens the user's cache of compiled code, which all tests share.
func cache(t *testing.T) *wasm.Cache {
	t.Helper()
	dir, err := wasm.DefaultCacheDir()
	if err != nil {
		return nil
	}
	c, err := wasm.OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// verify checks all journals.
func verify(t *testing.T, s journals.Source, o journals.Options) (reports []journals.Report, err error) {
	t.Helper()
	o.Cache = cache(t)
	v := journals.NewVerifier(s, o)
	defer func() {
		if err := v.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	list := slices.Collect(func(yield func(journal.Info) bool) {
		for info, err := range journals.List(t.Context(), s, "", "") {
			if err != nil {
				t.Error(err)
			}
			if !yield(info) {
				return
			}
		}
	})
	err = v.Verify(t.Context(), func() (info journal.Info, ok bool, err error) {
		if len(list) == 0 {
			return info, false, nil
		}
		info, list = list[0], list[1:]
		return info, true, nil
	}, func(r journals.Report) error { reports = append(reports, r); return nil })
	return reports, err
}

func TestVerifyReplaysWholeJournals(t *testing.T) {
	s := openStore(t, t.TempDir())
	for k := range 5 {
		play(t, s, nil, fmt.Sprint("table-", k), 100*k)
	}
	reports, err := verify(t, s, journals.Options{})
	if err != nil || len(reports) != 5 {
		t.Fatalf("%d reports, %v", len(reports), err)
	}
	for k, r := range reports {
		if !r.OK() || r.Name != fmt.Sprint("table-", k) || r.Actions != uint64(100*k) || r.First != 0 {
			t.Errorf("got %+v, %+v", r, r.Difference)
		}
	}
	if reports[4].Bases < 2 {
		t.Errorf("only %d snapshots were compared", reports[4].Bases)
	}
}

// A journal that was taken over to another core is replayed by both.
func TestVerifyReplaysByTheCoreThatWroteIt(t *testing.T) {
	s := openStore(t, t.TempDir())
	play(t, s, nil, "table", 3)
	play(t, s, cores.Example, "table", 3)
	reports, err := verify(t, s, journals.Options{})
	if err != nil || len(reports) != 1 || !reports[0].OK() || reports[0].Actions != 6 || reports[0].Bases < 1 {
		t.Errorf("got %+v, %v", reports, err)
	}
}

// changed is a store of which a test changes what it reads.
type changed struct {
	*disk.Store
	loadAt func(stored *journal.Stored)
	part   func(part *journal.Part)
	err    error // of LoadAt
	noCore bool
}

func (c *changed) LoadAt(name string, at uint64, done func(*journal.Stored, error)) {
	c.Store.LoadAt(name, at, func(stored *journal.Stored, err error) {
		if err == nil {
			err = c.err
		}
		if err == nil && c.loadAt != nil {
			c.loadAt(stored)
		}
		done(stored, err)
	})
}

func (c *changed) Range(name string, from uint64, limit int, done func(journal.Part, error)) {
	c.Store.Range(name, from, limit, func(part journal.Part, err error) {
		if err == nil && c.part != nil {
			c.part(&part)
		}
		done(part, err)
	})
}

func (c *changed) Core(hash string, done func([]byte, error)) {
	if c.noCore {
		done(nil, nil)
		return
	}
	c.Store.Core(hash, done)
}

func TestWhatVerifyFinds(t *testing.T) {
	s := openStore(t, t.TempDir())
	play(t, s, nil, "table", 300)
	// otherEntry replaces the entry of a sequence by one with another payload.
	otherEntry := func(stored *journal.Stored, sequence uint64, checksum uint64) {
		var entries []byte
		at := stored.Sequence
		for e, err := range journal.Entries(stored.Entries) {
			if err != nil {
				t.Fatal(err)
			}
			payload := e.Payload
			if at++; at == sequence {
				e.Checksum += checksum
				if string(e.Type) == "stack:shuffle" {
					payload = []byte("\x81\xa4seed\xcd\xff\xff")
				}
			}
			action := journal.AppendAction(nil, &e.Action, string(e.Type), payload)
			entries = journal.AppendEntry(entries, action, e.Checksum)
		}
		stored.Entries = entries
	}
	damaged := errors.New("damaged")
	for name, c := range map[string]struct {
		source   *changed
		sequence uint64 // of the difference; 0 for none
		says     string
	}{
		"another result": {&changed{loadAt: func(s *journal.Stored) { otherEntry(s, 2, 1) }}, 2, "was acknowledged"},
		"another payload before a snapshot": {&changed{part: func(p *journal.Part) {
			s := journal.Stored{Base: journal.Base{Sequence: p.First - 1}, Entries: p.Entries}
			otherEntry(&s, p.First, 0)
			p.Entries = s.Entries
		}}, 1, "lead to"},
		"another action": {&changed{loadAt: func(s *journal.Stored) {
			if s.Sequence == 0 {
				action := journal.AppendAction(nil, &journal.Action{}, "no:such", nil)
				s.Entries, s.Count = journal.AppendEntry(nil, action, 1), 1
			}
		}}, 1, "no:such fails"},
		"another base": {&changed{loadAt: func(s *journal.Stored) {
			if s.Snapshot {
				s.Data = s.Data[:len(s.Data)/2]
			}
		}}, 1, "the base can't be opened"},
		"an entry too few": {&changed{loadAt: func(s *journal.Stored) { s.Count++ }}, 0, "says that they are"},
		"damage":           {&changed{err: damaged}, 0, "damaged"},
		"no core":          {&changed{noCore: true}, 0, "is not in the store: name its file with --core"},
	} {
		t.Run(name, func(t *testing.T) {
			c.source.Store = s
			reports, err := verify(t, c.source, journals.Options{})
			if err != nil || len(reports) != 1 || reports[0].OK() {
				t.Fatalf("got %+v, %v", reports, err)
			}
			r := reports[0]
			if c.sequence == 0 {
				if r.Err == nil || r.Difference != nil || !strings.Contains(r.Err.Error(), c.says) {
					t.Errorf("got %v, %+v, want an error with %q", r.Err, r.Difference, c.says)
				}
				return
			}
			if r.Err != nil || r.Difference == nil || r.Difference.Sequence < c.sequence ||
				!strings.Contains(r.Difference.Why, c.says) {
				t.Errorf("got %v, %+v, want sequence %d or later and %q", r.Err, r.Difference, c.sequence, c.says)
			}
			if name == "another result" && r.Difference.Sequence != c.sequence {
				t.Errorf("got %+v, want the sequence %d", r.Difference, c.sequence)
			}
		})
	}
	given := map[string][]byte{wasm.Hash(wasm.Builtin()): wasm.Builtin()}
	reports, err := verify(t, &changed{Store: s, noCore: true}, journals.Options{Cores: given})
	if err != nil || len(reports) != 1 || !reports[0].OK() {
		t.Errorf("with a core that is given: %+v, %v", reports, err)
	}
}

// Reports come in order, and an interrupted check has reported all up to the last one.
func TestVerifyThatIsInterrupted(t *testing.T) {
	s := openStore(t, t.TempDir())
	play(t, s, nil, "table", 10)
	info, err := journals.Find(t.Context(), s, "table")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	v := journals.NewVerifier(s, journals.Options{Parallel: 4, Cache: cache(t)})
	defer func() { _ = v.Close(context.Background()) }()
	ended := errors.New("interrupted")
	reported := 0
	err = v.Verify(ctx, func() (journal.Info, bool, error) { return info, true, nil }, func(r journals.Report) error {
		if !r.OK() {
			t.Errorf("got %+v", r)
		}
		if reported++; reported == 20 {
			cancel(ended)
		}
		return nil
	})
	if !errors.Is(err, ended) || reported != 20 {
		t.Errorf("%d reports, %v", reported, err)
	}
	for what, failing := range map[string]func() error{
		"next": func() error {
			return v.Verify(t.Context(), func() (journal.Info, bool, error) { return info, false, ended }, nil)
		},
		"report": func() error {
			return v.Verify(t.Context(), func() (journal.Info, bool, error) { return info, true, nil },
				func(journals.Report) error { return ended })
		},
	} {
		if err := failing(); !errors.Is(err, ended) {
			t.Errorf("an error of %s: %v", what, err)
		}
	}
}

func TestListAndEntries(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, name := range []string{"a", "b", "b1", "c"} {
		play(t, s, nil, name, 5)
	}
	var names []string
	for info, err := range journals.List(t.Context(), s, "b", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	if !slices.Equal(names, []string{"b", "b1"}) {
		t.Errorf("got %q", names)
	}
	for _, name := range []string{"", "b2", "b0"} {
		if _, err := journals.Find(t.Context(), s, name); !errors.Is(err, journals.ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
	var sequences []uint64
	for e, err := range journals.Entries(t.Context(), s, "b", 2, 4) {
		if err != nil || len(e.Type) == 0 {
			t.Fatal(e, err)
		}
		sequences = append(sequences, e.Sequence)
	}
	if !slices.Equal(sequences, []uint64{2, 3, 4}) {
		t.Errorf("got %d", sequences)
	}
	for _, err := range journals.Entries(t.Context(), s, "b", 5, 6) {
		if names = names[:0]; err != nil {
			names = append(names, err.Error())
		}
	}
	if len(names) != 1 {
		t.Errorf("entries behind the newest: %q", names)
	}
	for _, name := range []string{"b", "nothing"} {
		if err := journals.Delete(t.Context(), s, name); err != nil {
			t.Error(err)
		}
	}
	if _, err := journals.Find(t.Context(), s, "b"); !errors.Is(err, journals.ErrUnknown) {
		t.Error(err)
	}
}

// failing is a store whose backups fail.
type failing struct{}

func (failing) Backup(dir string) error {
	return errors.Join(os.MkdirAll(dir, 0o755), io.ErrUnexpectedEOF)
}

func TestBackup(t *testing.T) {
	s, dir := openStore(t, t.TempDir()), t.TempDir()
	play(t, s, nil, "table", 5)
	if n, err := journals.Backup(s, dir, "monday"); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", `.hidden`, "x\x00", strings.Repeat("x", 129)} {
		if _, err := journals.Backup(s, dir, name); !errors.Is(err, journals.ErrBackupName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := journals.Backup(s, dir, "monday"); !errors.Is(err, journals.ErrBackupExists) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := journals.Backup(failing{}, dir, "tuesday"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("one that fails: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("in the directory: %q, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("in the directory: %q, %v", left, err)
	}
	reports, err := verify(t, openStore(t, filepath.Join(dir, "monday")), journals.Options{})
	if err != nil || len(reports) != 1 || reports[0].Actions != 5 || !reports[0].OK() {
		t.Errorf("the backup: %+v, %v", reports, err)
	}
}
