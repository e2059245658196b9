package disk

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hypertoken/journal"
)

// diedAt returns what a process leaves that has stored something and dies then.
func diedAt(t *testing.T, o Options) (*vfs.MemFS, *player) {
	t.Helper()
	fs := o.fs
	s := openAt(t, "data", o)
	p := newPlayer(1, 1)
	err := p.create(caller{s})
	for n := 0; n < 20 && err == nil; n++ {
		err = p.append(caller{s})
	}
	copied := vfs.NewMem()
	if _, cloneErr := vfs.Clone(fs, copied, "data", "data"); err != nil || cloneErr != nil {
		t.Fatal(err, cloneErr)
	}
	return copied, p
}

// newestLog returns the name of the newest log.
func newestLog(t *testing.T, fs vfs.FS) string {
	t.Helper()
	logs, err := listLogs(fs, "data/db")
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	return fs.PathJoin("data/db", logs[len(logs)-1].name)
}

// A new log is filled with zeros behind its end. After a death they are no damage: nothing is cut,
// with both ways to sync.
func TestANewLogIsFilled(t *testing.T) {
	for _, sync := range []Sync{SyncAlways, SyncInterval} {
		o := Options{fs: vfs.NewMem(), Sync: sync}
		fs, p := diedAt(t, o)
		if size := len(contents(t, fs, newestLog(t, fs))); size < fillSize || size > fillSize+logBlock {
			t.Errorf("the log has %d bytes", size)
		}
		if logs, err := Repair("data", Options{fs: fs}); err != nil || len(logs) > 0 {
			t.Errorf("Repair has cut %+v, %v", logs, err)
		}
		var said bytes.Buffer
		o.fs, o.Logger = fs, slog.New(slog.NewTextHandler(&said, nil))
		verify(t, openAt(t, "data", o), []*player{p})
		if strings.Contains(said.String(), "torn") {
			t.Errorf("the log says: %s", &said)
		}
	}
}

// A log gets no more zeros than pebble has allotted for it.
func TestALogIsFilledUpToItsSize(t *testing.T) {
	fs := vfs.NewMem()
	o := memOptions(fs)
	fs, _ = diedAt(t, o)
	if size := len(contents(t, fs, newestLog(t, fs))); size != int(o.memTable+o.memTable/10) {
		t.Errorf("the log has %d bytes", size)
	}
}

// Zeros that cannot be written cost nothing but speed.
func TestZerosThatCannotBeWritten(t *testing.T) {
	fs := vfs.NewMem()
	o := memOptions(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt && strings.HasSuffix(op.Path, ".log") {
			return errDisk
		}
		return nil
	})))
	s := openAt(t, "data", o)
	c, owner := caller{s}, journal.Owner{Number: 1}
	if err := errors.Join(c.install("a", owner, journal.Base{}), c.append("a", owner, 0, actionRecord(1))); err != nil {
		t.Error(err)
	}
	if size := len(contents(t, fs, newestLog(t, fs))); size > 4096 {
		t.Errorf("the log has %d bytes", size)
	}
}
