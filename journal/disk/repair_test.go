package disk

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

// A log that is damaged is cut, a copy stays, and the directory opens again. Each engine is then
// what it was at some time, or says that it is damaged: none has a hole that nobody sees.
func TestRepair(t *testing.T) {
	t.Parallel()
	intact, players := played(t, false)
	isRefused := false
	for k := range deep(10, 200) {
		fs := clone(t, intact)
		o := Options{fs: fs}
		for _, name := range files(t, fs, ".log") {
			if n := len(written(t, fs, name)); n > 0 {
				flip(t, fs, name, k*n/deep(10, 200)/2)
			}
		}
		s, err := Open("data", o)
		if err == nil {
			_ = s.Close()
			continue
		}
		isRefused = true
		logs, err := Repair("data", o)
		if err != nil || len(logs) == 0 || logs[0].Cut == 0 {
			t.Fatalf("case %d: %+v, %v", k, logs, err)
		}
		if n := len(contents(t, fs, logs[0].Saved)); int64(n) != logs[0].Kept+logs[0].Cut {
			t.Errorf("case %d: the copy has %d bytes: %+v", k, n, logs[0])
		}
		checkRepaired(t, o, players)
		if logs, err := Repair("data", o); err != nil || len(logs) != 0 {
			t.Errorf("case %d: repaired again: %+v, %v", k, logs, err)
		}
	}
	if !isRefused {
		t.Error("no directory was refused")
	}
}

// If a log in the middle is damaged, those behind it are used all the same: an engine that misses
// records says so.
func TestRepairOfALogInTheMiddle(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := memOptions(fs)
	o.memTable = 64 << 10
	s := openAt(t, "data", o)
	players := []*player{newPlayer(1, 1), newPlayer(2, 1)}
	for _, p := range players {
		if err := p.create(caller{s}); err != nil {
			t.Fatal(err)
		}
	}
	s.gate.setFull(true) // no log is done with before the tables are written
	before := len(files(t, fs, ".log"))
	for n := 0; len(files(t, fs, ".log")) < before+1; n++ {
		if err := players[n%2].append(caller{s}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 6 {
		if err := players[n%2].append(caller{s}); err != nil {
			t.Fatal(err)
		}
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	s.gate.setFull(false)
	o.fs = crashed
	logs := files(t, crashed, ".log")
	slices.Sort(logs)
	damaged := logs[len(logs)-2]
	flip(t, crashed, damaged, len(written(t, crashed, damaged))/2)
	if _, err := Open("data", o); err == nil {
		t.Fatal("the directory opens")
	}
	if cut, err := Repair("data", o); err != nil || len(cut) != 1 || cut[0].Log != damaged {
		t.Fatalf("%+v, %v", cut, err)
	}
	checkRepaired(t, o, players)
	again := openAt(t, "data", o)
	for _, p := range players {
		if _, err := (caller{again}).load(p.name, journal.Owner{Number: 1}); !errors.Is(err, journal.ErrDamaged) {
			t.Errorf("%s misses records in the middle: %v", p.name, err)
		}
	}
}

// checkRepaired opens a directory, and fails the test if an engine has a hole.
func checkRepaired(t *testing.T, o Options, players []*player) {
	t.Helper()
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range players {
		stored, err := caller{s}.load(p.name, journal.Owner{Number: 99})
		if err != nil && !errors.Is(err, journal.ErrDamaged) {
			t.Fatal(err)
		}
		if stored == nil {
			continue
		}
		if err := p.check(stored, progress{}, p.acknowledged); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What is no directory of this package, and one that is open, is left alone.
func TestWhatIsNotRepaired(t *testing.T) {
	fs := vfs.NewMem()
	if _, err := Repair("data", Options{fs: fs}); !errors.Is(err, ErrFormat) {
		t.Errorf("no directory: %v", err)
	}
	openMem(t, fs)
	if _, err := Repair("data", Options{fs: fs}); !errors.Is(err, ErrLocked) {
		t.Errorf("a directory that is open: %v", err)
	}
}
