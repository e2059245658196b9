package jetstream

import (
	"encoding/binary"
	"fmt"
)

// bundle is a message with several records. A tail bundle has groups of several engines of a slot. A
// copies bundle lies on the subject of one engine, and has groups that were in the slot's tail.
//
// The head of a bundle has a checksum of its own, and each record has one. So a damaged record breaks
// its engine alone. Behind the records of a tail bundle is a copy of its head, because without a head
// nobody knows which engines have something in the bundle.
type bundle struct {
	kind recordKind
	id   recordID
	// previous is the stream sequence of the tail bundle before this one; 0 if this is the first.
	previous uint64
	// settled is the stream sequence up to which the slot's tail is on the subjects of its engines.
	settled uint64
	// drops are the tokens of engines of which earlier tail bundles have nothing any more: it is on the
	// engine's subject, or the engine is deleted.
	drops   []string
	records []bundled
}

// bundled is a record in a bundle, encoded. token is that of its engine; empty in copies.
type bundled struct {
	token string
	data  []byte
	// ordinal is that of the record; 0 if it can't be read. It is not in the encoding.
	ordinal uint64
}

// appendTo appends the encoding of the bundle to b. subject goes into the checksum.
func (u *bundle) appendTo(b []byte, subject string) []byte {
	start := len(b)
	b = append(append(b, recordVersion, byte(u.kind)), u.id.life[:]...)
	for _, n := range [...]uint64{u.id.number, u.previous, u.settled, uint64(len(u.drops))} {
		b = binary.AppendUvarint(b, n)
	}
	for _, token := range u.drops {
		b = appendBytes(b, token)
	}
	b = binary.AppendUvarint(b, uint64(len(u.records)))
	for k := range u.records {
		b = binary.AppendUvarint(appendBytes(b, u.records[k].token), uint64(len(u.records[k].data)))
	}
	b = binary.LittleEndian.AppendUint64(b, sumOf(b[start:], subject))
	end := len(b)
	for k := range u.records {
		b = append(b, u.records[k].data...)
	}
	if u.kind == kindTail {
		b = append(b, b[start:end]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(end-start))
	}
	return b
}

// headCopy returns the copy of the head behind the records; nil if there is none.
func headCopy(b []byte) []byte {
	if len(b) < 4 {
		return nil
	}
	rest := b[:len(b)-4]
	if n := binary.LittleEndian.Uint32(b[len(rest):]); uint64(n) <= uint64(len(rest)/2) {
		return rest[len(rest)-int(n):]
	}
	return nil
}

// isBundle returns whether a message is a bundle of a kind and not a record.
func isBundle(b []byte, kind recordKind) bool {
	return len(b) > 2 && b[0] == recordVersion && recordKind(b[1]) == kind
}

// readBundle reads a bundle. The records are parts of b, and are not checked. If the head is damaged, its
// copy tells what it was.
func readBundle(b []byte, kind recordKind, subject string) (u bundle, err error) {
	u, sizes, end, err := readHead(b, kind, subject)
	if spare := headCopy(b); err != nil && kind == kindTail && spare != nil {
		again, sizesAgain, endAgain, errAgain := readHead(spare, kind, subject)
		if errAgain == nil && endAgain == len(spare) {
			u, sizes, end, err = again, sizesAgain, endAgain, nil
		}
	}
	if err != nil {
		return u, err
	}
	d := decoder{rest: b[end:]}
	for k := range sizes {
		// If bytes are missing, the records that they belong to have a wrong checksum.
		u.records[k].data = d.take(min(sizes[k], uint64(len(d.rest))))
	}
	return u, d.err
}

// readHead reads the head of a bundle: all but the records, whose sizes it returns. The head ends at the
// index end.
func readHead(b []byte, kind recordKind, subject string) (u bundle, sizes []uint64, end int, err error) {
	if !isBundle(b, kind) {
		return u, nil, 0, fmt.Errorf("the message is not of the version %d and the kind %d", recordVersion, kind)
	}
	u.kind = kind
	d := decoder{rest: b[2:]}
	copy(u.id.life[:], d.take(8))
	u.id.number, u.previous, u.settled = d.uint(), d.uint(), d.uint()
	n := d.uint()
	if n > uint64(len(d.rest)) {
		return u, nil, 0, errShort
	}
	for range n {
		u.drops = append(u.drops, string(d.take(d.uint())))
	}
	if n = d.uint(); n > uint64(len(d.rest)/2) {
		return u, nil, 0, errShort
	}
	sizes = make([]uint64, n)
	for k := range sizes {
		u.records = append(u.records, bundled{token: string(d.take(d.uint()))})
		sizes[k] = d.uint()
	}
	head := b[:len(b)-len(d.rest)]
	if want, have := d.uint64(), sumOf(head, subject); d.err == nil && want != have {
		return u, nil, 0, fmt.Errorf("the checksum of the bundle is %016x, want %016x", have, want)
	}
	return u, sizes, len(b) - len(d.rest), d.err
}

// readMessage returns the records of a message on an engine's subject. If one is damaged, it returns
// those before it, and one that has its stream sequence alone.
func readMessage(m *message) ([]record, error) {
	if !isBundle(m.data, kindCopies) {
		r, err := readRecord(m.data, m.subject, m.at)
		return []record{r}, err
	}
	u, err := readBundle(m.data, kindCopies, m.subject)
	if err == nil && len(u.records) == 0 {
		err = errShort
	}
	if err != nil {
		return []record{{at: m.at}}, err
	}
	list := make([]record, 0, len(u.records))
	for k := range u.records {
		r, err := readRecord(u.records[k].data, m.subject, m.at)
		list = append(list, r)
		if err != nil {
			return list, err
		}
	}
	return list, nil
}
