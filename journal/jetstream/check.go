package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// leastVersion is the oldest version of a server that the store works with. Versions before it refuse
// batches with several conditions.
const leastVersion = "2.15.0"

// checkVersion fails if a server is too old.
func checkVersion(server, version string) error {
	if compareVersions(version, leastVersion) < 0 {
		return fmt.Errorf("the NATS server %s has the version %s, want %s or newer", server, version, leastVersion)
	}
	return nil
}

// compareVersions compares two versions by their numbers. What follows a - is ignored.
func compareVersions(a, b string) int {
	numbers := func(v string) (n [3]int) {
		v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "-")
		for k, part := range strings.SplitN(v, ".", 3) {
			n[k], _ = strconv.Atoi(part)
		}
		return n
	}
	x, y := numbers(a), numbers(b)
	for k := range x {
		if x[k] != y[k] {
			return x[k] - y[k]
		}
	}
	return 0
}

// varz is what a server says of itself, as far as it matters.
type varz struct {
	Server struct {
		Name string `json:"name"`
		Ver  string `json:"ver"`
	} `json:"server"`
	Data struct {
		MaxPayload int `json:"max_payload"`
		JetStream  struct {
			Config *struct {
				SyncAlways bool `json:"sync_always"`
			} `json:"config"`
		} `json:"jetstream"`
	} `json:"data"`
}

// serversSilence is how long no more servers have to answer until all have.
const serversSilence = 500 * time.Millisecond

// checkServers asks all servers with JetStream what they are, through the system account. It returns
// the least max_payload.
func (s *Store) checkServers(ctx context.Context) (leastPayload int, err error) {
	nc, err := connect(ctx, &s.o, s.o.System)
	if err != nil {
		return 0, fmt.Errorf("the system account: %w", err)
	}
	defer nc.Close()
	for {
		count, payload, err := s.askServers(nc)
		if err != nil {
			return 0, err
		}
		if count >= s.o.Replicas {
			return payload, nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%d servers with JetStream have answered on the system account, "+
				"want Options.Replicas = %d or more. Has the user of Options.System the rights of the system account?",
				count, s.o.Replicas)
		}
	}
}

// askServers asks once. It returns how many servers with JetStream have answered.
func (s *Store) askServers(nc *nats.Conn) (count, payload int, err error) {
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING.VARZ", answers.Subject, nil); err != nil {
		return 0, 0, err
	}
	for {
		m, err := answers.NextMsg(serversSilence)
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) {
			return count, payload, nil
		}
		if err != nil {
			return 0, 0, err
		}
		var v varz
		if err := json.Unmarshal(m.Data, &v); err != nil {
			return 0, 0, fmt.Errorf("a server's answer can't be read: %w", err)
		}
		if v.Data.JetStream.Config == nil {
			continue // a server that stores nothing
		}
		if err := checkVersion(v.Server.Name, v.Server.Ver); err != nil {
			return 0, 0, err
		}
		if !v.Data.JetStream.Config.SyncAlways {
			return 0, 0, fmt.Errorf("the NATS server %s does not have sync_interval: always, "+
				"so a loss of power loses what it has acknowledged. Set it in the server's jetstream block, "+
				"or set Options.Sync to SyncGivenUp to live with that loss", v.Server.Name)
		}
		if count++; payload == 0 || v.Data.MaxPayload < payload {
			payload = v.Data.MaxPayload
		}
	}
}

// The metadata of a stream says what it is for.
const (
	metaFormat  = "hypertoken.format"
	metaSlots   = "hypertoken.slots"
	metaStreams = "hypertoken.streams"
	// formatVersion is the layout that this program knows.
	formatVersion = "1"
)

func (s *Store) streamConfig(name, subjects string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Subjects: []string{subjects}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		Storage: jetstream.FileStorage, Replicas: s.o.Replicas, MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1,
		MaxMsgsPerSubject: -1, MaxMsgSize: -1, AllowRollup: true, AllowDirect: true,
		Duplicates: 100 * time.Millisecond, // no message has an ID
		Metadata: map[string]string{metaFormat: formatVersion, metaSlots: strconv.Itoa(Slots),
			metaStreams: strconv.Itoa(s.o.Streams)},
	}
}

func (s *Store) journalConfig(p int) jetstream.StreamConfig {
	c := s.streamConfig(s.layout.journalStream(p), s.layout.journalSubjects(p))
	c.Description, c.AllowAtomicPublish = "journals of engines", true
	return c
}

func (s *Store) pieceConfig(p int) jetstream.StreamConfig {
	c := s.streamConfig(s.layout.pieceStream(p), s.layout.pieceSubjects(p))
	c.Description = "large parts of journals, and cores"
	return c
}

// ensureStream creates a stream if it is not there, and checks its configuration. It waits for servers
// that have no leader yet until ctx ends.
func (s *Store) ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	for {
		err := s.tryStream(ctx, js, want)
		var mismatch *configError
		var missing *missingError
		if err == nil || errors.As(err, &mismatch) || errors.As(err, &missing) {
			return err
		}
		if forbidden := s.refusal.Load(); forbidden != nil {
			return fmt.Errorf("the stream %s: %w", want.Name, *forbidden)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the stream %s: %w", want.Name, errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *Store) tryStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if s.o.MustExist {
			return &missingError{want.Name}
		}
		stream, err = js.CreateStream(ctx, want)
	}
	if err != nil {
		return err
	}
	return s.checkStream(stream.CachedInfo().Config, want)
}

// missingError says that a stream is not there.
type missingError struct{ stream string }

func (e *missingError) Error() string {
	return fmt.Sprintf("there is no stream %s on these servers: no cluster of that name was started there", e.stream)
}

// configError says what is wrong with a stream.
type configError struct {
	stream, field string
	have, want    any
	why           string
}

func (e *configError) Error() string {
	return fmt.Sprintf("the stream %s has %s %v, want %v: %s", e.stream, e.field, e.have, e.want, e.why)
}

// checkStream fails if a stream could lose what it has acknowledged, or is not made for this store.
func (s *Store) checkStream(have, want jetstream.StreamConfig) error {
	for _, c := range []struct {
		field      string
		have, want any
		why        string
	}{
		{"the metadata " + metaFormat, have.Metadata[metaFormat], formatVersion,
			"another program has created it, or a newer one"},
		{"the metadata " + metaSlots, have.Metadata[metaSlots], want.Metadata[metaSlots],
			"names would be in other slots"},
		{"the metadata " + metaStreams, have.Metadata[metaStreams], want.Metadata[metaStreams],
			"the number of streams (Options.Streams) is fixed when they are created"},
		{"num_replicas", have.Replicas, want.Replicas, "Options.Replicas says how many servers have a copy"},
		{"storage", have.Storage, want.Storage, "memory is lost with the servers' processes"},
		{"persist_mode", have.PersistMode, want.PersistMode, "it acknowledges what is not written yet"},
		{"retention", have.Retention, want.Retention, "messages would be removed once they are read"},
		{"discard", have.Discard, want.Discard, "journals would lose their beginnings when the stream is full"},
		{"max_age", have.MaxAge, want.MaxAge, "journals would be lost with time"},
		{"max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject,
			"journals would lose their beginnings"},
		{"subjects", strings.Join(have.Subjects, " "), strings.Join(want.Subjects, " "), "the layout fixes them"},
		{"allow_atomic", have.AllowAtomicPublish, want.AllowAtomicPublish, "groups are stored in atomic batches"},
		{"allow_rollup_hdrs", have.AllowRollup, true, "owner records replace each other"},
		{"allow_direct", have.AllowDirect, true, "journals are read from all replicas"},
		{"deny_purge", have.DenyPurge, false, "deleted engines are removed"},
		{"sealed", have.Sealed, false, "it takes no messages"},
		{"no_ack", have.NoAck, false, "writes are not acknowledged"},
		{"a mirror", have.Mirror != nil, false, "it takes no messages"},
		{"sources", len(have.Sources), 0, "messages of others would be among the journals"},
		{"a subject transform", have.SubjectTransform != nil, false, "journals would be under other subjects"},
		{"allow_msg_ttl", have.AllowMsgTTL, false, "messages could be lost with time"},
	} {
		if c.have != c.want {
			return &configError{have.Name, c.field, c.have, c.want, c.why}
		}
	}
	if have.MaxMsgSize >= 0 && int(have.MaxMsgSize) < s.pieceSize+messageOverhead {
		return &configError{have.Name, "max_msg_size", have.MaxMsgSize, -1,
			"messages have the size that max_payload allows"}
	}
	if version := have.Metadata["_nats.ver"]; version != "" {
		if err := checkVersion("that leads the stream "+have.Name, version); err != nil {
			return &configError{have.Name, "a leader of version", version, leastVersion, "older ones refuse batches"}
		}
	}
	return nil
}

// checkMoreStreams fails if there are more streams than Options.Streams says. While the servers elect the
// leader that knows, nobody answers, and they forget the question: it is asked again until ctx ends.
func (s *Store) checkMoreStreams(ctx context.Context, js jetstream.JetStream) error {
	name := s.layout.journalStream(s.o.Streams)
	for try := 0; ; try++ {
		asked, cancel := context.WithTimeout(ctx, s.o.AnswerTimeout)
		_, err := js.Stream(asked, name)
		cancel()
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return nil
		case err == nil:
			return fmt.Errorf("the stream %s should not be there: Options.Streams is too small", name)
		case s.refusal.Load() != nil:
			return fmt.Errorf("whether there is a stream %s: %w", name, *s.refusal.Load())
		case !s.pause(ctx, try):
			return fmt.Errorf("whether there is a stream %s, which should not be there: %w", name, err)
		}
	}
}

// checkRights tries all that the store does with streams. A server does not answer what it forbids, so
// the error comes from elsewhere.
func (s *Store) checkRights(ctx context.Context) error {
	for _, st := range s.streams {
		pieces := s.layout.pieceStream(st.number)
		nobody := s.layout.engineSubject(0, noToken)
		for _, c := range []struct {
			what string
			try  func() error
		}{
			{"writing to the stream " + st.name, func() error {
				_, err := s.conn.write(ctx, newMark(s.layout.readSubject(st.number)), s.o.AnswerTimeout)
				return err
			}},
			{"reading the stream " + st.name, func() error {
				_, _, err := s.conn.read(ctx, st.name, query{Last: []string{nobody}}, s.o.AnswerTimeout)
				return err
			}},
			{"asking the leader of the stream " + st.name, func() error {
				_, err := s.conn.lastAtLeader(ctx, st.name, nobody, s.o.AnswerTimeout)
				return err
			}},
			{"removing messages of the stream " + st.name, func() error {
				return s.conn.purge(ctx, st.name, nobody, 0, s.o.AnswerTimeout)
			}},
			{"writing to the stream " + pieces, func() error {
				subject := strings.Replace(s.layout.pieceReadSubject(), ".p.0.", fmt.Sprintf(".p.%d.", st.number), 1)
				_, err := s.conn.write(ctx, newMark(subject), s.o.AnswerTimeout)
				return err
			}},
			{"reading the stream " + pieces, func() error {
				q := query{Last: []string{s.layout.pieceReadSubject()}}
				_, _, err := s.conn.read(ctx, pieces, q, s.o.AnswerTimeout)
				return err
			}},
			{"removing messages of the stream " + pieces, func() error {
				return s.conn.purge(ctx, pieces, s.layout.piecesOf(0, noToken, incarnation{}), 0, s.o.AnswerTimeout)
			}},
		} {
			if err := s.tryRight(ctx, c.try); err != nil {
				return fmt.Errorf("%s: %w", c.what, err)
			}
		}
	}
	return nil
}

// tryRight calls f until it succeeds, until the server says that it is forbidden, or until ctx ends.
func (s *Store) tryRight(ctx context.Context, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if err == nil {
			return nil
		}
		if forbidden := s.refusal.Load(); forbidden != nil {
			return *forbidden
		}
		if !s.pause(ctx, try) {
			return errors.Join(err, ctx.Err())
		}
	}
}
