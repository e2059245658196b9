package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"hypertoken/journal"
)

const (
	// pieceSize is the size of the pieces of large data, and the size up to which data is a part
	// of its row.
	pieceSize = 256 << 10
	// maxRemembered bounds the numbers that a base may name, against a damaged row.
	maxRemembered = 1 << 20
)

// basePlace is where a base is in its journal.
type basePlace struct {
	// isFirst says that the journal began with the base, or with one whose place it has taken.
	isFirst bool
	// notes is the number of groups without an action that are just before a marker. So a group that
	// is missing there is found.
	notes uint32
}

// baseRow is a base as it was read, without key records, and without data that lies in pieces.
type baseRow struct {
	journal.Base
	time  int64  // milliseconds since 1970
	bytes uint64 // of all rows of the engine, up to this one
	basePlace
	// set is the number of the pieces that have the data; 0 if Data has it.
	set uint64
	// size is the size of the data, sum its XXH64.
	size, sum uint64
	// remembered are the numbers of Keys.
	remembered []uint64
}

// The flags of a base.
const (
	flagSnapshot = 1 << iota
	flagMarker   // the base takes its sequence
	flagFirst    // the journal began with the base
	flagEnd      // above all flags
)

// appendBase appends the row of a base. set is the number of the pieces that have the data; 0 if
// it is small.
func appendBase(b, key []byte, base *journal.Base, place basePlace, set uint64, now int64, bytes uint64) []byte {
	b = binary.AppendUvarint(append(b, rowVersion), uint64(now))
	b = binary.AppendUvarint(b, bytes)
	b = append(b, flag(base.Snapshot, flagSnapshot)|flag(base.IsMarker, flagMarker)|flag(place.isFirst, flagFirst))
	core, isHash := base.Core, false
	if hash, err := hex.DecodeString(core); err == nil && hex.EncodeToString(hash) == core {
		core, isHash = string(hash), true
	}
	b = appendBytes(appendFlag(b, isHash), []byte(core))
	b = binary.AppendUvarint(b, base.KeyNumber)
	b = appendRemembered(b, base.Keys)
	b = binary.AppendUvarint(appendBytes(b, base.Details), uint64(place.notes))
	b = binary.AppendUvarint(b, set)
	b = binary.AppendUvarint(b, uint64(len(base.Data)))
	b = binary.LittleEndian.AppendUint64(b, xxhash.Sum64(base.Data))
	if set == 0 {
		b = append(b, base.Data...)
	}
	return seal(b, key)
}

func flag(isSet bool, flag byte) byte {
	if isSet {
		return flag
	}
	return 0
}

// appendRemembered appends the numbers of key records as runs: how many runs, and of each the
// difference to the number behind the run before it, and its length.
func appendRemembered(b []byte, keys []journal.KeyRecord) []byte {
	runs := uint64(0)
	for k := range keys {
		if k == 0 || keys[k].Number != keys[k-1].Number+1 {
			runs++
		}
	}
	b = binary.AppendUvarint(b, runs)
	next := uint64(0)
	for k := 0; k < len(keys); {
		n := 1
		for k+n < len(keys) && keys[k+n].Number == keys[k].Number+uint64(n) {
			n++
		}
		b = binary.AppendUvarint(b, keys[k].Number-next)
		b = binary.AppendUvarint(b, uint64(n))
		next = keys[k].Number + uint64(n)
		k += n
	}
	return b
}

// readRemembered reads what appendRemembered has written.
func readRemembered(r *rowReader) (numbers []uint64, err error) {
	next := uint64(0)
	for range r.uint() {
		start := next + r.uint()
		n := r.uint()
		if n == 0 || n > maxRemembered || uint64(len(numbers))+n > maxRemembered || start < next || start+n < start {
			return nil, fmt.Errorf("a base remembers %d keys from %d on", n, start)
		}
		for k := range n {
			numbers = append(numbers, start+k)
		}
		next = start + n
	}
	return numbers, r.err
}

// readBase reads a base. It keeps no part of the row.
func readBase(row, key []byte) (b baseRow, err error) {
	if len(key) != baseKeySize || key[engineKeySize-1] != partBase {
		return b, fmt.Errorf("the key %x is not that of a base", key)
	}
	b.Sequence = binary.BigEndian.Uint64(key[engineKeySize:])
	r, err := unseal(row, key)
	if err != nil {
		return b, err
	}
	b.time, b.bytes = int64(r.uint()), r.uint()
	flags := r.byte()
	if flags >= flagEnd {
		return b, fmt.Errorf("the base has the flags %x, which this program does not know", flags)
	}
	b.Snapshot, b.IsMarker, b.isFirst = flags&flagSnapshot != 0, flags&flagMarker != 0, flags&flagFirst != 0
	isHash := r.byte() != 0
	if core := r.bytes(); isHash {
		b.Core = hex.EncodeToString(core)
	} else {
		b.Core = string(core)
	}
	b.KeyNumber = r.uint()
	if b.remembered, err = readRemembered(&r); err != nil {
		return b, err
	}
	b.Details = bytes.Clone(r.bytes())
	b.notes = uint32(r.uint())
	b.set, b.size, b.sum = r.uint(), r.uint(), r.uint64()
	if b.set == 0 {
		b.Data = bytes.Clone(r.take(b.size))
	}
	return b, r.end()
}

// checkData fails if the base's data is not that of which the row has the size and the sum.
func (b *baseRow) checkData() error {
	if uint64(len(b.Data)) != b.size {
		return fmt.Errorf("the base's data has %d bytes, want %d", len(b.Data), b.size)
	}
	if sum := xxhash.Sum64(b.Data); sum != b.sum {
		return fmt.Errorf("the checksum of the base's data is %016x, want %016x", sum, b.sum)
	}
	return nil
}
