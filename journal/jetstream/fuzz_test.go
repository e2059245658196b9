package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// Whatever a server or a stream has: what this store parses of it is refused, or is what it would write.
// FuzzReadRecord and FuzzReadBundle do the same for journals.

func FuzzOwnerRecord(f *testing.F) {
	f.Add(OwnerRecord{Node: "a", Address: "here:1", Epoch: 3, Nonce: "00ff"}.encode(), uint64(7))
	f.Add([]byte(`{"epoch":-1}`), uint64(0))
	f.Add([]byte(`null`), uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, fence uint64) {
		r, err := parseOwner(b, fence)
		if err != nil {
			return
		}
		if again, err := parseOwner(r.encode(), fence); err != nil || again != r || r.Fence != fence {
			t.Fatalf("%+v, written and read again: %+v, %v", r, again, err)
		}
	})
}

func FuzzMemberRecord(f *testing.F) {
	f.Add("x.m.00000000000000ff", []byte(`{"address":"a","renewal":1,"format":1,"cores":["b"]}`))
	f.Add("x.m.zz", []byte(`{}`))
	f.Add("x", []byte(`{"dead":5}`))
	f.Add("x.m.0000000000000001", []byte(`{"dead":true,"draining":true}`))
	m := NewMembers(MemberOptions{})
	m.store = &Store{layout: layout{prefix: "x", streams: 1}}
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		r, err := m.parse(message{subject: subject, data: data})
		if err != nil {
			return
		}
		text, err := json.Marshal(textOf(&r))
		if err != nil {
			t.Fatal(err)
		}
		again, err := m.parse(message{subject: m.store.layout.memberSubject(nodeToken(r.Node)), data: text})
		isEqual := slices.Equal(again.Cores, r.Cores)
		again.Cores = r.Cores
		if err != nil || !isEqual || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v, written and read again: %+v, %v", r, again, err)
		}
	})
}

func FuzzCoreRow(f *testing.F) {
	f.Add([]byte(`{"nonce":"00ff","count":1,"size":5,"sum":"7"}`))
	f.Add([]byte(`{"nonce":"00","count":68719476736,"size":68719476736,"sum":"7"}`))
	f.Add([]byte(`{"nonce":"*","count":0,"size":0,"sum":"7"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		nonce, p, err := parseCoreRow(b)
		switch {
		case err != nil && !errors.Is(err, journal.ErrDamaged):
			t.Fatalf("%q: %v", b, err)
		case err == nil && (strings.ContainsAny(nonce, ".*> ") || p.count > maxPieces/leastPiece+1):
			t.Fatalf("%q: the nonce %q, %+v", b, nonce, p)
		}
	})
}

// A damaged number of pieces is refused before anything is allocated for them.
func TestPiecesThatCannotBe(t *testing.T) {
	for _, row := range []struct {
		p      pieces
		isGood bool
	}{
		{pieces{}, true},
		{pieces{count: 1, size: 1}, true},
		{pieces{count: fewPieces, size: 1}, true},
		{pieces{count: fewPieces + 1, size: 1}, false},
		{pieces{count: fewPieces + 1, size: fewPieces * leastPiece}, true},
		{pieces{count: fewPieces + 2, size: fewPieces * leastPiece}, false},
		{pieces{count: 1, size: maxPieces}, true},
		{pieces{count: 1, size: maxPieces + 1}, false},
		{pieces{count: 1 << 35, size: maxPieces}, false},
	} {
		if err := row.p.check(); errors.Is(err, journal.ErrDamaged) == row.isGood || (err == nil) != row.isGood {
			t.Errorf("%+v: %v", row.p, err)
		}
	}
}

// A write is stored only if the answer gives its sequence.
func FuzzTarget(f *testing.F) {
	f.Add([]byte(`{"generation":1,"core":"` + strings.Repeat("0", 64) + `","in_force":true}`))
	f.Add([]byte(`{"generation":2,"core":"` + strings.Repeat("0", 64) + `","in_force":false,"former":"a"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		target, err := parseTarget(data)
		isTarget := target.Generation > 0 && checkHash(target.Core) == nil && checkHash(target.Present()) == nil
		if err == nil && !isTarget {
			t.Fatalf("%q is taken for the target %+v", data, target)
		}
	})
}

func FuzzReadAck(f *testing.F) {
	f.Add("", []byte(`{"stream":"s","seq":4,"count":2}`))
	f.Add("", []byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"}}`))
	f.Add("", []byte(`{"seq":0}`))
	f.Add("503", []byte(nil))
	f.Fuzz(func(t *testing.T, status string, data []byte) {
		m := &nats.Msg{Data: data}
		if status != "" {
			m.Header = nats.Header{"Status": {status}}
		}
		seq, err := readAck(m)
		if (err == nil) != (seq > 0) || (outcomeOf(err) == isStored) != (err == nil) {
			t.Fatalf("%q %q: the sequence %d, %v", status, data, seq, err)
		}
		if err == nil && status == "503" {
			t.Fatalf("%q: stored by nobody", data)
		}
	})
}

// answerWith has the requests of a connection without servers answered with these messages.
func answerWith(answers ...*nats.Msg) *conn {
	c := &conn{inbox: "inbox.", waiting: map[uint64]func(*nats.Msg) bool{}}
	seam := func(m *nats.Msg) error {
		for _, a := range answers {
			other := *a
			other.Subject = m.Reply
			c.take(&other)
		}
		return nil
	}
	c.seam.Store(&seam)
	return c
}

// What JetStream answers to a request of its API.
func FuzzAnswer(f *testing.F) {
	f.Add("", []byte(`{"message":{"subject":"s","seq":3,"data":"YQ=="}}`))
	f.Add("", []byte(`{"error":{"code":404,"err_code":10037}}`))
	f.Add("", []byte(`{"error":{}}`))
	f.Add("503", []byte(nil))
	f.Fuzz(func(t *testing.T, status string, data []byte) {
		c := answerWith(&nats.Msg{Header: nats.Header{"Status": {status}}, Data: data})
		m, err := c.lastAtLeader(context.Background(), "S", "s", time.Minute)
		if m != nil && err != nil {
			t.Fatalf("%q %q: %+v, %v", status, data, m, err)
		}
		if err := c.purge(context.Background(), "S", "s", 0, time.Minute); err == nil && status == "503" {
			t.Fatalf("%q: purged by nobody", data)
		}
	})
}

// What a replica answers to a read: messages, and then an end.
func FuzzRead(f *testing.F) {
	f.Add("", "5", "s", "204", "7", []byte("data"))
	f.Add("", "x", "", "404", "-1", []byte(nil))
	f.Add("408", "", "", "503", "", []byte(nil))
	f.Fuzz(func(t *testing.T, status, sequence, subject, end, upTo string, data []byte) {
		c := answerWith(
			&nats.Msg{Data: data, Header: nats.Header{"Status": {status}, "Nats-Sequence": {sequence},
				"Nats-Subject": {subject}}},
			&nats.Msg{Header: nats.Header{"Status": {end}, "Nats-UpTo-Sequence": {upTo}}},
			&nats.Msg{Header: nats.Header{"Status": {"204"}}})
		list, seen, err := c.read(context.Background(), "S", query{}, time.Minute)
		switch {
		case err != nil && (list != nil || seen != 0):
			t.Fatalf("%v, and %d messages, seen %d", err, len(list), seen)
		case err == nil && status == "" && (len(list) == 0 || list[0].subject != subject):
			t.Fatalf("%d messages, want that of %q", len(list), subject)
		}
		if len(c.waiting) > 0 {
			t.Fatal("the connection still waits for answers")
		}
	})
}

// A name comes back from its token. Other tokens are a name or are refused.
func FuzzToken(f *testing.F) {
	f.Add("a.b *>%")
	f.Add("%zz")
	f.Add(strings.Repeat("a", maxToken))
	f.Add(strings.Repeat("a", maxToken+1))
	f.Fuzz(func(t *testing.T, name string) {
		_, _ = nameOf(name)
		text, err := token(name)
		if err != nil {
			if name != "" && len(name) <= maxToken/3 {
				t.Fatalf("%q: %v", name, err)
			}
			return
		}
		if again, err := nameOf(text); err != nil || again != name || len(text) > maxToken ||
			strings.ContainsAny(text, ".*> \x00") {
			t.Fatalf("%q becomes %q and then %q, %v", name, text, again, err)
		}
	})
}

// A bundle's head comes back as it was written, or not at all, if one bit of the bundle is wrong. Another
// subject is found.
func FuzzBundle(f *testing.F) {
	f.Add(uint64(7), uint64(3), "dropped", "token", []byte("record"), uint(3))
	f.Add(uint64(0), uint64(0), "", "", []byte(nil), uint(1))
	f.Fuzz(func(t *testing.T, previous, settled uint64, drop, token string, data []byte, bit uint) {
		u := bundle{kind: kindTail, id: recordID{[8]byte{1}, previous}, previous: previous, settled: settled,
			drops: []string{drop}, records: []bundled{{token: token, data: data}, {token: token, data: data}}}
		b := u.appendTo(nil, "s")
		var second []byte // the second record, which has a checksum of its own
		isRead := func() bool {
			got, err := readBundle(b, kindTail, "s")
			if err != nil {
				return false
			}
			if got.id != u.id || got.previous != previous || got.settled != settled ||
				!slices.Equal(got.drops, u.drops) || len(got.records) != 2 || got.records[1].token != token {
				t.Fatalf("%+v, written and read again: %+v", u, got)
			}
			second = got.records[1].data
			return true
		}
		if !isRead() || !bytes.Equal(second, data) {
			t.Fatalf("%+v is read as %q, or not at all", u, second)
		}
		if _, err := readBundle(b, kindTail, "elsewhere"); err == nil {
			t.Fatalf("%+v is read under another subject", u)
		}
		bit %= uint(8 * len(b))
		b[bit/8] ^= 1 << (bit % 8)
		isRead()
	})
}
