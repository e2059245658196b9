package disk

import (
	"bytes"
	"reflect"
	"testing"

	"hypertoken/journal"
)

// The decoders take any bytes: a row that was sealed by mistake or on purpose must not end the
// program, nor take more memory than its size warrants.

func FuzzReadGroup(f *testing.F) {
	key := appendGroupKey(nil, 3, 10, 2)
	keyed := actionRecord(11)
	keyed.Keyed = keyRecord(7, 11)
	group := []journal.Record{actionRecord(10), keyed, {Keyed: keyRecord(8, 11)}, {}, actionRecord(12)}
	for k := range group {
		group[k].Batch = uint64(10 + k/4*2)
	}
	row, _ := appendGroup(nil, key, group, 5, 6)
	f.Add(row[:len(row)-8], key)
	f.Fuzz(func(t *testing.T, body, key []byte) {
		if _, err := readGroup(body, key); err == nil && len(body) < 9 {
			t.Error("a row without a checksum was read")
		}
		g, err := readGroup(seal(bytes.Clone(body), key), key)
		if err != nil {
			return
		}
		if len(g.keyed) > len(body) || len(g.entries) > len(body) {
			t.Errorf("%d key records, %d bytes of entries from %d", len(g.keyed), len(g.entries), len(body))
		}
		for _, b := range g.batches {
			if b.First > b.Last || b.Last < g.first || b.Last > g.last() {
				t.Errorf("a batch %v in a group from %d to %d", b, g.first, g.last())
			}
		}
	})
}

func FuzzReadBase(f *testing.F) {
	key := appendBaseKey(nil, 3, 10)
	base := journal.Base{Sequence: 10, Data: []byte("data"), Core: "abcd", KeyNumber: 9, IsMarker: true,
		Details: []byte("details"),
		Keys:    []journal.KeyRecord{{Number: 2}, {Number: 3}, {Number: 9}}}
	for _, set := range []uint64{0, 4} {
		row := appendBase(nil, key, &base, basePlace{isFirst: true, notes: 3}, set, 1, 2)
		f.Add(row[:len(row)-8], key)
	}
	f.Fuzz(func(t *testing.T, body, key []byte) {
		b, err := readBase(seal(bytes.Clone(body), key), key)
		if err != nil {
			return
		}
		if len(b.Data)+len(b.Details) > len(body) || len(b.remembered) > maxRemembered {
			t.Errorf("%d bytes of data, %d numbers from %d", len(b.Data), len(b.remembered), len(body))
		}
		for k, n := range b.remembered {
			if k > 0 && n <= b.remembered[k-1] {
				t.Errorf("the numbers are not ascending: %d", b.remembered)
				break
			}
		}
	})
}

func FuzzReadKeyed(f *testing.F) {
	key := appendKeyedKey(nil, 3, 10)
	row := appendKeyed(nil, key, keyRecord(10, 9))
	f.Add(row[:len(row)-8], key)
	f.Fuzz(func(t *testing.T, body, key []byte) {
		k, err := readKeyed(seal(bytes.Clone(body), key), key)
		if err != nil {
			return
		}
		again, err := readKeyed(appendKeyed(nil, key, &k), key)
		if err != nil || !reflect.DeepEqual(again, k) {
			t.Errorf("%+v reads again as %+v, %v", k, again, err)
		}
	})
}

func FuzzReadName(f *testing.F) {
	key := appendName(nil, "table")
	row := nameRow{5, 6}.append(nil, key)
	f.Add(row[:len(row)-8], key)
	f.Fuzz(func(t *testing.T, body, key []byte) {
		n, err := readName(seal(bytes.Clone(body), key), key)
		if err != nil {
			return
		}
		if again, err := readName(n.append(nil, key), key); err != nil || again != n {
			t.Errorf("%+v reads again as %+v, %v", n, again, err)
		}
	})
}

// Rows read as they were written.
func TestRows(t *testing.T) {
	key := appendGroupKey(nil, 3, 10, 2)
	keyed := actionRecord(11)
	keyed.Keyed = keyRecord(7, 11)
	group := []journal.Record{actionRecord(10), keyed, {Keyed: keyRecord(8, 11)}, {}, actionRecord(12),
		actionRecord(13)}
	group[0].Batch, group[1].Batch, group[4].Batch, group[5].Batch = 10, 10, 12, 12
	row, actions := appendGroup(nil, key, group, 5, 6)
	g, err := readGroup(row, key)
	want := []keyedPlace{{7, 11}, {8, 11}}
	batches := []journal.Batch{{First: 10, Last: 11}, {First: 12, Last: 13}}
	if err != nil || actions != 4 || g.actions != 4 || g.first != 10 || g.notes != 2 || g.last() != 13 || g.time != 5 ||
		!reflect.DeepEqual(g.keyed, want) || !reflect.DeepEqual(g.batches, batches) {
		t.Errorf("%+v, %v", g, err)
	}
	for n := range len(row) {
		if _, err := readGroup(row[:n], key); err == nil {
			t.Errorf("the first %d bytes read as a group", n)
		}
	}
	if _, err := readGroup(row, appendGroupKey(nil, 3, 11, 2)); err == nil {
		t.Error("the row of another group reads as this one")
	}
}

// Whatever a log or its note has in it, reading them ends, and no chunk is found behind the end.
func FuzzSynced(f *testing.F) {
	f.Add(appendSynced(nil, 7, 100), []byte("log"))
	f.Add([]byte{}, bytes.Repeat([]byte{0, 0, 0, 0, 1, 0, 1}, 10_000))
	f.Fuzz(func(t *testing.T, note, log []byte) {
		if number, offset, ok := readSynced(note); ok && !bytes.Equal(appendSynced(nil, number, offset), note) {
			t.Errorf("a note reads as %d and %d", number, offset)
		}
		to := int64(len(log)) + 10
		if at, err := firstInvalid(bytes.NewReader(log), 7, to); err != nil || at > to || at < 0 {
			t.Errorf("the first invalid byte of %d is %d, %v", len(log), at, err)
		}
	})
}
