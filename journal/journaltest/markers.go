package journaltest

import (
	"bytes"
	"errors"
	"fmt"

	"hypertoken/journal"
)

// marker returns a base that takes a sequence.
func marker(sequence uint64) journal.Base {
	base := snapshot(sequence)
	base.IsMarker, base.Details = true, fmt.Append(nil, "marker", sequence)
	return base
}

func details(c *client) {
	base := setup("a")
	base.Details = []byte("of a setup")
	m := c.create(name, first, base)
	c.expect("a new journal", name, first, m)
	c.must("Append", c.append(name, first, 0, actions(1, 5)...))
	m.append(actions(1, 5)...)
	c.expect("a new journal with entries", name, first, m)
	for k, d := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte{0, 0xff}, journal.MaxDetails/2), {}, []byte("b")} {
		base := snapshot(uint64(k))
		base.Details = d
		c.must("Install of a base with details", c.install(name, first, base))
		m.install(base)
		c.expect(fmt.Sprintf("a base with %d bytes of details", len(d)), name, second, m)
		c.expect("loaded again", name, first, m)
	}
}

// beginnings creates journals with bases of any sequence, and key records that were never appended.
func beginnings(c *client) {
	for k, sequence := range []uint64{0, 1, 7, 1 << 40} {
		for _, isMarker := range []bool{false, true} {
			n := fmt.Sprint(name, k, isMarker)
			base := snapshot(sequence)
			if isMarker {
				base = marker(sequence)
			}
			base.Keys, base.KeyNumber = []journal.KeyRecord{*keyRecord(2, sequence), *keyRecord(9, sequence)}, 11
			m := c.create(n, first, base)
			c.mustNotOwn("an Install of a known name by another one", c.install(n, second, base))
			c.expect("a new journal", n, first, m)
			group := []journal.Record{keyed(journal.Record{}, 12, sequence), keyed(action(1), 13, sequence+1)}
			c.must("Append behind the first base", c.append(n, first, sequence, group...))
			m.append(group...)
			c.expect("a new journal with a note and an entry", n, second, m)
		}
	}
}

func markers(c *client) {
	m := c.create(name, first, setup("a"))
	install := func(what string, base journal.Base) {
		c.t.Helper()
		c.must(what, c.install(name, first, base))
		m.install(base)
		c.expect(what, name, first, m)
	}
	add := func(what string, group ...journal.Record) {
		c.t.Helper()
		c.must(what, c.append(name, first, m.newest(), group...))
		m.append(group...)
		c.expect(what, name, first, m)
	}
	add("entries, a key and a note", action(1), keyed(action(2), 1, 2), keyed(journal.Record{}, 2, 2))
	forgetful := marker(3) // it has a key of its own, and has forgotten one
	forgetful.Keys, forgetful.KeyNumber = []journal.KeyRecord{*keyRecord(2, 2), *keyRecord(3, 3)}, 3
	install("a marker behind entries", forgetful)
	c.mustFail("an append in the place of a marker", c.append(name, first, 2, action(3)))
	c.mustNotOwn("a marker of somebody else", c.install(name, third, marker(4)))
	behind := marker(4)
	behind.KeyNumber = 3
	install("a marker behind a marker", behind)
	add("a note behind a marker", keyed(journal.Record{}, 4, 4))
	older := marker(5)
	older.KeyNumber = 3 // the note is not in the marker
	install("a marker behind a note", older)
	add("entries behind a marker", actions(6, 3)...)
	base := snapshot(7)
	base.KeyNumber = 4
	install("a base between a marker and the newest entry", base)
	last := marker(9)
	last.KeyNumber = 4
	install("a marker behind a base and an entry", last)
	large := marker(10)
	large.KeyNumber, large.Data = 4, bytes.Repeat([]byte("0123456789abcdef"), 1<<20/16)
	install("a large marker", large)
	add("an entry behind a large marker", action(11))
}

func markersElsewhere(c *client) {
	m := c.create(name, first, snapshot(10))
	group := []journal.Record{action(1), keyed(action(2), 1, 12)}
	c.must("Append", c.append(name, first, 10, group...))
	m.append(group...)
	refuse := func(base journal.Base) {
		c.t.Helper()
		err := c.install(name, first, base)
		if !errors.Is(err, journal.ErrRefused) || errors.Is(err, journal.ErrNotOwner) {
			c.problem("%s; there are %d to %d: %v, want journal.ErrRefused", describe(&base), m.base.Sequence,
				m.newest(), err)
		}
		c.expect("after a base that was refused", name, first, m)
	}
	for _, sequence := range []uint64{0, 9, 10, 11, 12, 14, 1 << 62} {
		refuse(marker(sequence))
	}
	c.must("Install of a marker", c.install(name, first, marker(13)))
	m.install(marker(13))
	refuse(snapshot(12))
	refuse(snapshot(13)) // it would take the marker away
	refuse(snapshot(14))
	refuse(marker(12))
	refuse(marker(15))
	c.must("Append", c.append(name, first, 13, action(3)))
	m.append(action(3))
	refuse(marker(14))
	c.expect("in the end", name, first, m)
}

func replacedMarkers(c *client) {
	m := c.create(name, first, marker(0))
	for k := range 2 {
		sequence := m.newest()
		full := marker(sequence)
		full.KeyNumber = uint64(10*k + 5)
		full.Keys = []journal.KeyRecord{*keyRecord(full.KeyNumber-2, sequence), *keyRecord(full.KeyNumber, sequence)}
		for _, kept := range []int{2, 1, 0} {
			less := full
			less.Keys, less.Data = full.Keys[2-kept:], fmt.Append(nil, "kept", kept)
			c.must("Install of a marker in the place of a marker", c.install(name, first, less))
			m.install(less)
			c.expect(fmt.Sprintf("a marker with %d keys", kept), name, first, m)
			group := []journal.Record{keyed(journal.Record{}, full.KeyNumber+uint64(3-kept), m.newest()), action(kept)}
			c.must("Append", c.append(name, first, m.newest(), group...))
			m.append(group...)
			c.expect("with a note and an entry", name, first, m)
		}
		next := marker(m.newest() + 1)
		next.KeyNumber = full.KeyNumber + 3
		c.must("Install of a marker", c.install(name, first, next))
		m.install(next)
	}
}
