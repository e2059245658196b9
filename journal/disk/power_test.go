package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hypertoken/journal"
)

// deep returns the number of cases: few by default, many with HYPERTOKEN_DEEP=1. Tests with many
// cases are parallel, each on file systems of its own: most of them keep one processor busy, or wait
// for the disk.
func deep(few, many int) int {
	if os.Getenv("HYPERTOKEN_DEEP") != "" {
		return many
	}
	return few
}

// A loss of power at any moment loses nothing that was acknowledged, and brings nothing up that
// was never tried. Of what was not synced, each block is lost or not at random.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	for seed := range uint64(deep(20, 2000)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { losePower(t, seed) })
	}
}

func losePower(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewCrashableMem()
	o := memOptions(fs)
	o.memTable = 64 << 10 // so that tables are written and compacted
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	var players []*player
	var wg sync.WaitGroup
	// Each call may be the one behind which the power is lost.
	calls := make(chan struct{})
	done := make(chan struct{})
	for k := range 4 {
		p := newPlayer(k, seed)
		p.largest = r.IntN(2) * 3 * pieceSize
		players = append(players, p)
		wg.Go(func() {
			for err := p.create(caller{s}); ; err = p.step(caller{s}) {
				if err != nil {
					t.Errorf("%s: %v", p.name, err)
					return
				}
				select {
				case calls <- struct{}{}:
				case <-done:
					return
				}
			}
		})
	}
	for range 3 {
		for range r.IntN(200) {
			<-calls
		}
		var acknowledged, tried [4]progress
		var isCreated [4]bool
		for k, p := range players {
			acknowledged[k], _, isCreated[k] = p.told()
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 60, 100}[r.IntN(4)], RNG: r})
		for k, p := range players {
			_, tried[k], _ = p.told()
		}
		o := o
		o.fs = crashed
		again, err := Open("data", o)
		if err != nil {
			t.Errorf("opening the directory after the loss of power: %v", err)
			break
		}
		for k, p := range players {
			p.verify(t, again, acknowledged[k], tried[k], isCreated[k])
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	verifyAgain(t, o, players)
}

// losses is a file system that keeps what a loss of power before each sync would leave: without
// anything that is not synced, and with all of it.
type losses struct {
	fs *vfs.MemFS

	mu   sync.Mutex
	isOn bool
	kept []*vfs.MemFS
}

func (l *losses) MaybeError(op errorfs.Op) error {
	if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.isOn {
			l.keep()
		}
	}
	return nil
}

func (l *losses) String() string { return "losses of power" }

func (l *losses) keep() {
	for _, percent := range []int{0, 100} {
		l.kept = append(l.kept, l.fs.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 1))}))
	}
}

// Before whichever sync the power fails while a large base is installed, the journal has the base
// whole or not at all.
func TestPowerLossInALargeBase(t *testing.T) {
	t.Parallel()
	for _, isNew := range []bool{false, true} {
		l := &losses{fs: vfs.NewCrashableMem()}
		s := caller{openAt(t, "data", memOptions(errorfs.Wrap(l.fs, l)))}
		owner := journal.Owner{Number: 1}
		small, large := data(1, 100), data(2, 7*pieceSize)
		if !isNew {
			if err := s.install("e", owner, journal.Base{Data: small}); err != nil {
				t.Fatal(err)
			}
		}
		l.mu.Lock()
		l.isOn = true
		l.mu.Unlock()
		if err := s.install("e", owner, journal.Base{Data: large}); err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		l.isOn = false
		during := len(l.kept)
		l.keep()
		l.mu.Unlock()
		without := 0
		for k, fs := range l.kept {
			again := caller{openMem(t, fs)}
			stored, err := again.load("e", owner)
			if err := again.Close(); err != nil {
				t.Error(err)
			}
			switch {
			case err != nil:
				t.Errorf("loss %d, %d of them before the answer: %v", k, during, err)
			case stored != nil && bytes.Equal(stored.Data, large):
			case k < during && (stored == nil && isNew || stored != nil && !isNew && bytes.Equal(stored.Data, small)):
				without++
			default:
				t.Errorf("loss %d, %d of them before the answer: neither the former base nor the large one", k, during)
			}
		}
		if without < 8 {
			t.Errorf("only %d losses of power before the base was there", without)
		}
	}
}

// verifyAgain opens a directory, and checks what the players were told.
func verifyAgain(t testing.TB, o Options, players []*player) {
	t.Helper()
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, s, players)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// With SyncInterval, a loss of power takes what was reported since the last turn, and nothing
// before it. Also across logs: none is lost in the middle.
func TestPowerLossWithSyncInterval(t *testing.T) {
	t.Parallel()
	for seed := range uint64(deep(10, 500)) {
		r := rand.New(rand.NewPCG(seed, 2))
		fs := vfs.NewCrashableMem()
		o := memOptions(fs)
		o.memTable, o.Sync, o.Interval = 64<<10, SyncInterval, time.Minute // so that the test makes all turns
		s, err := Open("data", o)
		if err != nil {
			t.Fatal(err)
		}
		p := newPlayer(1, seed)
		if err := p.create(caller{s}); err != nil {
			t.Fatal(err)
		}
		for range r.IntN(400) {
			if err := p.step(caller{s}); err != nil {
				t.Fatal(err)
			}
		}
		s.gate.syncLogs()
		acknowledged, _, _ := p.told()
		for range r.IntN(100) {
			if err := p.step(caller{s}); err != nil {
				t.Fatal(err)
			}
		}
		o.fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50}[r.IntN(2)], RNG: r})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := Open("data", o)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		_, tried, _ := p.told()
		stored, err := caller{again}.load(p.name, journal.Owner{Number: 1})
		if err == nil {
			err = p.check(stored, acknowledged, progress{max(tried.newest, p.acknowledged.newest),
				max(tried.keys, p.acknowledged.keys), max(tried.base, p.acknowledged.base)})
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
