package jetstream

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"hypertoken/journal"
)

// A journal is a list of records on the engine's subject, and behind them those that lie in the slot's
// tail. This file has the encoding of a record, which README.md describes; bundle.go has that of a
// message with several records.

// recordVersion is the first byte of each record.
const recordVersion = 1

// recordKind says what a record is, or what a bundle of records is. The kinds 7 to 63 are free for later
// versions.
type recordKind byte

const (
	kindBase      recordKind = 1
	kindGroup     recordKind = 2
	kindTombstone recordKind = 3 // the engine is deleted
	kindMarker    recordKind = 4 // a base that takes a sequence
	kindTail      recordKind = 5 // a bundle: groups of several engines, on the slot's subject
	kindCopies    recordKind = 6 // a bundle: records of one engine that were elsewhere before
)

// partialFlag is added to the kind of a record that is partial.
const partialFlag = 64

// recordID tells whether a message is the one that a store has sent: random for each life of a store,
// and a number.
type recordID struct {
	life   [8]byte
	number uint64
}

// record is one record, with what is behind its head as bytes: the body of a base, a marker or a group.
type record struct {
	kind recordKind
	// isPartial says that the record is a copy of another name's, and that further ones follow. If it is
	// the newest record, the copy is not complete, and there is no journal.
	isPartial bool
	id        recordID
	// incarnation is that of the engine.
	incarnation incarnation
	// time is when the record was made, created when the engine was, in milliseconds since 1970.
	time, created int64
	// ordinal counts the records of the engine from 1. It shows that none is missing, wherever they lie.
	ordinal uint64
	// epoch is that of the tenure in which the record was written.
	epoch uint64
	// previous is the stream sequence of the newest message on the engine's subject when the record was
	// made; 0 if there was none.
	previous uint64
	// base and baseSequence are the stream sequence and the sequence of the newest base before this
	// record. In a base and in a marker, base is 0 and baseSequence its own sequence.
	base, baseSequence uint64
	// start is the stream sequence of the first group that has something behind the newest base; 0 if
	// it comes after the base.
	start uint64
	// sequence is the newest sequence before this record, actions how many sequences it takes: one for
	// each action of a group, and one for a marker that is new. A marker takes none if it replaces a
	// marker of the same sequence, or if the journal begins with it.
	sequence, actions uint64
	// bytes is what the journal takes up to this record, about.
	bytes uint64
	// pieces says where the body lies if it is not in body.
	pieces pieces
	body   []byte
	// at is the stream sequence of the message on the engine's subject that has the record. That of a
	// record in the slot's tail is made up by the reader: it is above those of the subject. It is not in
	// the encoding.
	at uint64
}

// pieces refers to data in a stream of pieces. The zero value refers to nothing.
type pieces struct {
	acquisition, number uint64
	// count is the number of messages, size that of all bytes, sum the XXH64 of all bytes.
	count, size, sum uint64
}

// newest returns the newest sequence after the record.
func (r *record) newest() uint64 { return r.sequence + r.actions }

// bytesBefore returns what the journal took before the record, as bytes counts it.
func (r *record) bytesBefore() uint64 {
	size := uint64(len(r.body))
	if r.pieces.count > 0 {
		size = r.pieces.size
	}
	return r.bytes - min(r.bytes, size)
}

// isAbsent returns whether there is no journal if the record is the newest one; nil is no record.
func (r *record) isAbsent() bool { return r == nil || r.kind == kindTombstone || r.isPartial }

// isBase returns whether the record is a base, which may be a marker.
func (r *record) isBase() bool { return r.kind == kindBase || r.kind == kindMarker }

// newestBase returns the stream sequence of the newest base once the record is stored.
func (r *record) newestBase() uint64 {
	if r.isBase() {
		return r.at
	}
	return r.base
}

// appendTo appends the encoding of the record to b. subject goes into the checksum, so that a record
// under another subject is as damaged as one with another bit.
func (r *record) appendTo(b []byte, subject string) []byte {
	start := len(b)
	kind := byte(r.kind)
	if r.isPartial {
		kind |= partialFlag
	}
	b = append(b, recordVersion, kind)
	b = append(append(b, r.id.life[:]...), r.incarnation[:]...)
	for _, n := range [...]uint64{r.id.number, uint64(r.time), uint64(r.created), r.ordinal, r.epoch, r.previous,
		r.base, r.baseSequence, r.start, r.sequence, r.actions, r.bytes, r.pieces.count} {
		b = binary.AppendUvarint(b, n)
	}
	if r.pieces.count > 0 {
		for _, n := range [...]uint64{r.pieces.acquisition, r.pieces.number, r.pieces.size} {
			b = binary.AppendUvarint(b, n)
		}
		b = binary.LittleEndian.AppendUint64(b, r.pieces.sum)
	} else {
		b = append(b, r.body...)
	}
	return binary.LittleEndian.AppendUint64(b, sumOf(b[start:], subject))
}

// recordOverhead is about what a record takes beside its body.
const recordOverhead = 80

func sumOf(b []byte, subject string) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(subject)
	_, _ = d.Write(b)
	return d.Sum64()
}

// readRecord reads a record. Its body is a part of b.
func readRecord(b []byte, subject string, at uint64) (r record, err error) {
	r.at = at
	if len(b) < 10 {
		return r, errShort
	}
	content := b[:len(b)-8]
	if want, have := binary.LittleEndian.Uint64(b[len(content):]), sumOf(content, subject); have != want {
		return r, fmt.Errorf("the checksum is %016x, want %016x", have, want)
	}
	if content[0] != recordVersion {
		return r, fmt.Errorf("the record has the version %d, this program knows %d", content[0], recordVersion)
	}
	r.kind, r.isPartial = recordKind(content[1]&^partialFlag), content[1]&partialFlag != 0
	if r.kind < kindBase || r.kind > kindMarker {
		return r, fmt.Errorf("the record is of the kind %d, which this program does not know", content[1])
	}
	d := decoder{rest: content[2:]}
	copy(r.id.life[:], d.take(8))
	copy(r.incarnation[:], d.take(8))
	r.id.number, r.time, r.created = d.uint(), int64(d.uint()), int64(d.uint())
	r.ordinal, r.epoch = d.uint(), d.uint()
	r.previous, r.base, r.baseSequence, r.start = d.uint(), d.uint(), d.uint(), d.uint()
	r.sequence, r.actions, r.bytes, r.pieces.count = d.uint(), d.uint(), d.uint(), d.uint()
	if r.pieces.count > 0 {
		r.pieces.acquisition, r.pieces.number, r.pieces.size = d.uint(), d.uint(), d.uint()
		r.pieces.sum = d.uint64()
		return r, d.end()
	}
	r.body = d.rest
	return r, d.err
}

// groupBody is what a group has.
type groupBody struct {
	keyed []journal.KeyRecord
	// batches are the batches of the group. Their sequences count from 1, the group's first action.
	batches []journal.Batch
	entries []byte
}

// appendGroupBody appends what a group has: its key records, its batches, then its entries. It returns
// the number of actions, too.
func appendGroupBody(b []byte, group []journal.Record) (body []byte, actions uint64) {
	keyed := uint64(0)
	for k := range group {
		if group[k].Keyed != nil {
			keyed++
		}
	}
	b = binary.AppendUvarint(b, keyed)
	for k := range group {
		if group[k].Keyed != nil {
			b = appendKeyRecord(b, group[k].Keyed)
		}
	}
	b = appendBatches(b, group)
	for k := range group {
		if group[k].Action != nil {
			b = journal.AppendEntry(b, group[k].Action, group[k].Checksum)
			actions++
		}
	}
	return b, actions
}

// appendBatches appends the number of the batches of a group, and where each of them lies.
func appendBatches(b []byte, group []journal.Record) []byte {
	n, present := uint64(0), uint64(0)
	for k := range group {
		if r := &group[k]; r.Action != nil {
			if r.Batch != 0 && r.Batch != present {
				n++
			}
			present = r.Batch
		}
	}
	b = binary.AppendUvarint(b, n)
	if n == 0 {
		return b
	}
	present = 0
	at, first := uint64(0), uint64(0) // of the actions before the one at hand; where the batch began
	end := func() {
		if present != 0 {
			b = binary.AppendUvarint(binary.AppendUvarint(b, first), at-first)
		}
	}
	for k := range group {
		if r := &group[k]; r.Action != nil {
			if r.Batch != present {
				end()
				present, first = r.Batch, at+1
			}
			at++
		}
	}
	end()
	return b
}

// leastBatch is the size of the smallest batch, against numbers in damaged records.
const leastBatch = 2

// readGroupBody reads what a group has. The entries are a part of b.
func readGroupBody(b []byte) (g groupBody, err error) {
	d := decoder{rest: b}
	if g.keyed, err = readKeyRecords(&d); err != nil {
		return g, err
	}
	n := d.uint()
	if n > uint64(len(d.rest)/leastBatch) {
		return g, fmt.Errorf("%d batches in %d bytes", n, len(d.rest))
	}
	for range n {
		first := d.uint()
		g.batches = append(g.batches, journal.Batch{First: first, Last: first + d.uint()})
	}
	g.entries = d.rest
	return g, d.err
}

// appendBaseBody appends what a base has.
func appendBaseBody(b []byte, base *journal.Base) []byte {
	b = appendFlag(b, base.Snapshot)
	core, isHash := base.Core, false
	if hash, err := hex.DecodeString(core); err == nil && hex.EncodeToString(hash) == core {
		core, isHash = string(hash), true
	}
	b = appendBytes(appendFlag(b, isHash), core)
	b = binary.AppendUvarint(b, base.KeyNumber)
	b = binary.AppendUvarint(b, uint64(len(base.Keys)))
	for k := range base.Keys {
		b = appendKeyRecord(b, &base.Keys[k])
	}
	b = append(binary.AppendUvarint(b, uint64(len(base.Details))), base.Details...)
	return append(b, base.Data...)
}

// readBaseBody returns a base without what the record has of it: its sequence, and whether it is a
// marker. Its details and its data are parts of b.
func readBaseBody(b []byte) (base journal.Base, err error) {
	d := decoder{rest: b}
	base.Snapshot = d.byte() != 0
	isHash := d.byte() != 0
	if base.Core = string(d.take(d.uint())); isHash {
		base.Core = hex.EncodeToString([]byte(base.Core))
	}
	base.KeyNumber = d.uint()
	if base.Keys, err = readKeyRecords(&d); err != nil {
		return base, err
	}
	base.Details = d.take(d.uint())
	base.Data = d.rest
	return base, d.err
}

func appendKeyRecord(b []byte, k *journal.KeyRecord) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, k.Number), k.Sequence)
	b = append(appendFlag(b, k.Changed), k.Sum[:]...)
	b = appendBytes(b, k.Key)
	return append(binary.AppendUvarint(b, uint64(len(k.Result))), k.Result...)
}

// leastKeyRecord is the size of the smallest key record, against numbers in damaged records.
const leastKeyRecord = 37

// readKeyRecords reads a number, and so many key records. They keep no part of what is read.
func readKeyRecords(d *decoder) (list []journal.KeyRecord, err error) {
	n := d.uint()
	if n > uint64(len(d.rest)/leastKeyRecord) {
		return nil, fmt.Errorf("%d key records in %d bytes", n, len(d.rest))
	}
	for range n {
		k := journal.KeyRecord{Number: d.uint(), Sequence: d.uint(), Changed: d.byte() != 0}
		copy(k.Sum[:], d.take(32))
		k.Key = string(d.take(d.uint()))
		k.Result = append([]byte(nil), d.take(d.uint())...)
		list = append(list, k)
	}
	return list, d.err
}

func appendBytes(b []byte, x string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(x))), x...)
}

func appendFlag(b []byte, flag bool) []byte {
	if flag {
		return append(b, 1)
	}
	return append(b, 0)
}

var errShort = errors.New("the record ends too early")

// decoder takes a record apart. After the first failure all it returns is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errShort
	}
	d.rest = nil
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// take returns the next n bytes; nil if there are fewer.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail()
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		return fmt.Errorf("%d bytes follow the record's end", len(d.rest))
	}
	return d.err
}
