package disk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// The tests have rows of a kind of their own. Each begins with 1. A step adds 1 to each, so a row
// that a step changes twice, or never, is found.
const (
	kindTest = 'x'
	testRows = 5 * stepRows / 2
)

func testRow(n int) []byte { return binary.BigEndian.AppendUint32([]byte{kindTest}, uint32(n)) }

// addOne is a step that adds 1 to each row. It calls onRow before each.
func addOne(onRow func()) step {
	return step{lower: []byte{kindTest}, upper: []byte{kindTest + 1},
		change: func(b *pebble.Batch, key, value []byte) error {
			onRow()
			value = bytes.Clone(value)
			value[0]++
			return b.Set(key, value, nil)
		}}
}

// program returns the options of a program whose format has one version more than it has steps.
func program(o Options, steps ...step) Options {
	o.steps = append([]step{}, steps...)
	return o
}

// fillOld makes a directory of the version 1, with a player's engine in it.
func fillOld(t *testing.T, dir string, o Options) *player {
	t.Helper()
	s, err := Open(dir, program(o))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlayer(1, 1)
	err = p.create(caller{s})
	for n := 0; n < 50 && err == nil; n++ {
		err = p.step(caller{s})
	}
	b := s.db.NewBatch()
	for n := range testRows {
		_ = b.Set(testRow(n), append([]byte{1}, data(uint64(n), 40)...), nil)
	}
	if err = errors.Join(err, s.db.Apply(b, pebble.Sync), s.Close()); err != nil {
		t.Fatal(err)
	}
	return p
}

// checkRows opens a directory with a program, and fails the test unless the steps have changed each
// row so often.
func checkRows(t *testing.T, dir string, o Options, changes int, p *player) {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindTest}, UpperBound: []byte{kindTest + 1}})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for ok := it.First(); ok; ok = it.Next() {
		value := it.Value()
		if !bytes.Equal(it.Key(), testRow(rows)) || !bytes.Equal(value[1:], data(uint64(rows), 40)) ||
			int(value[0]) != 1+changes {
			t.Fatalf("the row %d is %x: %x, want %d changes", rows, it.Key(), value, changes)
		}
		rows++
	}
	if err := it.Close(); err != nil || rows != testRows {
		t.Fatal(rows, err)
	}
	verify(t, s, []*player{p})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// version returns the version in FORMAT.
func version(t *testing.T, fs vfs.FS, dir string) int {
	t.Helper()
	v, err := readFormat(fs, dir, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// listed returns the names in the directory.
func listed(t *testing.T, fs vfs.FS) []string {
	t.Helper()
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// FormatVersion is the version that the steps of this program lead to.
func TestTheStepsLeadToTheVersion(t *testing.T) {
	if n := 1 + len(formatSteps); n != FormatVersion {
		t.Errorf("the steps lead to the version %d, FormatVersion is %d", n, FormatVersion)
	}
}

// A newer program upgrades a directory over all versions, says so, and does it once. An older one
// refuses the directory then, and changes nothing.
func TestUpgrade(t *testing.T) {
	for _, steps := range []int{1, 3} {
		t.Run(fmt.Sprint(steps), func(t *testing.T) {
			fs := vfs.NewMem()
			o := memOptions(fs)
			p := fillOld(t, "data", o)
			var log bytes.Buffer
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			newer := program(o)
			for range steps {
				newer.steps = append(newer.steps, addOne(func() {}))
			}
			for range 2 {
				checkRows(t, "data", newer, steps, p)
			}
			for _, says := range []string{"the directory's format is being upgraded",
				"the directory's format was upgraded"} {
				if n := strings.Count(log.String(), says); n != 1 {
					t.Errorf("the log says %d times %q", n, says)
				}
			}
			if v := version(t, fs, "data"); v != 1+steps {
				t.Errorf("the directory has the format %d", v)
			}
			before := listed(t, fs)
			_, err := Open("data", program(o))
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "use a newer program") {
				t.Errorf("an older program: %v", err)
			}
			if after := listed(t, fs); !slices.Equal(after, before) {
				t.Errorf("the older program has changed %v to %v", before, after)
			}
		})
	}
}

// A program that knows yet another version goes on with an upgrade that an older one has not ended.
func TestAnUpgradeThatAnotherProgramEnds(t *testing.T) {
	fs := vfs.NewMem()
	o := memOptions(fs)
	p := fillOld(t, "data", o)
	rows := 0
	failing := addOne(func() {})
	change := failing.change
	failing.change = func(b *pebble.Batch, key, value []byte) error {
		if rows++; rows > stepRows+1 { // in the second batch
			return errDisk
		}
		return change(b, key, value)
	}
	if _, err := Open("data", program(o, failing)); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if _, err := Open("data", program(o)); !errors.Is(err, ErrFormat) {
		t.Errorf("an older program: %v", err)
	}
	one := addOne(func() {})
	checkRows(t, "data", program(o, one, one), 2, p)
}

// Files that no program has left so are told, and nothing is changed.
func TestUpgradesThatWereNotBegunSo(t *testing.T) {
	for name, text := range map[string]string{
		"from a newer version": "from format 9\n", "no number": "from format x\n", "no line": "from format 1",
		"something else": "hello", "nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			o := memOptions(fs)
			fillOld(t, "data", o)
			if err := writeFile(fs, "data", upgradingName, text); err != nil {
				t.Fatal(err)
			}
			step := addOne(func() { t.Error("a row was changed") })
			if _, err := Open("data", program(o, step)); !errors.Is(err, ErrFormat) {
				t.Errorf("%v", err)
			}
			if v := version(t, fs, "data"); v != 1 {
				t.Errorf("the directory has the format %d", v)
			}
		})
	}
}

// atCall is a file system whose call with a number calls do first. Calls that change nothing do not
// count.
type atCall struct {
	calls atomic.Int64
	at    int64
	do    func() error
}

func (f *atCall) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpFileWrite, errorfs.OpFileWriteAt,
		errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpRemove:
		if f.calls.Add(1) == f.at {
			return f.do()
		}
	}
	return nil
}

func (f *atCall) String() string { return "at a call" }

// However often the power fails in an upgrade, a later start ends it, and each row is changed once.
// Before the rows are changed an older program opens the directory; behind that it refuses it.
func TestPowerLossInAnUpgrade(t *testing.T) {
	t.Parallel()
	for seed := range uint64(deep(6, 500)) {
		sync := Sync(seed % 2)
		r := rand.New(rand.NewPCG(seed, 3))
		fs := vfs.NewCrashableMem()
		o := memOptions(fs)
		o.memTable, o.Sync = 64<<10, sync
		p := fillOld(t, "data", o)
		for losses := 0; losses < 6; {
			hook := &atCall{at: 1 + r.Int64N(150)}
			var crashed *vfs.MemFS
			hook.do = func() error {
				cut := []int{0, 30, 60, 100}[r.IntN(4)]
				crashed = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: cut, RNG: r})
				return nil
			}
			o.fs = errorfs.Wrap(fs, hook)
			s, err := Open("data", program(o, addOne(func() {})))
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if crashed == nil {
				break
			}
			losses++
			fs, o.fs = crashed, crashed
			if version(t, fs, "data") == 1 {
				checkRows(t, "data", program(o), 0, p)
			} else if _, err := Open("data", program(o)); !errors.Is(err, ErrFormat) {
				t.Fatalf("seed %d: an older program: %v", seed, err)
			}
		}
		checkRows(t, "data", program(o, addOne(func() {})), 1, p)
	}
}

// Whichever write, sync, creation or removal of an upgrade fails, the next start ends the upgrade.
func TestOneFailureInAnUpgrade(t *testing.T) {
	t.Parallel()
	upgradeWithFailure := func(at int64) (calls int64) {
		fs := vfs.NewMem()
		o := memOptions(fs)
		o.memTable = 64 << 10
		p := fillOld(t, "data", o)
		hook := &atCall{at: at, do: func() error { return errDisk }}
		o.fs = errorfs.Wrap(fs, hook)
		s, err := Open("data", program(o, addOne(func() {})))
		if calls = hook.calls.Load(); err == nil {
			err = s.Close()
		}
		if at == 0 && err != nil {
			t.Fatal(err)
		}
		o.fs = fs
		checkRows(t, "data", program(o, addOne(func() {})), 1, p)
		return calls
	}
	total := upgradeWithFailure(0)
	if total < 20 {
		t.Fatalf("only %d calls of the file system", total)
	}
	for at := int64(1); at <= total; at += max(1, total/int64(deep(10, 1000))) {
		upgradeWithFailure(at)
	}
}

// upgradeDir is the environment variable that makes this program upgrade a directory. It prints a
// line now and then while it does, and one at the end.
const upgradeDir = "HYPERTOKEN_DISK_UPGRADE"

const isUpgraded = "upgraded"

func upgradeAloud(dir string) error {
	rows := 0
	s, err := Open(dir, program(Options{memTable: 64 << 10}, addOne(func() {
		if rows++; rows%(stepRows/4) == 0 {
			fmt.Println(rows)
		}
	})))
	if err != nil {
		return err
	}
	fmt.Println(isUpgraded)
	return s.Close()
}

// A process that is killed in the middle of an upgrade changes no row twice.
func TestSIGKILLInAnUpgrade(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	p := fillOld(t, dir, Options{memTable: 64 << 10})
	kills, isDone := 0, false
	for lines := 1; !isDone; lines += 2 {
		c := exec.Command(self)
		c.Env = append(os.Environ(), upgradeDir+"="+dir)
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		said := 0
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			isDone = scanner.Text() == isUpgraded
			if said++; said == lines && !isDone {
				kills++
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Wait(); err != nil && said < lines {
			t.Fatal(err)
		}
	}
	if kills == 0 {
		t.Error("no process was killed in the middle")
	}
	checkRows(t, dir, program(Options{}, addOne(func() { t.Error("a row was changed again") })), 1, p)
}
