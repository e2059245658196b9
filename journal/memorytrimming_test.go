package journal

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// filled is a journal in memory with bases at 0, 10, 20, ... and 10 entries behind each.
type filled struct {
	*memory
	t     *testing.T
	owner Owner
}

func newFilled(t *testing.T, history History) *filled {
	f := &filled{NewMemoryWith(MemoryOptions{History: history}).(*memory), t, Owner{Number: 1}}
	f.install(Base{})
	return f
}

func (f *filled) install(base Base) {
	f.t.Helper()
	if err := f.memory.install("e", f.owner, base); err != nil {
		f.t.Fatal(err)
	}
}

// add appends 10 entries of about 100 bytes, and a base behind them.
func (f *filled) add() {
	f.t.Helper()
	newest := f.journals["e"].newest()
	var group []Record
	for k := range uint64(10) {
		a := AppendAction(nil, &Action{}, "t", make([]byte, 64))
		group = append(group, Record{Action: a, Checksum: k, Batch: newest + 1})
	}
	if err := f.append("e", f.owner, newest, group); err != nil {
		f.t.Fatal(err)
	}
	f.install(Base{Sequence: newest + 10, Snapshot: true})
}

// oldest checks that the state at a sequence is the oldest one that is kept.
func (f *filled) oldest(want uint64) {
	f.t.Helper()
	for at := range f.journals["e"].newest() + 1 {
		stored, err := f.loadAt("e", at)
		if isTrimmed := errors.Is(err, ErrTrimmed); isTrimmed != (at < want) || !isTrimmed && err != nil {
			f.t.Fatalf("the state at %d: %v, %v; the oldest is to be %d", at, stored, err, want)
		}
		part, err := f.part("e", at, 1)
		if isTrimmed := errors.Is(err, ErrTrimmed); isTrimmed != (want > 0 && at <= want) || !isTrimmed && err != nil {
			f.t.Fatalf("the entry %d: %v, %v; the oldest is to be %d", at, part, err, want+1)
		}
		batch := Batch{(at-1)/10*10 + 1, (at + 9) / 10 * 10}
		if err == nil && at > 0 && (len(part.Batches) != 1 || part.Batches[0] != batch) {
			f.t.Fatalf("the batches of the entry %d: %v", at, part.Batches)
		}
	}
}

func TestTheStoreInMemoryKeepsAllThatItIsTold(t *testing.T) {
	for _, c := range []struct {
		name    string
		history History
		oldest  uint64 // after 20 bases
	}{
		{"everything", History{}, 0},
		{"since the newest base", History{SinceBase: true}, 200},
		{"a byte", History{Bytes: 1}, 200},
		{"much", History{Bytes: 1 << 20}, 0},
		{"of an age", History{Age: time.Hour}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFilled(t, c.history)
			for range 20 {
				f.add()
			}
			f.oldest(c.oldest)
		})
	}
}

func TestTheStoreInMemoryTrimsByBytes(t *testing.T) {
	all := newFilled(t, History{})
	for range 5 {
		all.add()
	}
	exactly := all.journals["e"].bytes()
	for _, c := range []struct{ bound, oldest uint64 }{{exactly, 0}, {exactly - 1, 10}} {
		f := newFilled(t, History{Bytes: c.bound})
		for range 5 {
			f.add()
		}
		f.oldest(c.oldest)
		if n := f.journals["e"].bytes(); n > c.bound {
			t.Errorf("%d bytes are kept, above %d", n, c.bound)
		}
	}
}

func TestTheStoreInMemoryTrimsByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilled(t, History{Age: time.Hour})
		f.add()
		f.add()
		time.Sleep(time.Hour - time.Millisecond) // synctest's clock
		f.add()
		f.oldest(0)
		time.Sleep(time.Millisecond)
		f.add()
		f.oldest(20)
		time.Sleep(time.Hour)
		f.add()
		f.oldest(40) // the entries behind it are new
	})
}
