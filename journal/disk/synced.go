package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hypertoken/journal"
)

// pebble notes in its log how far the log is synced, and so can tell damage from a torn end. But it
// notes too little: it does not count the blocks of 32 KiB that it writes as a whole (pebble v2.1.7).
// Damage in the middle of a log could then be taken for its end, and all that follows would be lost
// without a word. So the store notes itself how far the newest log is synced, in a file of its own.
// The file is never synced. After a loss of power it may say too little, and never too much.

// syncedName is the file that says how far the newest log is synced.
const syncedName = "SYNCED"

// syncedNote is that file, while the store is open.
type syncedNote struct {
	fs   vfs.FS
	path string

	mu     sync.Mutex // guards what follows
	file   vfs.File
	isDone bool // nothing is noted any more
}

// note says that a log is synced up to an offset. An error only costs the note.
func (n *syncedNote) note(log uint64, offset int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isDone {
		return
	}
	if n.file == nil {
		f, err := n.fs.OpenReadWrite(n.path, vfs.WriteCategoryUnspecified)
		if err != nil {
			n.isDone = true
			return
		}
		n.file = f
	}
	if _, err := n.file.WriteAt(appendSynced(nil, log, offset), 0); err != nil {
		n.isDone = true
	}
}

// close ends the note.
func (n *syncedNote) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isDone = true
	if n.file != nil {
		_ = n.file.Close()
		n.file = nil
	}
}

// syncedSize is the size of the note in bytes: the log's number, the offset, and a checksum of both.
const syncedSize = 24

func appendSynced(b []byte, log uint64, offset int64) []byte {
	b = binary.LittleEndian.AppendUint64(b, log)
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

// readSynced reads a note. It reports false for one that is not whole.
func readSynced(b []byte) (log uint64, offset int64, ok bool) {
	if len(b) != syncedSize || binary.LittleEndian.Uint64(b[16:]) != xxhash.Sum64(b[:16]) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:])), true
}

// checkSynced fails if a log is damaged before the offset up to which it was synced.
func checkSynced(fs vfs.FS, dir string) error {
	text, err := readFile(fs, filepath.Join(dir, syncedName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	number, offset, ok := readSynced([]byte(text))
	if !ok {
		return nil // the note itself was torn
	}
	path := filepath.Join(dir, pebbleDir, fmt.Sprintf("%06d.log", number))
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // all of it is in tables
	} else if err != nil {
		return err
	}
	at, err := firstInvalid(f, number, offset)
	if err = errors.Join(err, f.Close()); err != nil || at >= offset {
		return err
	}
	return fmt.Errorf("%w: the log %s is damaged at the byte %d, and %d bytes were synced; Repair, and "+
		"'hypertoken journal repair', keep what is before the damage", journal.ErrDamaged, path, at, offset)
}

// The form of pebble's logs: blocks of 32 KiB, in which chunks stand one after the other. A chunk
// never spans two blocks. Its header has a checksum, the length of what follows the header, and a byte
// that says which of three headers it is. The two longer ones have the log's number behind that.
const (
	logBlock        = 32 << 10
	legacyHeader    = 7
	recycledHeader  = 11
	syncHeader      = 19
	legacyChunks    = 4 // the bytes 1 to 4 say a legacy header, the next four a recycled one
	recycledChunks  = 8
	syncChunks      = 12
	chunkLengthAt   = 4
	chunkKindAt     = 6
	chunkNumberAt   = 7
	checksumRotates = 17
	checksumAdds    = 0xa282ead8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// firstInvalid returns the offset of the first chunk of a log that is not whole, or to if all chunks
// before to are.
func firstInvalid(f io.Reader, number uint64, to int64) (int64, error) {
	block := make([]byte, logBlock)
	for at := int64(0); at < to; at += logBlock {
		n, err := io.ReadFull(f, block)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		limit := min(int64(logBlock), to-at)
		for p := int64(0); p < limit; {
			rest := block[p:max(int64(n), p)]
			if size := chunkSize(rest, number); size > 0 {
				p += int64(size)
				continue
			}
			if remaining := limit - p; remaining >= legacyHeader && !isTrailer(rest, remaining, number) &&
				!isPadding(rest, remaining, limit == logBlock) {
				return at + p, nil
			}
			break
		}
	}
	return to, nil
}

// isTrailer reports whether what is left of a log is the mark that pebble puts at the end when it
// closes the log: a header with no checksum, no length and the next log's number.
func isTrailer(rest []byte, size int64, number uint64) bool {
	return size == recycledHeader && len(rest) >= recycledHeader && binary.LittleEndian.Uint32(rest) == 0 &&
		binary.LittleEndian.Uint16(rest[chunkLengthAt:]) == 0 &&
		binary.LittleEndian.Uint32(rest[chunkNumberAt:]) == uint32(number)+1
}

// isPadding reports whether what is left of a block is its end, in which no header fits: zeros, of a
// block that is full.
func isPadding(rest []byte, size int64, isFull bool) bool {
	if !isFull || size >= syncHeader || int64(len(rest)) < size {
		return false
	}
	return isZero(rest)
}

// chunkSize returns the size of the chunk at the start of b, 0 if there is no whole one.
func chunkSize(b []byte, number uint64) int {
	if len(b) < legacyHeader {
		return 0
	}
	header, kind := syncHeader, b[chunkKindAt]
	switch {
	case kind == 0 || kind > syncChunks:
		return 0
	case kind <= legacyChunks:
		header = legacyHeader
	case kind <= recycledChunks:
		header = recycledHeader
	}
	size := header + int(binary.LittleEndian.Uint16(b[chunkLengthAt:]))
	if size > len(b) || header > legacyHeader && binary.LittleEndian.Uint32(b[chunkNumberAt:]) != uint32(number) {
		return 0
	}
	sum := bits.RotateLeft32(crc32.Checksum(b[chunkKindAt:size], castagnoli), checksumRotates) + checksumAdds
	if binary.LittleEndian.Uint32(b) != sum {
		return 0
	}
	return size
}
