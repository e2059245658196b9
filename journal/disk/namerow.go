package disk

import "encoding/binary"

// nameRow is what a name stands for: an ID that no other engine has, and when the name was
// created.
type nameRow struct {
	id      uint64
	created int64 // milliseconds since 1970
}

func (n nameRow) append(b, key []byte) []byte {
	b = binary.LittleEndian.AppendUint64(append(b, rowVersion), n.id)
	return seal(binary.AppendUvarint(b, uint64(n.created)), key)
}

func readName(row, key []byte) (n nameRow, err error) {
	r, err := unseal(row, key)
	if err != nil {
		return n, err
	}
	n.id, n.created = r.uint64(), int64(r.uint())
	return n, r.end()
}
