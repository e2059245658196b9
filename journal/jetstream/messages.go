package jetstream

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Nodes of a cluster can ask each other over the servers, if they do not reach each other. Nothing of that is
// stored, and a message or an answer may be lost. The account of the nodes decides who may publish there.

// ErrNobody is returned by [Store.Ask] if nobody has got the message.
var ErrNobody = errors.New("jetstream: no node listens there")

// headerPart is the number of a part of an answer, from 0, and headerMore says that another one follows.
const (
	headerPart = "Hypertoken-Part"
	headerMore = "Hypertoken-More"
)

// nodeSubject takes what other nodes ask a node. No stream has it.
func (l layout) nodeSubject(token string) string { return l.prefix + ".n." + token }

// MostMessage returns how many bytes a message to another node may have.
func (s *Store) MostMessage() int { return int(s.conn.nc.MaxPayload()) - messageOverhead }

// Ask sends data to a node, as [Member] names it, and returns what its [Store.Listen] answers. It fails with
// [ErrNobody] if that node does not listen, and otherwise if ctx ends first: then the node may have got it.
func (s *Store) Ask(ctx context.Context, node string, data []byte) ([]byte, error) {
	var answer []byte // until the end is told, this belongs to the subscription's goroutine, as parts does
	parts := 0
	ended := make(chan error, 1)
	end := func(err error) bool {
		select {
		case ended <- err:
		default:
		}
		return true
	}
	id, reply := s.conn.expect(func(m *nats.Msg) bool {
		if m.Header.Get("Status") == "503" {
			return end(ErrNobody)
		}
		if m.Header.Get(headerPart) != strconv.Itoa(parts) {
			return end(errors.New("jetstream: a part of an answer is missing"))
		}
		parts++
		answer = append(answer, m.Data...)
		return m.Header.Get(headerMore) == "" && end(nil)
	})
	defer s.conn.forget(id)
	m := &nats.Msg{Subject: s.layout.nodeSubject(node), Data: data, Reply: reply}
	if err := s.conn.publish(m); err != nil {
		return nil, errors.Join(ErrNobody, err) // nothing was sent
	}
	select {
	case err := <-ended:
		if err != nil {
			return nil, err
		}
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// mostQuestions is how many questions of other nodes are answered at once. Others are not heard.
const mostQuestions = 256

// Listen has answer called for what other nodes send to this one with [Store.Ask], each time on a goroutine of
// its own, until the store is closed. If answer returns nil, nothing is sent back. Listen fails if the servers
// do not allow this node to listen or to ask. Empty data is answered with nothing by the store itself.
func (s *Store) Listen(ctx context.Context, answer func(ctx context.Context, data []byte) []byte) error {
	node := nodeToken(idOf(s.o.Node))
	room := make(chan struct{}, mostQuestions)
	_, err := s.conn.nc.Subscribe(s.layout.nodeSubject(node), func(m *nats.Msg) {
		select {
		case room <- struct{}{}:
		default:
			return
		}
		s.background(func(ctx context.Context) {
			defer func() { <-room }()
			a := []byte{}
			if len(m.Data) > 0 {
				a = answer(ctx, m.Data)
			}
			if a != nil {
				s.reply(m.Reply, a)
			}
		}, func(error) {
			<-room
			s.replyNobody(m.Reply)
		})
	})
	if err != nil {
		return err
	}
	return s.tryRight(ctx, func() error {
		asked, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, err := s.Ask(asked, node, nil)
		return err
	})
}

// reply sends an answer, in parts if it is large. If the connection fails meanwhile, the rest is lost.
func (s *Store) reply(to string, answer []byte) {
	for n := 0; ; n++ {
		size := min(len(answer), s.MostMessage())
		m := nats.NewMsg(to)
		m.Data = answer[:size]
		m.Header.Set(headerPart, strconv.Itoa(n))
		if answer = answer[size:]; len(answer) > 0 {
			m.Header.Set(headerMore, "1")
		}
		if to == "" || s.conn.nc.PublishMsg(m) != nil || len(answer) == 0 {
			return
		}
	}
}

// replyNobody says what the servers say if nobody listens: the store is being closed.
func (s *Store) replyNobody(to string) {
	m := nats.NewMsg(to)
	m.Header.Set("Status", "503")
	if to != "" {
		_ = s.conn.nc.PublishMsg(m)
	}
}

// NodeAt returns the living member at an address, for [Store.Ask].
func (m *Members) NodeAt(address string) (node string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.living {
		if m.living[k].Address == address {
			return nodeToken(m.living[k].Node), true
		}
	}
	return "", false
}
