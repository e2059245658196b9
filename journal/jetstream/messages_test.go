package jetstream

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/internal/cluster"
)

// A node answers what another one asks it over the servers, also with more than a message takes.
func TestNodesAskEachOther(t *testing.T) {
	a, b := twoStores(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node := nodeToken(idOf(b.s.o.Node))
	if _, err := a.s.Ask(ctx, node, []byte("x")); !errors.Is(err, ErrNobody) {
		t.Errorf("a node that does not listen: %v", err)
	}
	large := bytes.Repeat([]byte("0123456789"), 3*a.s.MostMessage()/10)
	a.must(b.s.Listen(ctx, func(_ context.Context, data []byte) []byte {
		switch string(data) {
		case "silence":
			return nil
		case "nothing":
			return []byte{}
		case "large":
			return large
		}
		return append([]byte("to "), data...)
	}))
	a.waitFor("the servers know that somebody listens", func() bool {
		_, err := a.s.Ask(ctx, node, nil)
		return !errors.Is(err, ErrNobody)
	})
	for question, want := range map[string][]byte{"a": []byte("to a"), "nothing": nil, "large": large, "": nil} {
		got, err := a.s.Ask(ctx, node, []byte(question))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes, %v; want %d", question, len(got), err, len(want))
		}
	}
	most := bytes.Repeat([]byte("x"), a.s.MostMessage())
	if got, err := a.s.Ask(ctx, node, most); err != nil || len(got) != 3+len(most) {
		t.Errorf("the largest question: %d bytes, %v", len(got), err)
	}
	ended, end := context.WithCancel(ctx)
	end()
	_, err := a.s.Ask(ended, node, []byte("silence"))
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrNobody) {
		t.Errorf("an answer that does not come: %v", err)
	}
	a.must(b.s.Close())
	a.waitFor("nobody listens", func() bool {
		// A question that comes while the other connection is being closed has no answer.
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := a.s.Ask(bounded, node, []byte("x"))
		return errors.Is(err, ErrNobody)
	})
}

// A part of an answer that is lost is not taken for the whole.
func TestAPartOfAnAnswerIsLost(t *testing.T) {
	a, b := twoStores(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	token := nodeToken(cluster.NodeID(5))
	_, err := b.s.conn.nc.Subscribe(b.s.layout.nodeSubject(token), func(m *nats.Msg) {
		for _, part := range []string{"0", "2"} {
			answer := nats.NewMsg(m.Reply)
			answer.Header.Set(headerPart, part)
			answer.Header.Set(headerMore, "1")
			_ = b.s.conn.nc.PublishMsg(answer)
		}
	})
	a.must(err)
	a.must(b.s.conn.nc.Flush())
	var answer []byte
	a.waitFor("the servers know that somebody listens", func() bool {
		answer, err = a.s.Ask(ctx, token, []byte("x"))
		return !errors.Is(err, ErrNobody)
	})
	if err == nil || ctx.Err() != nil {
		t.Errorf("%q, %v", answer, err)
	}
}

// A node that may not listen says so.
func TestAForbiddenListen(t *testing.T) {
	o := shared(t).options(newName())
	openStore(t, o)
	t.Parallel() // it waits for an answer that the servers forbid
	s := openStore(t, o)
	o.Connect = []nats.Option{nats.UserInfo("reader", "reader")}
	nc, err := connect(t.Context(), &o, o.Connect, s.handlers()...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, err := newConn(nc)
	if err != nil {
		t.Fatal(err)
	}
	forbidden := &Store{o: s.o, layout: s.layout, conn: c}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := forbidden.Listen(ctx, nil); err == nil {
		t.Error("it listens")
	}
}
