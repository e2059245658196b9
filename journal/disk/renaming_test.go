package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

func (c caller) rename(from, to string, owner journal.Owner) error {
	return c.wait(func(done journal.Done) { c.Rename(from, to, owner, done) })
}

// A loss of power while journals are renamed leaves each of them under one name, whole.
func TestPowerLossWhileJournalsAreRenamed(t *testing.T) {
	for seed := range uint64(deep(10, 300)) {
		r := rand.New(rand.NewPCG(seed, 3))
		fs := vfs.NewCrashableMem()
		s := caller{openMem(t, fs)}
		owner := journal.Owner{Number: 1}
		const engines = 8
		isDone := map[string]bool{}
		for k := range engines {
			name := fmt.Sprint("engine", k)
			base := journal.Base{Data: data(0, 100+k*pieceSize/2), Core: name}
			if err := s.install("\x00"+name, owner, base); err != nil {
				t.Fatal(err)
			}
			if err := s.append("\x00"+name, owner, 0, actionRecord(1)); err != nil {
				t.Fatal(err)
			}
		}
		for k := range engines {
			name := fmt.Sprint("engine", k)
			if k == engines-1 {
				s.Rename("\x00"+name, name, owner, journal.Done{})
			} else if err := s.rename("\x00"+name, name, owner); err != nil {
				t.Fatal(err)
			}
			isDone[name] = k < engines-1
		}
		crashed := caller{openMem(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r}))}
		for name, isDone := range isDone {
			hidden, err := crashed.load("\x00"+name, owner)
			stored, err2 := crashed.load(name, owner)
			if err != nil || err2 != nil || (hidden == nil) == (stored == nil) || isDone && stored == nil {
				t.Fatalf("%s: %v, %v under the former name, %v, %v under the new one", name, hidden, err, stored, err2)
			}
			if hidden != nil {
				stored = hidden
			}
			if stored.Core != name || stored.Count != 1 {
				t.Errorf("%s: core %s, %d entries", name, stored.Core, stored.Count)
			}
		}
	}
}

// A journal that is renamed keeps when it was created. A large base that is on its way meanwhile
// is refused.
func TestRenamingBesideALargeBase(t *testing.T) {
	fs := vfs.NewMem()
	s := caller{openMem(t, fs)}
	owner := journal.Owner{Number: 1}
	if err := s.install("\x00a", owner, journal.Base{}); err != nil {
		t.Fatal(err)
	}
	before, err := s.list("\x00", "", 1)
	if err != nil || len(before) != 1 {
		t.Fatal(before, err)
	}
	installed, renamed := make(chan error, 1), make(chan error, 1)
	large := journal.Base{Snapshot: true, Data: data(0, 20*pieceSize)}
	s.mu.Lock() // so that both are called before the first piece is written
	s.queue = append(s.queue,
		op{kind: opInstall, name: "\x00a", owner: owner, more: &request{base: large},
			done: journal.DoneFunc(func(err error) { installed <- err })},
		op{kind: opRename, name: "a", owner: owner, more: &request{from: "\x00a"},
			done: journal.DoneFunc(func(err error) { renamed <- err })})
	s.arrived.Signal()
	s.mu.Unlock()
	if err := <-renamed; err != nil {
		t.Fatal(err)
	}
	if err := <-installed; !errors.Is(err, journal.ErrNotOwner) {
		t.Errorf("a base under the former name: %v", err)
	}
	if after, err := s.list("", "", 1); err != nil || len(after) != 1 || after[0].Created != before[0].Created {
		t.Errorf("%+v, %v; it was %+v", after, err, before)
	}
	if err := s.append("a", owner, 0, actionRecord(1)); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = caller{openMem(t, fs)}
	if stored, err := s.load("a", owner); err != nil || stored.Count != 1 || len(stored.Data) != 0 {
		t.Errorf("%+v, %v", stored, err)
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if it.SeekGE(appendPart(nil, 1, partPiece)) && it.Key()[0] == kindEngine && it.Key()[engineKeySize-1] == partPiece {
		t.Errorf("the pieces of the base are still there: %x", it.Key())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}
