package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Open connects to NATS servers, creates the streams if they are not there, and checks what the store
// stands on: the servers' version, their sync_interval, the configuration of the streams, the size of
// messages, and the rights of the connection. It fails if the store could lose what it has reported as
// stored. ctx bounds how long all that may take; its end later does not matter.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Store{o: o, layout: layout{o.Name, o.Streams}, stop: make(chan struct{}),
		viewer: viewer{every: questionEvery}}
	if !o.ReadsLog {
		s.leaser, _ = o.Claims.(Leaser)
	}
	_, _ = rand.Read(s.life[:])
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.open(ctx); err != nil {
		s.cancel()
		if s.conn != nil {
			s.conn.nc.Close()
		}
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	for _, st := range s.streams {
		s.loops.Go(func() { st.run(s.stop) })
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	for p := range s.o.Streams {
		s.streams = append(s.streams, newStream(s, p))
	}
	nc, err := connect(ctx, &s.o, s.o.Connect, s.handlers()...)
	if err != nil {
		return err
	}
	if s.conn, err = newConn(nc); err != nil {
		nc.Close()
		return err
	}
	if err := checkVersion(nc.ConnectedServerName(), nc.ConnectedServerVersion()); err != nil {
		return err
	}
	least := int(nc.MaxPayload())
	if s.o.Sync == SyncChecked {
		if least, err = s.checkServers(ctx); err != nil {
			return err
		}
	}
	if err := s.setSizes(min(least, int(nc.MaxPayload()))); err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for p := range s.o.Streams {
		for _, config := range []jetstream.StreamConfig{s.journalConfig(p), s.pieceConfig(p)} {
			if err := s.ensureStream(ctx, js, config); err != nil {
				return err
			}
		}
	}
	if err := s.checkMoreStreams(ctx, js); err != nil {
		return err
	}
	if err := s.checkRights(ctx); err != nil {
		return err
	}
	return s.watchLeaders()
}

// connect connects to one of the servers. It tries until ctx ends.
func connect(ctx context.Context, o *Options, credentials []nats.Option, more ...nats.Option) (*nats.Conn, error) {
	options := append([]nats.Option{
		nats.Name("hypertoken journals " + o.Node), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond), nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		// A message that waited for a new connection would arrive late. It is an error at once instead.
		nats.ReconnectBufSize(-1),
	}, credentials...)
	options = append(options, more...)
	var servers string
	for k, server := range o.Servers {
		if k > 0 {
			servers += ","
		}
		servers += server
	}
	for try := 0; ; try++ {
		nc, err := nats.Connect(servers, options...)
		if err == nil {
			return nc, nil
		}
		if isForbidden(err) {
			return nil, fmt.Errorf("connecting to %s: %w", servers, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connecting to %s: %w", servers, errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// handlers are told what happens to the connection.
func (s *Store) handlers() []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			s.o.Logger.Warn("the connection to a NATS server is lost", "error", err)
			s.doubtAll(time.Now()) // answers that were on their way never come
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			s.o.Logger.Info("connected to a NATS server again", "server", nc.ConnectedServerName())
			s.doubtAll(time.Now())
			if err := checkVersion(nc.ConnectedServerName(), nc.ConnectedServerVersion()); err != nil {
				s.o.Logger.Error("this NATS server should not be used", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if isForbidden(err) {
				s.refusal.Store(&err)
			}
			s.o.Logger.Warn("a NATS server has reported an error", "error", err)
		}),
	}
}

// doubtAll ends the wait for the answers to batches that were sent before a moment.
func (s *Store) doubtAll(moment time.Time) {
	for _, st := range s.streams {
		st.post(func() { st.doubtBefore(moment) })
	}
}

// watchLeaders listens for new leaders of the streams: what was sent to a former one is never
// answered. Without the right to listen, the wait for an answer ends after AnswerTimeout all the same.
func (s *Store) watchLeaders() error {
	for _, st := range s.streams {
		subject := "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED." + st.name
		_, err := s.conn.nc.Subscribe(subject, func(*nats.Msg) {
			moment := time.Now()
			time.AfterFunc(100*time.Millisecond, func() { st.post(func() { st.doubtBefore(moment) }) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// The sizes of messages.
const (
	// leastPayload is the least max_payload of servers in bytes.
	leastPayload = 64 << 10
	// messageOverhead is what a message takes beside its body: headers, a subject, the head of a record.
	messageOverhead = 8 << 10
	mostGroup       = 512 << 10
	mostBase        = 64 << 10
	mostPacked      = 32 << 10
	// What one purge of a history removes: so many messages, with about so many bytes. Writes of other
	// engines wait for no more than that.
	trimmedMessages = 256
	trimmedBytes    = 1 << 20
)

// setSizes divides data by the largest message that the servers take.
func (s *Store) setSizes(payload int) error {
	if payload < leastPayload {
		return fmt.Errorf("the servers have a max_payload of %d bytes, want %d or more", payload, leastPayload)
	}
	s.pieceSize = min(payload-messageOverhead, mostGroup)
	s.groupSize = s.pieceSize
	s.baseSize = min(s.pieceSize, mostBase)
	s.packedSize = mostPacked
	s.trimmed = trimmedMessages
	return nil
}
