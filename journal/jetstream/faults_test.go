package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// faults decides what happens to the messages that end a batch.
type faults struct {
	s *Store
	// mu guards what follows.
	mu sync.Mutex
	// next are the faults of the next such messages.
	next []fault
	held []*nats.Msg
	// seen counts batches.
	seen    int
	arrived sync.Cond // of mu
}

// fault sends a message, or does something else to it.
type fault func(f *faults, m *nats.Msg) error

// The faults.
func lostOnTheWay(*faults, *nats.Msg) error { return nil }
func answerIsLost(f *faults, m *nats.Msg) error {
	other := *m
	other.Reply = f.s.conn.nc.NewInbox()
	return f.s.conn.nc.PublishMsg(&other)
}

// holdBack keeps the message, to be sent late.
func holdBack(f *faults, m *nats.Msg) error {
	other := *m
	other.Header = nats.Header{}
	for k, v := range m.Header {
		other.Header[k] = v
	}
	f.held = append(f.held, &other)
	return nil
}
func notConnected(*faults, *nats.Msg) error { return nats.ErrReconnectBufExceeded }

// answered answers an error in the place of the server, which never sees the message.
func answered(code, errCode int) fault {
	return func(f *faults, m *nats.Msg) error {
		data, err := json.Marshal(map[string]any{"error": apiError{code, errCode, "a fault of the test"}})
		if err != nil {
			return err
		}
		go f.s.conn.take(&nats.Msg{Subject: m.Reply, Data: data})
		return nil
	}
}

func noResponders(f *faults, m *nats.Msg) error {
	go f.s.conn.take(&nats.Msg{Subject: m.Reply, Header: nats.Header{"Status": {"503"}}})
	return nil
}

// inject has a store's batches meet faults.
func inject(s *Store) *faults {
	f := &faults{s: s}
	f.arrived.L = &f.mu
	seam := f.publish
	s.conn.seam.Store(&seam)
	return f
}

func (f *faults) publish(m *nats.Msg) error {
	isEnd := m.Reply != "" && (m.Header.Get(headerExpectedSubject) != "" || m.Header.Get(headerBatchCommit) != "")
	if !isEnd {
		return f.s.conn.nc.PublishMsg(m)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	f.arrived.Broadcast()
	if len(f.next) == 0 {
		return f.s.conn.nc.PublishMsg(m)
	}
	next := f.next[0]
	f.next = f.next[1:]
	return next(f, m)
}

func (f *faults) add(next ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = append(f.next, next...)
}

// waitFor waits until the store has sent so many batches.
func (f *faults) waitFor(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.seen < n {
		f.arrived.Wait()
	}
}

// release sends what was held back.
func (f *faults) release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.held {
		m.Reply = ""
		if err := f.s.conn.nc.PublishMsg(m); err != nil {
			return err
		}
	}
	f.held = nil
	return f.s.conn.nc.Flush()
}

func quickStore(t testing.TB) (*Store, *faults) {
	o := shared(t).options(newName())
	o.AnswerTimeout, o.Patience = 150*time.Millisecond, 30*time.Second
	s := openStore(t, o)
	return s, inject(s)
}

// Whatever happens to a batch on its way, what it has is stored once, and its calls succeed. These are
// the answers that the notes on a cluster list, and the silences.
func TestFaultsOnTheWay(t *testing.T) {
	shared(t)
	for name, faults := range map[string][]fault{
		"the batch is lost":                {lostOnTheWay},
		"the batch is lost twice":          {lostOnTheWay, lostOnTheWay},
		"the answer is lost":               {answerIsLost},
		"lost, then the answer":            {lostOnTheWay, answerIsLost},
		"the batch comes late":             {holdBack},
		"not connected":                    {notConnected},
		"no responders":                    {noResponders, noResponders},
		"it says that the fence has moved": {answered(400, codeWrongSequence)},
		"still in process":                 {answered(400, codeStillInProcess), answered(400, codeStillInProcess)},
		"too many requests":                {answered(429, codeTooManyRequests)},
		"too many batches":                 {answered(429, codeTooManyBatches)},
		"incomplete":                       {answered(400, codeIncompleteBatch)},
		"no leader":                        {answered(503, codeNotAvailable), answered(500, codeNotLeader)},
		"an error that tells nothing":      {answered(500, 19999)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is that in which an answer does not come
			s, f := quickStore(t)
			c, owner := client{t, s}, ownerOf(1, 1)
			f.add(faults...)
			c.must(c.install("a", owner, setup()))
			f.add(faults...)
			c.must(c.append("a", owner, 0, action(1), action(2)))
			f.add(faults...)
			c.must(c.install("a", owner, journal.Base{Sequence: 1, Snapshot: true, Data: []byte("1"), Core: "core"}))
			f.add(faults...)
			c.must(c.append("a", owner, 2, action(3)))
			c.must(f.release())
			f.add(faults...)
			stored := c.expect("a", owner, 2, 3)
			if stored.Owner != owner || stored.Sequence != 1 {
				t.Errorf("owner %v, base %d", stored.Owner, stored.Sequence)
			}
			f.add(faults...)
			c.must(c.install("a", owner, marker(4)))
			f.add(faults...)
			c.must(c.append("a", owner, 4, action(5)))
			c.must(f.release())
			if stored = c.expect("a", owner, 5); !stored.IsMarker || stored.Sequence != 4 {
				t.Errorf("the base has the sequence %d, marker %t", stored.Sequence, stored.IsMarker)
			}
			checkChain(t, s, "a")
			f.add(faults...)
			c.must(c.barrier("a", owner))
			f.add(faults...)
			c.must(c.delete("a"))
			c.must(f.release())
			f.add(faults...)
			if stored, err := c.load("a", owner); stored != nil || err != nil {
				t.Errorf("after the deletion: %v, %v", stored, err)
			}
			c.must(c.install("a", owner, setup()))
			c.must(c.append("a", owner, 0, action(9)))
			c.must(f.release())
			c.expect("a", owner, 9)
			checkChain(t, s, "a")
		})
	}
}

// checkChain reads an engine's subject and the slot's tail as they are, and sees that each record is
// there once, and that the tail has what follows the subject.
func checkChain(t *testing.T, s *Store, name string) {
	t.Helper()
	token, err := token(name)
	if err != nil {
		t.Fatal(err)
	}
	slot := SlotOf(name)
	st := s.streams[s.layout.streamOf(slot)]
	mark, err := s.mark(t.Context(), s.layout.readSubject(st.number))
	if err != nil {
		t.Fatal(err)
	}
	tail, seen, err := st.readTail(t.Context(), slot, s.layout.readSubject(st.number), mark)
	if err != nil {
		t.Fatal(err)
	}
	subject := s.layout.engineSubject(slot, token)
	var all []record
	err = s.try(t.Context(), func(ctx context.Context) error {
		if _, _, err := st.lastOf(ctx, subject, s.layout.readSubject(st.number), seen); err != nil {
			return err
		}
		list, _, err := s.conn.read(ctx, st.name, query{Next: subject, Seq: 1, Batch: queryBatch}, time.Second)
		all = nil
		for k := range list {
			records, err := readMessage(&list[k])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, records...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range tail.recordsOf(token) {
		r, err := readRecord(b.data, subject, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(all); n == 0 || r.incarnation != all[n-1].incarnation || r.ordinal > all[n-1].ordinal {
			all = append(all, r) // the others were settled since the tail was read
		}
	}
	ids := map[recordID]bool{}
	for k := range all {
		r := &all[k]
		if ids[r.id] || k > 0 && r.ordinal != all[k-1].ordinal+1 {
			t.Errorf("%s: the record %d at %d follows the record %d; it is there twice: %t", name, r.ordinal, r.at,
				all[max(k-1, 0)].ordinal, ids[r.id])
		}
		ids[r.id] = true
	}
}

// A batch of several engines and slots meets the same faults. JetStream takes 1,000 messages a batch,
// so 1,500 appends go in several; creations and deletions are rollups within batches.
func TestFaultsOfFullBatches(t *testing.T) {
	shared(t)
	for name, faults := range map[string][]fault{
		"none":                {},
		"the batch is lost":   {lostOnTheWay, lostOnTheWay},
		"the answer is lost":  {answerIsLost, answerIsLost},
		"the batch is late":   {holdBack, holdBack},
		"the fence has moved": {answered(400, codeWrongSequence)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := quickStore(t)
			c, owner := client{t, s}, ownerOf(1, 1)
			names := append(namesIn(24, false), namesIn(8, true)...)
			for k := range 50 {
				names = append(names, fmt.Sprint("more", k))
			}
			all := func(what string, call func(name string) error) {
				t.Helper()
				ended := make(chan error, len(names))
				for _, name := range names {
					go func() { ended <- call(name) }()
				}
				for range names {
					if err := <-ended; err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				}
			}
			names = unique(names)
			f.add(faults...)
			all("create", func(name string) error { return c.install(name, owner, setup()) })
			f.add(faults...)
			for n := range 5 {
				all("append", func(name string) error { return c.append(name, owner, uint64(n), action(n)) })
			}
			c.must(f.release())
			f.add(faults...)
			all("load", func(name string) error {
				stored, err := c.load(name, owner)
				if err == nil && (stored == nil || stored.Count != 5) {
					err = fmt.Errorf("%q: %+v", name, stored)
				}
				return err
			})
			f.add(faults...)
			all("delete", func(name string) error { return c.delete(name) })
			all("load", func(name string) error {
				stored, err := c.load(name, owner)
				if err == nil && stored != nil {
					err = errors.New("a deleted engine is there")
				}
				return err
			})
			t.Logf("%+v", s.Stats())
		})
	}
}

func unique(names []string) (list []string) {
	seen := map[string]bool{}
	for _, name := range names {
		if !seen[name] {
			list = append(list, name)
		}
		seen[name] = true
	}
	return list
}

// A server that has no room refuses, and the engine stays as it was.
func TestNoRoom(t *testing.T) {
	s, f := quickStore(t)
	c, owner := client{t, s}, ownerOf(1, 1)
	c.must(c.install("a", owner, setup()))
	f.add(answered(500, codeNoStorage))
	wantError(t, "an append without room", c.append("a", owner, 0, action(1)), journal.ErrFull)
	wantError(t, "the health without room", s.Health(), journal.ErrFull)
	c.must(c.append("a", owner, 0, action(2)))
	c.must(s.Health())
	c.expect("a", owner, 2)
}

// If no server answers for longer than the store's patience, a call that was not sent ends, and had no
// effect. One that may be stored does not end.
func TestPatience(t *testing.T) {
	o := shared(t).options(newName())
	o.AnswerTimeout, o.Patience = 300*time.Millisecond, 300*time.Millisecond
	s := openStore(t, o)
	c, owner := client{t, s}, ownerOf(1, 1)
	c.must(c.install("a", owner, setup()))
	var isDown sync.Mutex // held while all messages are refused
	down := false
	seam := func(m *nats.Msg) error {
		isDown.Lock()
		defer isDown.Unlock()
		if down {
			return nats.ErrConnectionClosed
		}
		return s.conn.nc.PublishMsg(m)
	}
	s.conn.seam.Store(&seam)
	set := func(v bool) {
		isDown.Lock()
		down = v
		isDown.Unlock()
	}
	set(true)
	wantError(t, "an append", c.append("a", owner, 0, action(1)), journal.ErrUnavailable)
	_, err := c.load("a", owner)
	wantError(t, "a load", err, journal.ErrUnavailable)
	other := namesIn(2, false)[1]
	wantError(t, "a creation", c.install(other, owner, setup()), journal.ErrUnavailable)
	set(false)
	stored, err := c.load("a", ownerOf(1, 2))
	if err != nil || stored == nil || stored.Count != 0 {
		t.Fatalf("%+v, %v", stored, err)
	}
	c.must(c.append("a", ownerOf(1, 2), 0, action(2)))
	c.must(c.install(other, owner, setup()))
}

// A replica that is behind is asked again. Its answer would report less than is stored.
func TestStaleReplica(t *testing.T) {
	s, _ := quickStore(t)
	c, owner := client{t, s}, ownerOf(1, 1)
	c.must(c.install("a", owner, setup()))
	c.must(c.append("a", owner, 0, action(1)))
	// An answer as it is now, and an answer without the newest records.
	slot := SlotOf("a")
	st := s.streams[s.layout.streamOf(slot)]
	subject := s.layout.engineSubject(slot, "a")
	old := record2(t, s, st.name, query{Last: []string{subject, s.layout.ownerSubject(slot)}})
	oldRead := record2(t, s, st.name, query{Last: []string{subject, s.layout.readSubject(st.number)}})
	c.must(c.append("a", owner, 1, action(2)))
	c.must(c.append("a", owner, 2, action(3)))
	var mu sync.Mutex // guards stale
	stale := 0
	seam := func(m *nats.Msg) error {
		mu.Lock()
		isStale := stale > 0 && strings.HasPrefix(m.Subject, "$JS.API.DIRECT.GET.") &&
			strings.Contains(string(m.Data), "multi_last")
		if isStale {
			stale--
		}
		mu.Unlock()
		if !isStale {
			return s.conn.nc.PublishMsg(m)
		}
		answers := old
		if strings.Contains(string(m.Data), s.layout.readSubject(st.number)) {
			answers = oldRead
		}
		for _, a := range answers {
			s.conn.take(&nats.Msg{Subject: m.Reply, Header: a.Header, Data: a.Data})
		}
		return nil
	}
	s.conn.seam.Store(&seam)
	set := func(n int) {
		mu.Lock()
		stale = n
		mu.Unlock()
	}
	set(3)
	c.expect("a", owner, 1, 2, 3)
	set(3)
	ended := make(chan *journal.Stored, 1)
	s.LoadAt("a", 3, func(stored *journal.Stored, err error) {
		if err != nil {
			t.Error(err)
		}
		ended <- stored
	})
	if stored := <-ended; stored == nil || stored.Count != 3 {
		t.Fatalf("LoadAt: %+v", stored)
	}
	if n := s.Stats().StaleReads; n != 6 {
		t.Errorf("%d stale answers, want 6", n)
	}
	c.must(c.append("a", owner, 3, action(4)))
	c.expect("a", owner, 1, 2, 3, 4)
}

// record2 returns the raw answers to a query.
func record2(t *testing.T, s *Store, stream string, q query) (answers []*nats.Msg) {
	t.Helper()
	data, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	inbox := s.conn.nc.NewInbox()
	sub, err := s.conn.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.conn.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, data); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if answers = append(answers, m); m.Header.Get("Status") != "" {
			return answers
		}
	}
}
