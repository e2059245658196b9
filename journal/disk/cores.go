package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

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

// PutCore keeps the code of a core under its hash: the SHA-256 of the code in hexadecimal, as in
// [journal.Base].Core. The store does not compute it. So a newer program can still replay what an older
// one has stored. If the store has the core, PutCore does nothing. It returns once the code is durable.
func (s *Store) PutCore(hash string, code []byte) error {
	h, err := coreHash(hash)
	if err != nil {
		return err
	}
	s.cores.Lock()
	defer s.cores.Unlock()
	if stored, err := s.Core(hash); err == nil && bytes.Equal(stored, code) {
		return nil
	}
	pieces := uint32(0)
	for rest := code; len(rest) > 0; {
		n := min(len(rest), pieceSize)
		pieces++
		if err := s.putRow(appendCoreKey(nil, h, pieces), rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	// The row about all pieces is the last one.
	key := appendCoreKey(nil, h, 0)
	row := binary.AppendUvarint([]byte{rowVersion}, uint64(pieces))
	row = binary.AppendUvarint(row, uint64(len(code)))
	return s.putRow(key, seal(binary.LittleEndian.AppendUint64(row, xxhash.Sum64(code)), key))
}

func (s *Store) putRow(key, row []byte) error {
	return s.wait(func(done journal.Done) {
		s.put(op{kind: opRow, more: &request{key: key, value: row}, done: done})
	})
}

// Core returns the code that was kept under a hash. It returns nil without an error if there is none.
func (s *Store) Core(hash string) (code []byte, err error) {
	h, err := coreHash(hash)
	if err != nil {
		return nil, err
	}
	if err := s.useDB(); err != nil {
		return nil, err
	}
	defer s.inUse.Done()
	code, err = s.readCore(h)
	if failure := s.Err(); failure != nil {
		return nil, failure
	}
	if err != nil {
		return nil, fmt.Errorf("the core %s in %s: %w: %w", hash, s.dir, journal.ErrDamaged, err)
	}
	return code, nil
}

func (s *Store) readCore(h [32]byte) (code []byte, err error) {
	key := appendCoreKey(nil, h, 0)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.First() || !bytes.Equal(it.Key(), key) {
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
