package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A directory of an older version of the format is upgraded when it is opened. The process may die
// at any moment of an upgrade, and the power may fail: the next start goes on.
//
//  1. The file UPGRADING notes the version that the rows have.
//  2. FORMAT gets the new version. From here on an older program refuses the directory.
//  3. The steps change the rows, in batches. Each batch also writes how far the upgrade is, so a
//     row is changed once.
//  4. The file UPGRADING is removed, once all batches are on the disk.

// step takes the rows from one version of the format to the next one.
type step struct {
	// lower and upper bound the keys of the rows that the step changes: lower is the first one,
	// upper the first one that is not changed.
	lower, upper []byte
	// change adds to the batch what becomes of a row. It is called once for each row, in the order of
	// keys. It writes to the row's key, or to keys outside of the bounds: other rows inside of them
	// would be changed again. It may keep neither key nor value.
	change func(b *pebble.Batch, key, value []byte) error
}

// formatSteps are the steps of this program. The first one leads from the version 1 to the version
// 2, so there is one step less than there are versions.
var formatSteps = []step{}

// upgradingName is the file that says that an upgrade has begun, and from which version.
const upgradingName = "UPGRADING"

const upgradingPrefix = "from format "

// stepRows and stepBytes bound a batch of an upgrade.
const (
	stepRows  = 1024
	stepBytes = 1 << 20
)

// upgrade is an upgrade on its way.
type upgrade struct {
	// from is the version that the rows had when the upgrade was first begun.
	from int
	// version is the one that the rows have. next is where the step that leads to the version after
	// it goes on; nil if it has not begun.
	version int
	next    []byte
}

// beginUpgrade raises the version in FORMAT if it is older than this program's, and notes before
// which version the rows have. It returns nil if there is nothing to upgrade. pebble is not open yet.
func (s *Store) beginUpgrade(version int) (*upgrade, error) {
	fs, newest := s.gate.FS, s.o.newestFormat()
	from, err := readUpgrading(fs, s.dir)
	if err != nil {
		return nil, err
	}
	isBegun := from > 0
	switch {
	case !isBegun:
		from = version
	case from > version:
		return nil, fmt.Errorf("%w: %s says %q, and %s says %d", ErrFormat, filepath.Join(s.dir, upgradingName),
			upgradingText(from), formatName, version)
	}
	if from == newest {
		return nil, nil
	}
	if s.space.check(s); s.space.err() != nil {
		return nil, s.space.err()
	}
	s.o.Logger.Info("the directory's format is being upgraded", "dir", s.dir, "from", from, "to", newest,
		"goes_on", version > from)
	if !isBegun {
		if err := writeFile(fs, s.dir, upgradingName, upgradingText(from)); err != nil {
			return nil, err
		}
	}
	if version < newest {
		if err := writeFormat(fs, s.dir, newest); err != nil {
			return nil, err
		}
	}
	return &upgrade{from: from, version: from}, nil
}

func upgradingText(from int) string { return fmt.Sprintf("%s%d\n", upgradingPrefix, from) }

// readUpgrading returns the version from which an upgrade has begun, or 0 if none has.
func readUpgrading(fs vfs.FS, dir string) (from int, err error) {
	text, err := readFile(fs, filepath.Join(dir, upgradingName))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	from, err = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(text, upgradingPrefix), "\n"))
	if err != nil || from < 1 || text != upgradingText(from) {
		return 0, fmt.Errorf("%w: %s has %q, want %q and a number", ErrFormat, filepath.Join(dir, upgradingName),
			text[:min(len(text), 40)], upgradingPrefix)
	}
	return from, nil
}

// runUpgrade carries the steps out, from where an earlier start has left them.
func (s *Store) runUpgrade(u *upgrade) error {
	began, newest := time.Now(), s.o.newestFormat()
	if err := s.readProgress(u); err != nil {
		return err
	}
	for u.version < newest {
		if err := s.runBatch(u, &s.o.steps[u.version-1]); err != nil {
			return fmt.Errorf("the upgrade to the format %d: %w", u.version+1, err)
		}
	}
	// With SyncInterval nothing else has forced the log onto the disk.
	if s.gate.syncLogs(); s.Err() != nil {
		return s.Err()
	}
	err := s.gate.FS.Remove(filepath.Join(s.dir, upgradingName))
	if err == nil {
		err = syncDir(s.gate.FS, s.dir)
	}
	if err != nil {
		return err
	}
	s.o.Logger.Info("the directory's format was upgraded", "dir", s.dir, "from", u.from, "to", newest,
		"took", time.Since(began))
	return nil
}

// runBatch changes the next rows, and notes in the same batch how far the upgrade is.
func (s *Store) runBatch(u *upgrade, step *step) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: step.lower, UpperBound: step.upper})
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	ok := it.First()
	if u.next != nil {
		ok = it.SeekGE(u.next)
	}
	for rows := 0; ok && err == nil && rows < stepRows && b.Len() < stepBytes; rows++ {
		err = step.change(b, it.Key(), it.Value())
		ok = err == nil && it.Next()
	}
	if u.next = nil; ok {
		u.next = bytes.Clone(it.Key())
	} else {
		u.version++
	}
	if err = errors.Join(err, it.Close()); err == nil {
		key := progressKey()
		_ = b.Set(key, appendProgress(nil, key, u), nil)
		s.space.wrote(s, uint64(b.Len()))
		if err = s.space.err(); err == nil {
			err = s.db.Apply(b, pebble.Sync)
		}
	}
	return errors.Join(err, s.Err(), b.Close())
}

func progressKey() []byte { return []byte{kindMeta, 'u'} }

// appendProgress appends the row that says how far an upgrade is.
func appendProgress(row, key []byte, u *upgrade) []byte {
	row = binary.AppendUvarint(append(row, rowVersion), uint64(u.version))
	return seal(appendBytes(row, u.next), key)
}

// readProgress reads how far the upgrade is. There may be no row, or the row of an earlier upgrade,
// which ended with the version that this one begins with.
func (s *Store) readProgress(u *upgrade) error {
	key := progressKey()
	row, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { _ = closer.Close() }()
	r, err := unseal(row, key)
	if err != nil {
		return damagedRow(key, err)
	}
	version, next := int(r.uint()), r.bytes()
	if err := r.end(); err != nil {
		return damagedRow(key, err)
	}
	if version > s.o.newestFormat() || version < u.from {
		return damagedf(key, "an upgrade from %d to %d got to the version %d", u.from, s.o.newestFormat(), version)
	}
	if u.version = version; len(next) > 0 {
		u.next = bytes.Clone(next)
	}
	return nil
}
