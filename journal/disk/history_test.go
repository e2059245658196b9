package disk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

// openMem opens a store in memory.
func openMem(t testing.TB, fs vfs.FS) *Store {
	t.Helper()
	return openAt(t, "data", memOptions(fs))
}

func memOptions(fs vfs.FS) Options { return Options{fs: fs, memTable: 256 << 10} }

// The history has every state and every entry, whatever bases were installed, and after a start
// anew.
func TestTheHistoryHasEverything(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, fs)
	p := newPlayer(1, 5)
	p.largest = 3 * pieceSize
	if err := p.create(caller{s}); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if err := p.step(caller{s}); err != nil {
			t.Fatal(err)
		}
	}
	checkHistory(t, caller{s}, p)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkHistory(t, caller{openMem(t, fs)}, p)
}

func checkHistory(t *testing.T, s caller, p *player) {
	t.Helper()
	newest := p.acknowledged.newest
	for at := range newest + 1 {
		stored, err := s.loadAt(p.name, at)
		if err == nil {
			err = checkStored(stored)
		}
		if err != nil {
			t.Fatalf("LoadAt(%d): %v", at, err)
		}
		if stored.Sequence+stored.Count != at {
			t.Fatalf("LoadAt(%d) leads to %d", at, stored.Sequence+stored.Count)
		}
		for _, k := range stored.Recent {
			if k.Sequence > at {
				t.Fatalf("LoadAt(%d) has the key %d of the sequence %d", at, k.Number, k.Sequence)
			}
		}
	}
	for _, limit := range []int{0, 1, 500, 5000, 1 << 20} {
		checkParts(t, s, p, limit)
	}
	for what, err := range map[string]error{
		"a state beyond the newest":  second(s.loadAt(p.name, newest+1)),
		"entries beyond the newest":  second(s.part(p.name, newest+2, 1)),
		"entries of an unknown name": second(s.part("nobody", 1, 1)),
	} {
		if !errors.Is(err, journal.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// checkParts reads the history in parts of about limit bytes.
func checkParts(t *testing.T, s caller, p *player, limit int) {
	t.Helper()
	newest := p.acknowledged.newest
	var entries []byte
	var keyed []uint64
	markers := 0
	batches := map[journal.Batch]bool{}
	for from := uint64(1); ; {
		part, err := s.part(p.name, from, limit)
		if err != nil {
			t.Fatal(err)
		}
		if part.First != from || part.Count == 0 != (from == newest+1) {
			t.Fatalf("Range(%d, %d): from %d, %d entries", from, limit, part.First, part.Count)
		}
		for _, k := range part.Keyed {
			keyed = append(keyed, k.Number)
		}
		for _, b := range part.Batches {
			batches[b] = true
		}
		if part.Count == 0 {
			break
		}
		if isMarker := p.history.markers[from]; isMarker != (part.Marker != nil) || isMarker && part.Count != 1 {
			t.Fatalf("Range(%d, %d) has %d entries and the marker %+v", from, limit, part.Count, part.Marker)
		}
		if part.Marker != nil {
			markers++
			if err := checkStored(&journal.Stored{Base: *part.Marker}); err != nil {
				t.Fatalf("Range(%d, %d): %v", from, limit, err)
			}
		}
		entries = append(entries, part.Entries...)
		from += part.Count
	}
	var want []byte
	for n := range newest {
		if !p.history.markers[n+1] {
			r := actionRecord(n + 1)
			want = journal.AppendEntry(want, r.Action, r.Checksum)
		}
	}
	if !bytes.Equal(entries, want) || !slices.Equal(keyed, p.history.keyed) || markers != len(p.history.markers) {
		t.Fatalf("with the limit %d: %d bytes of entries, want %d; %d markers, want %d; the keys %d, want %d", limit,
			len(entries), len(want), markers, len(p.history.markers), keyed, p.history.keyed)
	}
	for _, b := range p.history.batches {
		if !batches[b] {
			t.Fatalf("with the limit %d: the batch %v is not there", limit, b)
		}
	}
	if len(batches) != len(p.history.batches) {
		t.Fatalf("with the limit %d: %d batches, want %d", limit, len(batches), len(p.history.batches))
	}
}

func second[T any](_ T, err error) error { return err }

// A journal that begins with a snapshot has no history before it.
func TestWhatCameBeforeTheFirstBaseIsTrimmed(t *testing.T) {
	s := caller{openMem(t, vfs.NewMem())}
	owner := journal.Owner{Number: 1}
	if err := s.install("a", owner, journal.Base{Sequence: 10, Snapshot: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.append("a", owner, 10, actionRecord(11)); err != nil {
		t.Fatal(err)
	}
	_, err := s.loadAt("a", 9)
	_, err2 := s.part("a", 10, 1)
	if !errors.Is(err, journal.ErrTrimmed) || !errors.Is(err2, journal.ErrTrimmed) {
		t.Errorf("%v, %v", err, err2)
	}
	if part, err := s.part("a", 11, 1); err != nil || part.Count != 1 {
		t.Errorf("%+v, %v", part, err)
	}
}

// Key records are written once: a base names those that it remembers.
func TestABaseDoesNotWriteKeysAgain(t *testing.T) {
	s := caller{openMem(t, vfs.NewMem())}
	owner := journal.Owner{Number: 1}
	if err := s.install("a", owner, journal.Base{}); err != nil {
		t.Fatal(err)
	}
	base := journal.Base{Snapshot: true}
	for n := range uint64(1000) {
		k := keyRecord(n+1, n+1)
		k.Result = make([]byte, 1000)
		r := actionRecord(n + 1)
		r.Keyed = k
		if err := s.append("a", owner, n, r); err != nil {
			t.Fatal(err)
		}
		base.Keys, base.KeyNumber, base.Sequence = append(base.Keys, *k), k.Number, k.Number
	}
	before := s.Stats()
	if err := s.install("a", owner, base); err != nil {
		t.Fatal(err)
	}
	after := s.Stats()
	if after.KeyedBytes != before.KeyedBytes || after.BaseBytes-before.BaseBytes > 100 {
		t.Errorf("a base of 1,000 keys has written %d bytes of keys, and %d bytes itself",
			after.KeyedBytes-before.KeyedBytes, after.BaseBytes-before.BaseBytes)
	}
}

func TestListing(t *testing.T) {
	fs := vfs.NewMem()
	s := caller{openMem(t, fs)}
	owner := journal.Owner{Number: 1}
	for k := range 25 {
		name := fmt.Sprintf("room/%02d", k)
		if err := s.install(name, owner, journal.Base{Core: "c", Data: data(0, k*1000)}); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(k) {
			if err := s.append(name, owner, n, actionRecord(n+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"roo", "room", "room0", "z"} {
		if err := s.install(name, owner, journal.Base{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = caller{openMem(t, fs)}
	var all []journal.Info
	for after := ""; ; {
		page, err := s.list("room/", after, 10)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if len(page) < 10 {
			break
		}
		after = page[9].Name
	}
	if len(all) != 25 {
		t.Fatalf("%d names", len(all))
	}
	for k, info := range all {
		if info.Name != fmt.Sprintf("room/%02d", k) || info.Sequence != uint64(k) || info.Core != "c" ||
			info.Bytes < uint64(k*1000) || info.Created.IsZero() || info.Updated.Before(info.Created) {
			t.Errorf("%+v", info)
		}
	}
	if n := s.Stats().Owned; n != 0 {
		t.Errorf("the store keeps %d heads, and nobody owns an engine", n)
	}
	if page, err := s.list("", "room/24", 100); err != nil || len(page) != 2 || page[0].Name != "room0" {
		t.Errorf("%v, %v", page, err)
	}
}
