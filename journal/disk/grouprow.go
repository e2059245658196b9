package disk

import (
	"encoding/binary"
	"fmt"

	"hypertoken/journal"
)

// A group is one row:
//
//	version, wall time, bytes of the engine so far, records, tags, 0, entries, checksum
//
// A tag says what the next records are. Tags that are not known make a row unreadable, so that new
// kinds of records may get tags of their own.
const (
	tagEnd   = 0 // the entries follow
	tagPlain = 1 // COUNT actions without a key
	tagKeyed = 2 // an action with the key record NUMBER
	tagNote  = 3 // a note with the key record NUMBER
	tagEmpty = 4 // a note that has no key record
	// tagBatch is no record: the next actions belong to the batch that began BACK-1 sequences before
	// the next one, or to no batch if BACK is 0.
	tagBatch = 5
)

// groupRow is a group as it was read.
type groupRow struct {
	first uint64 // of the key: the sequence of the first action
	notes uint32 // of the key
	time  int64  // milliseconds since 1970
	bytes uint64 // of all rows of the engine, up to this one
	// actions is the number of entries.
	actions uint64
	// keyed are the key records that were stored with the group.
	keyed []keyedPlace
	// batches are the batches that the group's actions belong to.
	batches []journal.Batch
	// entries is a part of the row that was read.
	entries []byte
}

// keyedPlace is the number of a key record, and the sequence after its record.
type keyedPlace struct{ number, sequence uint64 }

// last returns the sequence of the newest action once the group is stored.
func (g *groupRow) last() uint64 { return g.first + g.actions - 1 }

// behind returns the numbers in the key of the group that is stored next.
func (g *groupRow) behind() (first uint64, notes uint32) {
	if g.actions == 0 {
		return g.first, g.notes + 1
	}
	return g.last() + 1, 0
}

// addActions counts n actions of a batch, or of none if batch is 0.
func (g *groupRow) addActions(n, batch uint64) {
	g.actions += n
	if batch == 0 || n == 0 {
		return
	}
	if k := len(g.batches); k > 0 && g.batches[k-1].First == batch {
		g.batches[k-1].Last = g.last()
		return
	}
	g.batches = append(g.batches, journal.Batch{First: batch, Last: g.last()})
}

// appendGroup appends the row of a group. bytes is what the engine has without this row. It
// returns the number of actions.
func appendGroup(b, key []byte, group []journal.Record, now int64, bytes uint64) (row []byte, actions uint64) {
	start := len(b)
	size := uint64(0)
	for k := range group {
		size += uint64(len(group[k].Action)) + 10
	}
	b = binary.AppendUvarint(append(b, rowVersion), uint64(now))
	b = binary.AppendUvarint(b, bytes+size)
	b = binary.AppendUvarint(b, uint64(len(group)))
	next, batch := binary.BigEndian.Uint64(key[engineKeySize:]), uint64(0)
	for k := 0; k < len(group); {
		r := &group[k]
		if r.Action != nil {
			if r.Batch != batch {
				batch = r.Batch
				b = appendBatch(b, next, batch)
			}
			next++
		}
		switch {
		case r.Action == nil && r.Keyed == nil:
			b = append(b, tagEmpty)
		case r.Action == nil:
			b = binary.AppendUvarint(append(b, tagNote), r.Keyed.Number)
		case r.Keyed != nil:
			b = binary.AppendUvarint(append(b, tagKeyed), r.Keyed.Number)
		default:
			n := 1
			for k+n < len(group) && group[k+n].Action != nil && group[k+n].Keyed == nil && group[k+n].Batch == batch {
				n++
			}
			next += uint64(n - 1)
			b = binary.AppendUvarint(append(b, tagPlain), uint64(n))
			k += n
			continue
		}
		k++
	}
	b = append(b, tagEnd)
	for k := range group {
		if r := &group[k]; r.Action != nil {
			b = journal.AppendEntry(b, r.Action, r.Checksum)
			actions++
		}
	}
	return binary.LittleEndian.AppendUint64(b, rowSum(b[start:], key)), actions
}

// appendBatch appends the tag of a batch. next is the sequence of the next action, batch that of the
// batch's first action, or 0.
func appendBatch(b []byte, next, batch uint64) []byte {
	back := uint64(0)
	if batch != 0 {
		back = next - batch + 1
	}
	return binary.AppendUvarint(append(b, tagBatch), back)
}

// checkBatches fails if a record belongs to a batch that begins behind it. next is the sequence of
// the group's first action.
func checkBatches(group []journal.Record, next uint64) error {
	for k := range group {
		r := &group[k]
		if r.Action == nil {
			continue
		}
		if r.Batch > next {
			return journal.Refused("an action of the sequence %d, and its batch begins with %d", next, r.Batch)
		}
		next++
	}
	return nil
}

// readGroup reads a group. Its entries are a part of the row.
func readGroup(row, key []byte) (g groupRow, err error) {
	if g.first, g.notes, err = parseGroupKey(key); err != nil {
		return g, err
	}
	r, err := unseal(row, key)
	if err != nil {
		return g, err
	}
	g.time, g.bytes = int64(r.uint()), r.uint()
	records, read, batch := r.uint(), uint64(0), uint64(0)
	for r.err == nil {
		tag := r.uint()
		if tag == tagEnd {
			break
		}
		switch tag {
		case tagPlain:
			n := r.uint()
			if n > records-read {
				return g, fmt.Errorf("more than %d records", records)
			}
			g.addActions(n, batch)
			read += n - 1
		case tagBatch:
			back := r.uint()
			if batch = 0; back > 0 {
				batch = g.last() + 2 - back
			}
			if back > g.last()+1 {
				return g, fmt.Errorf("a batch that began %d sequences before %d", back-1, g.last()+1)
			}
			continue
		case tagKeyed:
			g.addActions(1, batch)
			g.keyed = append(g.keyed, keyedPlace{r.uint(), g.last()})
		case tagNote:
			g.keyed = append(g.keyed, keyedPlace{r.uint(), g.last()})
		case tagEmpty:
		default:
			return g, fmt.Errorf("the record %d is of the kind %d, which this program does not know", read, tag)
		}
		if read++; read > records {
			return g, fmt.Errorf("more than %d records", records)
		}
	}
	if r.err == nil && read != records {
		return g, fmt.Errorf("%d records, want %d", read, records)
	}
	g.entries = r.rest
	return g, r.err
}
