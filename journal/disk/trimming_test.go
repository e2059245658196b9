package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

// A store that keeps a part of the history passes the suite, too.
func TestTheSuiteWithoutAHistory(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Store {
		o := memOptions(vfs.NewMem())
		o.History.SinceBase = true
		return openAt(t, "data", o)
	})
}

// steps is a store with one engine that has a base behind every tenth entry. A clock stands still.
type steps struct {
	caller
	t     testing.TB
	fs    vfs.FS
	o     Options
	clock *atomic.Int64 // milliseconds since 1970
	owner journal.Owner
}

func newSteps(t testing.TB, history journal.History) *steps {
	s := &steps{t: t, fs: vfs.NewMem(), clock: new(atomic.Int64), owner: journal.Owner{Number: 1}}
	s.clock.Store(1e12)
	s.o = memOptions(s.fs)
	s.o.History = history
	s.o.now = func() time.Time { return time.UnixMilli(s.clock.Load()) }
	s.Store = openAt(t, "data", s.o)
	s.must(s.install("a", s.owner, journal.Base{Data: data(0, 1000), Core: "core"}))
	return s
}

func (s *steps) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// add appends ten entries, the last one with a key, and installs a base that remembers two keys. The
// size of the base is that of its data.
func (s *steps) add(size int, isMarker bool) {
	s.t.Helper()
	stored, err := s.load("a", s.owner)
	s.must(err)
	newest, keys := stored.Sequence+stored.Count, stored.NewestKeyNumber()
	var group []journal.Record
	for k := range uint64(10) {
		group = append(group, actionRecord(newest+k+1))
	}
	newest += 10
	group[9].Keyed = keyRecord(keys+1, newest)
	s.must(s.append("a", s.owner, newest-10, group...))
	base := journal.Base{Sequence: newest, Snapshot: true, Core: "core", KeyNumber: keys + 1}
	if isMarker {
		base.IsMarker, base.Sequence, base.Details = true, newest+1, details(newest+1)
	}
	base.Data = data(base.Sequence, size)
	base.Keys = append(append(stored.Keys, stored.Recent...), *group[9].Keyed)
	base.Keys = base.Keys[max(0, len(base.Keys)-2):]
	s.must(s.install("a", s.owner, base))
	s.trims.wait()
}

// reopen closes the store and opens it again.
func (s *steps) reopen() {
	s.t.Helper()
	s.must(s.Close())
	s.Store = openAt(s.t, "data", s.o)
}

// oldest checks that all from one base on is kept, and nothing before it.
func (s *steps) oldest(want uint64) {
	s.t.Helper()
	have, err := checkTrimmed(s.caller, "a")
	s.must(err)
	if have != want {
		s.t.Fatalf("the oldest base is %d, want %d", have, want)
	}
}

// checkTrimmed reads all that is kept of a journal, and returns the sequence of the oldest base.
func checkTrimmed(s caller, name string) (oldest uint64, err error) {
	page, err := s.list(name, "", 1)
	if err != nil || len(page) != 1 {
		return 0, fmt.Errorf("the list of the name: %v, %w", page, err)
	}
	newest := page[0].Sequence
	for oldest = 0; ; oldest++ {
		if _, err := s.loadAt(name, oldest); !errors.Is(err, journal.ErrTrimmed) {
			break
		}
	}
	isMarker := false
	for at := oldest; at <= newest; at++ {
		stored, err := s.loadAt(name, at)
		if err == nil {
			err = checkStored(stored)
		}
		if err != nil || stored.Sequence+stored.Count != at {
			return 0, fmt.Errorf("the state at %d, the oldest is %d: %+v, %w", at, oldest, stored, err)
		}
		isMarker = isMarker || at == oldest && stored.IsMarker
	}
	from := oldest + 1
	if isMarker {
		from = oldest
	}
	for ; from <= newest; from++ {
		part, err := s.part(name, from, 0)
		if err != nil || part.Count != 1 || part.First != from {
			return 0, fmt.Errorf("the entry %d, the oldest base is %d: %+v, %w", from, oldest, part, err)
		}
		r := actionRecord(from)
		if part.Marker == nil && !bytes.Equal(part.Entries, journal.AppendEntry(nil, r.Action, r.Checksum)) {
			return 0, fmt.Errorf("the entry %d is another one", from)
		}
	}
	for at := uint64(1); at < oldest; at++ {
		if _, err := s.part(name, at, 0); !errors.Is(err, journal.ErrTrimmed) {
			return 0, fmt.Errorf("the entry %d, the oldest base is %d: %w", at, oldest, err)
		}
	}
	return oldest, nil
}

func TestTrimmingSinceTheNewestBase(t *testing.T) {
	for _, size := range []int{100, 3 * pieceSize / 2} {
		for _, isMarker := range []bool{false, true} {
			s := newSteps(t, journal.History{SinceBase: true})
			var first, second uint64
			for n := range uint64(6) {
				s.add(size, isMarker)
				if first = 10 * (n + 1); isMarker {
					first += n + 1
				}
				s.oldest(first)
				page, err := s.list("a", "", 1)
				s.must(err)
				if bytes := page[0].Bytes; n == 0 {
					second = bytes
				} else if bytes > second+second/2 {
					t.Fatalf("%d bytes are listed, %d behind the first base", bytes, second)
				}
			}
			s.reopen()
			s.oldest(first)
			// Of a base that is not kept, no row is.
			s.countRows(map[byte]int{partBase: 1, partPiece: (size - 1) / pieceSize * 2, partKeyed: 2, partGroup: 0})
		}
	}
}

// countRows checks how many rows of each part the engine has.
func (s *steps) countRows(want map[byte]int) {
	s.t.Helper()
	have := map[byte]int{}
	it, err := s.db.NewIter(nil)
	s.must(err)
	for ok := it.SeekGE([]byte{kindEngine}); ok && it.Key()[0] == kindEngine; ok = it.Next() {
		have[it.Key()[engineKeySize-1]]++
	}
	s.must(it.Close())
	for part, n := range want {
		if have[part] != n {
			s.t.Errorf("%d rows of the part %d, want %d", have[part], part, n)
		}
	}
}

func TestTrimmingByBytes(t *testing.T) {
	const bases = 8
	all := newSteps(t, journal.History{})
	for range bases {
		all.add(5000, false)
	}
	page, err := all.list("a", "", 1)
	all.must(err)
	exactly := page[0].Bytes
	all.oldest(0)
	for _, c := range []struct{ bound, oldest uint64 }{
		{exactly, 0}, {exactly - 1, 10}, {1, 10 * bases},
	} {
		s := newSteps(t, journal.History{Bytes: c.bound})
		for range bases {
			s.add(5000, false)
		}
		s.oldest(c.oldest)
		page, err := s.list("a", "", 1)
		if err != nil || c.bound > 1 && page[0].Bytes > c.bound || page[0].Bytes < 5000 {
			t.Errorf("%+v, %v; the bound is %d", page, err, c.bound)
		}
	}
	// Another bound holds from the next start on.
	all.o.History.Bytes = 1
	all.reopen()
	all.walkOn("")
	all.oldest(10 * bases)
}

func TestTrimmingByAge(t *testing.T) {
	s := newSteps(t, journal.History{Age: time.Hour})
	s.add(100, false)
	s.add(100, false)
	s.clock.Add(time.Hour.Milliseconds() - 1)
	s.add(100, false)
	s.oldest(0)
	s.walkOn("")
	s.oldest(0)
	s.clock.Add(1)
	s.walkOn("")
	s.oldest(20)
	s.clock.Add(time.Hour.Milliseconds())
	s.walkOn("")
	s.oldest(30) // it is never trimmed
	s.add(100, true)
	s.oldest(30) // what follows it is new
	s.reopen()
	s.clock.Add(2 * time.Hour.Milliseconds())
	s.walkOn("")
	s.oldest(41)
}

// The walk finds all engines, hidden ones too, in pages.
func TestTheWalkFindsAllEngines(t *testing.T) {
	s := newSteps(t, journal.History{Age: time.Hour})
	var names []string
	for k := range 2*walkPage + 3 {
		name := fmt.Sprintf("%c%03d", "\x00x"[k%2], k)
		names = append(names, name)
		s.must(s.install(name, s.owner, journal.Base{Core: "core"}))
		s.must(s.install(name, s.owner, journal.Base{Sequence: 1, IsMarker: true, Details: details(1), Core: "core"}))
		s.must(s.release(name, s.owner))
	}
	s.trims.wait()
	s.clock.Add(time.Hour.Milliseconds())
	pages := 0
	for after, isEnd := "", false; !isEnd; pages++ {
		after, isEnd = s.walkOn(after)
	}
	for _, name := range names {
		if _, err := s.loadAt(name, 0); !errors.Is(err, journal.ErrTrimmed) {
			t.Fatalf("%q: %v", name, err)
		}
	}
	if pages != 3 || s.Stats().Owned != 1 {
		t.Errorf("%d pages; %d heads are kept", pages, s.Stats().Owned)
	}
}

// A base that was installed since the history was read is not trimmed by what was read.
func TestTrimmingThatComesTooLate(t *testing.T) {
	s := newSteps(t, journal.History{SinceBase: true})
	s.add(100, false)
	s.trims.close() // the test trims itself
	s.add(100, false)
	trim, err := s.readTrimming("a")
	if err != nil || trim == nil {
		t.Fatal(trim, err)
	}
	s.add(100, false)
	s.must(s.wait(func(done journal.Done) {
		s.put(op{kind: opTrim, name: "a", more: &request{trim: trim}, done: done})
	}))
	s.oldest(10)
	s.must(s.trimHistory("a"))
	s.oldest(30)
	s.must(s.delete("a"))
	s.must(s.trimHistory("a"))
}

// A base may remember a key record that the base before it has forgotten.
func TestAForgottenKeyComesBack(t *testing.T) {
	s := newSteps(t, journal.History{SinceBase: true})
	r := actionRecord(1)
	r.Keyed = keyRecord(1, 1)
	s.must(s.append("a", s.owner, 0, r, actionRecord(2)))
	for _, keys := range [][]journal.KeyRecord{nil, {*r.Keyed}} {
		base := journal.Base{Sequence: uint64(1 + len(keys)), Core: "core", KeyNumber: 1, Keys: keys}
		base.Data = data(base.Sequence, 10)
		s.must(s.install("a", s.owner, base))
		s.trims.wait()
	}
	stored, err := s.load("a", s.owner)
	if err != nil || len(stored.Keys) != 1 {
		t.Errorf("%+v, %v", stored, err)
	}
}

// A loss of power in the middle of trimming leaves no hole, and takes nothing away that is to be
// kept.
func TestPowerLossWhileHistoryIsTrimmed(t *testing.T) {
	for seed := range uint64(deep(6, 300)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { losePowerTrimming(t, seed) })
	}
}

func losePowerTrimming(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 4))
	fs := vfs.NewCrashableMem()
	o := memOptions(fs)
	o.memTable = 64 << 10
	o.History = []journal.History{{SinceBase: true}, {Bytes: 20_000}, {Age: time.Millisecond}}[seed%3]
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	var players []*player
	var wg sync.WaitGroup
	calls, done := make(chan struct{}), make(chan struct{})
	for k := range 3 {
		p := newPlayer(k, seed)
		p.largest = r.IntN(2) * 3 * pieceSize
		players = append(players, p)
		if err := p.create(caller{s}); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for {
				select {
				case calls <- struct{}{}:
				case <-done:
					return
				}
				if err := p.step(caller{s}); err != nil {
					t.Errorf("%s: %v", p.name, err)
				}
			}
		})
	}
	for range 3 {
		for range r.IntN(150) {
			<-calls
		}
		var acknowledged, tried [3]progress
		for k, p := range players {
			acknowledged[k], _, _ = p.told()
		}
		o := o
		o.History = journal.History{} // so that nothing is trimmed while the test looks
		o.fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 60, 100}[r.IntN(4)], RNG: r})
		for k, p := range players {
			_, tried[k], _ = p.told()
		}
		again, err := Open("data", o)
		if err != nil {
			t.Errorf("opening the directory after the loss of power: %v", err)
			break
		}
		for k, p := range players {
			p.verify(t, again, acknowledged[k], tried[k], true)
			oldest, err := checkTrimmed(caller{again}, p.name)
			if err != nil || oldest > max(acknowledged[k].base, tried[k].base) {
				t.Errorf("%s: the oldest base is %d, the newest %d, %v", p.name, oldest, acknowledged[k].base, err)
			}
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	s.trims.wait()
	for _, p := range players {
		if !o.History.SinceBase {
			break // the walk may find more to trim, while the test looks
		}
		oldest, err := checkTrimmed(caller{s}, p.name)
		if err != nil || oldest != p.acknowledged.base {
			t.Errorf("%s: the oldest base is %d, the newest %d, %v", p.name, oldest, p.acknowledged.base, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
