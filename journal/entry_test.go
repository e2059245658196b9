package journal_test

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"hypertoken/journal"
)

// The bytes of actions and entries are a format that stores keep and that workers of any language
// read: they stay.
func TestTheEncodingOfEntries(t *testing.T) {
	entropy := [journal.EntropySize]byte{1, 15: 0xff}
	for _, c := range []struct {
		name     string
		action   journal.Action
		checksum uint64
		want     string
	}{
		{"plain", journal.Action{Now: 1, Entropy: entropy, Type: []byte("a:b"), Payload: []byte{0xc0}}, 5,
			"92 94 01 c410 010000000000000000000000000000ff a3613a62 c401c0 05"},
		{"before 1970, no payload, a large checksum",
			journal.Action{Now: -2, Entropy: entropy, Type: []byte("a"), Payload: []byte{}}, 1 << 63,
			"92 94 d3fffffffffffffffe c410 010000000000000000000000000000ff a161 c400 cf8000000000000000"},
		{"conditional", journal.Action{Now: 1 << 40, Entropy: entropy, Type: []byte("a"), Payload: []byte{1},
			Conditional: true, IfSequence: 300}, 128,
			"92 95 cf0000010000000000 c410 010000000000000000000000000000ff a161 c40101 cd012c cc80"},
	} {
		action := journal.AppendAction([]byte("x"), &c.action, string(c.action.Type), c.action.Payload)[1:]
		entry := journal.AppendEntry([]byte("y"), action, c.checksum)[1:]
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil || !bytes.Equal(entry, want) {
			t.Errorf("%s: %x, want %x, %v", c.name, entry, want, err)
		}
		a, rest, err := journal.ReadAction(append(action, 7))
		if err != nil || len(rest) != 1 || !reflect.DeepEqual(a, c.action) {
			t.Errorf("%s: the action reads as %+v, %d bytes follow, %v", c.name, a, len(rest), err)
		}
		e, rest, err := journal.ReadEntry(append(entry, 7))
		if err != nil || len(rest) != 1 || e.Checksum != c.checksum || !reflect.DeepEqual(e.Action, c.action) {
			t.Errorf("%s: the entry reads as %+v, %d bytes follow, %v", c.name, e, len(rest), err)
		}
		for n := range entry {
			if _, _, err := journal.ReadEntry(entry[:n]); err == nil {
				t.Errorf("%s: the first %d bytes read as an entry", c.name, n)
			}
		}
	}
}

func TestDamagedEntries(t *testing.T) {
	one := journal.AppendEntry(nil, journal.AppendAction(nil, &journal.Action{}, "a", nil), 1)
	short := journal.AppendAction(nil, &journal.Action{}, "a", nil)
	short[2] = 15 // bytes of entropy
	for name, c := range map[string]struct {
		entries []byte
		count   uint64
		says    string
	}{
		"as many as counted": {append(bytes.Clone(one), one...), 2, ""},
		"none":               {nil, 0, ""},
		"one too few":        {one, 2, "1 entries, and says that they are 2"},
		"one too many":       {append(bytes.Clone(one), one...), 1, "2 entries, and says that they are 1"},
		"cut off":            {append(bytes.Clone(one), one[:5]...), 2, "entry 1 can't be read"},
		"no entry":           {[]byte{0xc0}, 1, "entry 0 can't be read: want an array"},
		"too little entropy": {journal.AppendEntry(nil, short, 1), 1, "entry 0 can't be read"},
		"an action too short": {journal.AppendEntry(nil, []byte{0x93, 1, 2, 3}, 1), 1,
			"an array of 3 items, want 4 to 5"},
	} {
		s := journal.Stored{Entries: c.entries, Count: c.count}
		err := s.CheckEntries()
		if (c.says == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// What a store builds entries with and a host reports calls with costs no allocation.
func TestNothingIsAllocated(t *testing.T) {
	action := journal.AppendAction(nil, &journal.Action{Now: 5}, "stack:draw", []byte{0xc0})
	b := make([]byte, 0, 1024)
	a := &appends{}
	if n := testing.AllocsPerRun(100, func() {
		entry := journal.AppendEntry(b, action, 1)
		if _, _, err := journal.ReadEntry(entry); err != nil {
			t.Error(err)
		}
		journal.DoneFor(a, 1).Report(nil)
		journal.Done{}.Report(nil)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTheNewestKeyNumber(t *testing.T) {
	recent := []journal.KeyRecord{{Number: 4}, {Number: 6}}
	for want, s := range map[uint64]journal.Stored{
		0: {}, 3: {Base: journal.Base{KeyNumber: 3}}, 6: {Base: journal.Base{KeyNumber: 3}, Recent: recent},
	} {
		if n := s.NewestKeyNumber(); n != want {
			t.Errorf("%d, want %d", n, want)
		}
	}
}

func FuzzReadEntry(f *testing.F) {
	f.Add(journal.AppendEntry(nil, journal.AppendAction(nil, &journal.Action{Conditional: true}, "t", []byte{1}), 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := journal.ReadEntry(b)
		if err != nil {
			return
		}
		if len(rest) >= len(b) {
			t.Fatalf("an entry of %d bytes", len(b)-len(rest))
		}
		again := journal.AppendEntry(nil, journal.AppendAction(nil, &e.Action, string(e.Type), e.Payload), e.Checksum)
		if e2, rest, err := journal.ReadEntry(again); err != nil || len(rest) > 0 || !reflect.DeepEqual(e2, e) {
			t.Errorf("%+v reads again as %+v, %v", e, e2, err)
		}
	})
}
