package disk

import (
	"bytes"
	"encoding/binary"

	"hypertoken/journal"
)

// A key record is a row of its own, under its number. A new base only names the numbers that it
// remembers, so the results are written once.

func appendKeyed(b, key []byte, k *journal.KeyRecord) []byte {
	b = binary.AppendUvarint(append(b, rowVersion), k.Sequence)
	b = append(appendFlag(b, k.Changed), k.Sum[:]...)
	b = appendBytes(appendBytes(b, []byte(k.Key)), k.Result)
	return seal(b, key)
}

// readKeyed reads a key record. It keeps no part of the row.
func readKeyed(row, key []byte) (k journal.KeyRecord, err error) {
	r, err := unseal(row, key)
	if err != nil {
		return k, err
	}
	k.Sequence, k.Changed = r.uint(), r.byte() != 0
	copy(k.Sum[:], r.take(32))
	k.Key, k.Result = string(r.bytes()), bytes.Clone(r.bytes())
	k.Number = binary.BigEndian.Uint64(key[engineKeySize:])
	return k, r.end()
}
