package jetstream

import (
	"testing"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// Bytes that are not those that were written are found, and break one engine alone. It is still listed,
// and can be deleted.
func TestDamage(t *testing.T) {
	for what, change := range map[string]func(r *record, b []byte) []byte{
		"a flipped bit":         func(_ *record, b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"a record that ends":    func(_ *record, b []byte) []byte { return b[:len(b)-1] },
		"nothing":               func(*record, []byte) []byte { return nil },
		"a record of elsewhere": func(r *record, _ []byte) []byte { return r.appendTo(nil, "elsewhere") },
		"a group that is missing": func(r *record, _ []byte) []byte {
			r.ordinal, r.sequence = r.ordinal+1, r.sequence+1
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := openStore(t, settlingAtOnce(shared(t).options(newName())))
			c, owner := client{t, s}, ownerOf(1, 1)
			names := namesIn(2, true)
			for _, name := range names {
				c.must(c.install(name, owner, setup()))
				c.must(c.append(name, owner, 0, action(1)))
				c.waitUntilSettled(name)
			}
			slot := SlotOf(names[0])
			subject := s.layout.engineSubject(slot, names[0])
			q := query{Next: subject, Seq: 1, Batch: 10}
			list, _, err := s.conn.read(t.Context(), s.streams[0].name, q, readSilence)
			c.must(err)
			r, err := readRecord(list[1].data, subject, list[1].at)
			c.must(err)
			r.previous, r.ordinal, r.sequence = r.at, r.ordinal+1, 1
			b := change(&r, r.appendTo(nil, subject))
			if what == "a group that is missing" {
				b = r.appendTo(nil, subject)
			}
			_, err = s.conn.write(t.Context(), &nats.Msg{Subject: subject, Data: b}, DefaultPatience)
			c.must(err)
			_, err = c.load(names[0], ownerOf(1, 2))
			wantError(t, "a load", err, journal.ErrDamaged)
			c.expect(names[1], ownerOf(1, 2), 1)
			ended := make(chan []journal.Info, 1)
			s.List("", "", 10, func(page []journal.Info, err error) {
				c.must(err)
				ended <- page
			})
			if page := <-ended; len(page) != 2 {
				t.Errorf("the list %v", page)
			}
			c.must(c.delete(names[0]))
			c.must(c.install(names[0], owner, setup()))
			c.must(c.append(names[0], owner, 0, action(5)))
			c.expect(names[0], owner, 5)
		})
	}
}

func FuzzReadRecord(f *testing.F) {
	key := journal.KeyRecord{Key: "k", Number: 1}
	batched := action(2)
	batched.Batch = 9
	group, actions := appendGroupBody(nil, []journal.Record{action(1), {Keyed: &key}, batched, action(3)})
	base := appendBaseBody(nil, &journal.Base{Data: []byte("data"), Core: "00ff", Keys: []journal.KeyRecord{key},
		Details: []byte("details")})
	for _, r := range []record{
		{kind: kindGroup, body: group, actions: actions, previous: 3, base: 1, sequence: 7},
		{kind: kindBase, body: base, start: 5, baseSequence: 4},
		{kind: kindMarker, body: base, baseSequence: 8, sequence: 7, actions: 1},
		{kind: kindTombstone},
		{kind: kindBase, pieces: pieces{1, 2, 3, 4, 5}},
	} {
		f.Add(r.appendTo(nil, "s"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// With a right checksum, so that the decoder is reached.
		if r, err := readRecord(resum(b), "s", 1); err == nil {
			again, err := readRecord(r.appendTo(nil, "s"), "s", 1)
			if err != nil || again.kind != r.kind || again.newest() != r.newest() || again.pieces != r.pieces {
				t.Fatalf("%+v, written and read again: %+v, %v", r, again, err)
			}
			_, _ = readGroupBody(r.body)
			_, _ = readBaseBody(r.body)
		}
		_, _ = readRecord(b, "s", 1)
	})
}

// resum corrects the checksum of a record.
func resum(b []byte) []byte {
	if len(b) < 8 {
		return b
	}
	b = append([]byte(nil), b[:len(b)-8]...)
	sum := sumOf(b, "s")
	for k := range 8 {
		b = append(b, byte(sum>>(8*k)))
	}
	return b
}

func TestTokens(t *testing.T) {
	for _, name := range []string{"a", "a.b", "\x00\xff", "%", "%41", "*", ">", " ", "é", "A_b-9", "/"} {
		token, err := token(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := nameOf(token)
		if err != nil || got != name {
			t.Errorf("%q becomes %q and then %q, %v", name, token, got, err)
		}
	}
	for _, bad := range []string{"%", "%4", "%zz"} {
		if name, err := nameOf(bad); err == nil {
			t.Errorf("the token %q is the name %q", bad, name)
		}
	}
}
