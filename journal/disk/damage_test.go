package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

// flip changes one bit of a file.
func flip(t *testing.T, fs vfs.FS, name string, at int) {
	t.Helper()
	b := contents(t, fs, name)
	b[at] ^= 1 << (at % 8)
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// written returns the contents of a log without the zeros behind its end.
func written(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	return bytes.TrimRight(contents(t, fs, name), "\x00")
}

// files returns the names of pebble's files with an extension.
func files(t *testing.T, fs vfs.FS, ext string) (names []string) {
	t.Helper()
	all, err := fs.List("data/db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if strings.HasSuffix(name, ext) {
			names = append(names, fs.PathJoin("data/db", name))
		}
	}
	return names
}

// played returns a file system in memory with engines that were played, closed. If isFlushed, all
// is in tables.
func played(t *testing.T, isFlushed bool) (*vfs.MemFS, []*player) {
	t.Helper()
	fs := vfs.NewMem()
	s, err := Open("data", Options{fs: fs})
	if err != nil {
		t.Fatal(err)
	}
	var players []*player
	for k := range 3 {
		p := newPlayer(k, 3)
		players = append(players, p)
		if err := p.create(caller{s}); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := p.step(caller{s}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if isFlushed {
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return fs, players
}

// clone copies a file system in memory.
func clone(t *testing.T, fs vfs.FS) vfs.FS {
	t.Helper()
	copied := vfs.NewMem()
	if ok, err := vfs.Clone(fs, copied, "data", "data"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return copied
}

// A flipped bit in the log is found: the directory does not open, or the journals are whole.
func TestAFlippedBitInTheLog(t *testing.T) {
	t.Parallel()
	intact, players := played(t, false)
	testAFlippedBitInTheLog(t, intact, players)
}

// Large records make pebble note too little of what it has synced.
func TestAFlippedBitInALogOfLargeRecords(t *testing.T) {
	t.Parallel()
	intact, players := played(t, false)
	s := openAt(t, "data", Options{fs: intact})
	core := make([]byte, 400<<10)
	for k := range core {
		core[k] = byte(k * k >> 8)
	}
	sum := sha256.Sum256(core)
	if err := (caller{s}).keepCore(hex.EncodeToString(sum[:]), core); err != nil {
		t.Fatal(err)
	}
	more := newPlayer(3, 3)
	if err := more.create(caller{s}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := more.step(caller{s}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	testAFlippedBitInTheLog(t, intact, append(players, more))
}

func testAFlippedBitInTheLog(t *testing.T, intact vfs.FS, players []*player) {
	logs := files(t, intact, ".log")
	size := 0
	for _, name := range logs {
		size = max(size, len(written(t, intact, name)))
	}
	refused := 0
	cases := deep(50, 5000)
	for k := range cases {
		fs := clone(t, intact)
		for _, name := range files(t, fs, ".log") {
			if n := len(written(t, fs, name)); n > 0 {
				flip(t, fs, name, k*n/cases)
			}
		}
		s, err := Open("data", Options{fs: fs})
		if err != nil {
			refused++
			if s != nil {
				t.Fatal("a store and an error")
			}
			continue
		}
		for _, p := range players {
			stored, err := caller{s}.load(p.name, journal.Owner{Number: 99})
			if err != nil || stored == nil {
				t.Fatalf("bit in byte %d of %d: %v, %v", k*size/cases, size, stored, err)
			}
			if err := p.check(stored, p.acknowledged, p.acknowledged); err != nil {
				t.Fatalf("bit in byte %d of %d: %v", k*size/cases, size, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused < cases/2 {
		t.Errorf("%d of %d directories were refused", refused, cases)
	}
}

// A flipped bit in a table breaks the engines whose rows it hits, tells which they are, and no
// others. The program goes on.
func TestAFlippedBitInATable(t *testing.T) {
	t.Parallel()
	intact, players := played(t, true)
	damaged := 0
	cases := deep(60, 5000)
	for k := range cases {
		fs := clone(t, intact)
		for _, name := range files(t, fs, ".sst") {
			n := len(contents(t, fs, name))
			flip(t, fs, name, k*n/cases)
		}
		s, err := Open("data", Options{fs: fs})
		if err != nil {
			continue // the table's own properties are hit
		}
		for _, p := range players {
			stored, err := caller{s}.load(p.name, journal.Owner{Number: 99})
			if err == nil {
				if err := p.check(stored, p.acknowledged, p.acknowledged); err != nil {
					t.Fatalf("case %d: %v", k, err)
				}
				continue
			}
			damaged++
			if !errors.Is(err, journal.ErrDamaged) || !strings.Contains(err.Error(), p.name) ||
				!strings.Contains(err.Error(), "data") {
				t.Fatalf("case %d: %v", k, err)
			}
		}
		if s.Err() != nil {
			t.Fatalf("the store has failed: %v", s.Err())
		}
		if err := s.Close(); err != nil {
			t.Logf("case %d: Close: %v", k, err)
		}
	}
	if damaged == 0 {
		t.Errorf("no engine of %d tables is damaged", len(files(t, intact, ".sst")))
	}
}

// Rows that pebble returns as they are stored, and that were written over by something else, are
// found by the store's own checksums: any of an engine's rows. A row that is missing is found,
// too.
func TestARowThatIsNotTheStores(t *testing.T) {
	t.Parallel()
	fs, players := played(t, true)
	s := openMem(t, fs)
	var keys [][]byte
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.SeekGE([]byte{kindEngine}); ok && it.Key()[0] == kindEngine; ok = it.Next() {
		keys = append(keys, append([]byte(nil), it.Key()...))
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	number := uint64(1000)
	for _, key := range keys {
		row, closer, err := s.db.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		good := append([]byte(nil), row...)
		_ = closer.Close()
		bad := append([]byte(nil), row...)
		bad[len(bad)/2] ^= 0x10
		if err := s.db.Set(key, bad, nil); err != nil {
			t.Fatal(err)
		}
		damaged := 0
		for _, p := range players {
			newest := p.acknowledged.newest
			number++
			_, err := caller{s}.load(p.name, journal.Owner{Number: number})
			err2 := readParts(caller{s}, p)
			err3 := error(nil)
			for at := uint64(0); at <= newest && err == nil && err2 == nil && err3 == nil; at++ {
				_, err3 = caller{s}.loadAt(p.name, at)
			}
			if err := errors.Join(err, err2, err3); err != nil {
				damaged++
				if !errors.Is(err, journal.ErrDamaged) || !strings.Contains(err.Error(), p.name) {
					t.Errorf("%x: %v", key, err)
				}
			}
		}
		if damaged != 1 {
			t.Errorf("the row %x: %d engines are damaged, want 1", key, damaged)
		}
		if err := s.db.Set(key, good, nil); err != nil {
			t.Fatal(err)
		}
	}
	verify(t, s, players)
}

// An engine whose rows are damaged can be deleted, and its name used again.
func TestADamagedEngineCanBeDeleted(t *testing.T) {
	fs, players := played(t, true)
	s := openMem(t, fs)
	p := players[0]
	if err := s.db.Set(appendBaseKey(nil, 1, p.acknowledged.base), []byte("nothing"), nil); err != nil {
		t.Fatal(err)
	}
	c := caller{s}
	if _, err := c.load(p.name, p.owner); !errors.Is(err, journal.ErrDamaged) {
		t.Fatalf("load: %v", err)
	}
	if list, err := c.list("", "", 10); err != nil || len(list) != 3 || list[0].Name != p.name {
		t.Errorf("list: %v, %v", list, err)
	}
	if err := c.delete(p.name); err != nil {
		t.Fatal(err)
	}
	if err := c.install(p.name, p.owner, journal.Base{}); err != nil {
		t.Fatal(err)
	}
	if stored, err := c.load(p.name, p.owner); err != nil || stored.Count != 0 {
		t.Errorf("%+v, %v", stored, err)
	}
}

// readParts reads all of a player's history.
func readParts(s caller, p *player) error {
	for from := uint64(1); from <= p.acknowledged.newest; {
		part, err := s.part(p.name, from, 1<<30)
		if err != nil {
			return err
		}
		from += part.Count
	}
	return nil
}

// A row that is missing in the middle of a journal is found: no group is left out silently, nor a
// key record.
func TestARowThatIsMissing(t *testing.T) {
	fs, players := played(t, true)
	s := openMem(t, fs)
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	for ok := it.SeekGE([]byte{kindEngine}); ok && it.Key()[0] == kindEngine; ok = it.Next() {
		part := it.Key()[engineKeySize-1]
		if part == partKeyed || part == partGroup {
			keys = append(keys, bytes.Clone(it.Key()))
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	for k, key := range keys {
		isLast := k+1 == len(keys) || !bytes.Equal(keys[k+1][:engineKeySize], key[:engineKeySize])
		if isLast && key[engineKeySize-1] == partGroup {
			continue // as if it had never been stored
		}
		row, closer, err := s.db.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		row = bytes.Clone(row)
		_ = closer.Close()
		if err := s.db.Delete(key, nil); err != nil {
			t.Fatal(err)
		}
		damaged := 0
		for _, p := range players {
			if err := readParts(caller{s}, p); errors.Is(err, journal.ErrDamaged) {
				damaged++
			}
		}
		if damaged != 1 {
			t.Errorf("without the row %x %d engines are damaged, want 1", key, damaged)
		}
		if err := s.db.Set(key, row, nil); err != nil {
			t.Fatal(err)
		}
	}
}
