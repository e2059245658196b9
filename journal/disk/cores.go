package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// coreHash returns the 32 bytes of a core's hash.
func coreHash(hash string) (h [32]byte, err error) {
	b, err := hex.DecodeString(hash)
	if err != nil || len(b) != len(h) {
		return h, journal.Refused("%q is not the SHA-256 of a core in hexadecimal", hash)
	}
	return [32]byte(b), nil
}

// KeepCore implements [journal.CoreKeeper]. The code goes in pieces, so that it holds up nobody.
// The row that refers to them is written last.
func (s *Store) KeepCore(hash string, code []byte, done journal.Done) {
	h, err := coreHash(hash)
	if err != nil {
		done.Report(err)
		return
	}
	s.Core(hash, func(stored []byte, err error) {
		if err == nil && stored != nil && bytes.Equal(stored, code) {
			done.Report(nil)
			return
		}
		s.keepPiece(h, code, 0, done)
	})
}

// keepPiece stores the piece behind the first n, and then those that follow it.
func (s *Store) keepPiece(h [32]byte, code []byte, n int, done journal.Done) {
	start := n * pieceSize
	if start >= len(code) {
		key := appendCoreKey(nil, h, 0)
		row := binary.AppendUvarint([]byte{rowVersion}, uint64(n))
		row = binary.AppendUvarint(row, uint64(len(code)))
		row = seal(binary.LittleEndian.AppendUint64(row, xxhash.Sum64(code)), key)
		s.put(op{kind: opRow, more: &request{key: key, value: row}, done: done})
		return
	}
	piece := code[start:min(start+pieceSize, len(code))]
	next := journal.DoneFunc(func(err error) {
		if err != nil {
			done.Report(err)
			return
		}
		s.keepPiece(h, code, n+1, done)
	})
	s.put(op{kind: opRow, more: &request{key: appendCoreKey(nil, h, uint32(n)+1), value: piece}, done: next})
}

// Core implements [journal.CoreKeeper].
func (s *Store) Core(hash string, done func([]byte, error)) {
	if _, err := coreHash(hash); err != nil {
		done(nil, err)
		return
	}
	s.put(op{kind: opCore, name: hash, more: &request{core: done}})
}

// readCore reads the code of a core; nil if it is not there.
func readCore(it *pebble.Iterator, hash string) (code []byte, err error) {
	h, err := coreHash(hash)
	if err != nil {
		return nil, err
	}
	key := appendCoreKey(nil, h, 0)
	if !it.SeekGE(key) || !bytes.Equal(it.Key(), key) {
		return nil, it.Error()
	}
	r, err := unseal(it.Value(), key)
	if err != nil {
		return nil, damagedRow(key, err)
	}
	pieces, size, sum := r.uint(), r.uint(), r.uint64()
	if err := r.end(); err != nil {
		return nil, damagedRow(key, err)
	}
	code = []byte{}
	for k := range pieces {
		key := appendCoreKey(nil, h, uint32(k)+1)
		if !it.Next() || !bytes.Equal(it.Key(), key) || uint64(len(code)+len(it.Value())) > size {
			return nil, errors.Join(it.Error(), damagedf(key, "a piece of the code is missing"))
		}
		code = append(code, it.Value()...)
	}
	if uint64(len(code)) != size || xxhash.Sum64(code) != sum {
		return nil, damagedf(key, "the code is not the one that was kept")
	}
	return code, nil
}
