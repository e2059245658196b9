package jetstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"hypertoken/journal"
)

// openFails fails the test unless Open fails with an error that has all these words.
func openFails(t *testing.T, o Options, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	s, err := Open(ctx, o)
	if err == nil {
		_ = s.Close()
		t.Fatal("Open succeeds")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error has no %q: %v", w, err)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel() // it waits for a server that is not there
	good := Options{Servers: []string{"nats://127.0.0.1:1"}, Sync: SyncTrusted}
	for word, change := range map[string]func(*Options){
		"Options.Servers":       func(o *Options) { o.Servers = nil },
		"Options.Sync is 7":     func(o *Options) { o.Sync = 7 },
		"credentials":           func(o *Options) { o.Sync = SyncChecked },
		`"a.b"`:                 func(o *Options) { o.Name = "a.b" },
		"Options.Name":          func(o *Options) { o.Name = strings.Repeat("a", 33) },
		"Options.Replicas is 2": func(o *Options) { o.Replicas = 2 },
		"Options.Streams is 65": func(o *Options) { o.Streams = 65 },
		"Options.AnswerTimeout": func(o *Options) { o.AnswerTimeout = time.Millisecond },
		"Options.Patience":      func(o *Options) { o.Patience = time.Second },
	} {
		o := good
		change(&o)
		openFails(t, o, word)
	}
	openFails(t, good, "127.0.0.1:1")
}

// Each limit of Options holds from its last good value to its first bad one.
func TestLimitsOfOptions(t *testing.T) {
	system := []nats.Option{nats.NoEcho()}
	for name, row := range map[string]struct {
		change func(*Options)
		isGood bool
	}{
		"one server":             {func(*Options) {}, true},
		"the first Sync":         {func(o *Options) { o.Sync, o.System = SyncChecked, system }, true},
		"before the first Sync":  {func(o *Options) { o.Sync = SyncChecked - 1 }, false},
		"the last Sync":          {func(o *Options) { o.Sync = SyncGivenUp }, true},
		"behind the last Sync":   {func(o *Options) { o.Sync = SyncGivenUp + 1 }, false},
		"32 bytes of Name":       {func(o *Options) { o.Name = strings.Repeat("a", 32) }, true},
		"33 bytes of Name":       {func(o *Options) { o.Name = strings.Repeat("a", 33) }, false},
		"one byte of Name":       {func(o *Options) { o.Name = "a" }, true},
		"all bytes of Name":      {func(o *Options) { o.Name = "azAZ09-_" }, true},
		"a space in Name":        {func(o *Options) { o.Name = "a b" }, false},
		"a wildcard in Name":     {func(o *Options) { o.Name = "*" }, false},
		"1 replica":              {func(o *Options) { o.Replicas = 1 }, true},
		"2 replicas":             {func(o *Options) { o.Replicas = 2 }, false},
		"3 replicas":             {func(o *Options) { o.Replicas = 3 }, true},
		"4 replicas":             {func(o *Options) { o.Replicas = 4 }, false},
		"5 replicas":             {func(o *Options) { o.Replicas = 5 }, true},
		"6 replicas":             {func(o *Options) { o.Replicas = 6 }, false},
		"-1 replicas":            {func(o *Options) { o.Replicas = -1 }, false},
		"-1 streams":             {func(o *Options) { o.Streams = -1 }, false},
		"1 stream":               {func(o *Options) { o.Streams = 1 }, true},
		"64 streams":             {func(o *Options) { o.Streams = 64 }, true},
		"65 streams":             {func(o *Options) { o.Streams = 65 }, false},
		"AnswerTimeout 100ms":    {func(o *Options) { o.AnswerTimeout = 100 * time.Millisecond }, true},
		"AnswerTimeout less":     {func(o *Options) { o.AnswerTimeout = 100*time.Millisecond - 1 }, false},
		"AnswerTimeout 1m":       {func(o *Options) { o.AnswerTimeout, o.Patience = time.Minute, time.Minute }, true},
		"AnswerTimeout more":     {func(o *Options) { o.AnswerTimeout, o.Patience = time.Minute+1, time.Hour }, false},
		"as long as an answer":   {func(o *Options) { o.Patience = DefaultAnswerTimeout }, true},
		"shorter than an answer": {func(o *Options) { o.Patience = DefaultAnswerTimeout - 1 }, false},
	} {
		o := Options{Servers: []string{"nats://127.0.0.1:1"}, Sync: SyncTrusted}
		row.change(&o)
		o.setDefaults()
		if err := o.validate(); (err == nil) != row.isGood {
			t.Errorf("%s: %v", name, err)
		}
	}
	for payload, isGood := range map[int]bool{leastPayload: true, leastPayload - 1: false} {
		if err := new(Store).setSizes(payload); (err == nil) != isGood {
			t.Errorf("a max_payload of %d: %v", payload, err)
		}
	}
}

// The servers are asked for what they are: they sync always, or the store says what would be lost.
func TestServersAreChecked(t *testing.T) {
	c := shared(t)
	t.Parallel() // it waits for servers that do not answer
	o := c.options(newName())
	o.Sync = SyncChecked
	s := openStore(t, o)
	dropStreams(t, s)
	wrong := o
	wrong.System = o.Connect
	openFails(t, wrong, "system account")

	lazy := startServers(t, 1, func(c *servers) { c.sync, c.payload = "2m", 65536 })
	o = lazy.options(newName())
	o.Sync = SyncChecked
	openFails(t, o, "sync_interval: always", "n0", "SyncGivenUp")
	o.Sync = SyncGivenUp
	s = openStore(t, o)
	// Messages of 64 KiB are enough. What is larger lies in pieces.
	cl := client{t, s}
	base := setup()
	base.Data = make([]byte, 1<<20)
	cl.must(cl.install("a", ownerOf(1, 1), base))
	var group []journal.Record
	for k := range 3000 {
		group = append(group, action(k))
	}
	cl.must(cl.append("a", ownerOf(1, 1), 0, group...))
	if stored, err := cl.load("a", ownerOf(1, 1)); err != nil || stored.Count != 3000 || len(stored.Data) != 1<<20 {
		t.Errorf("%v", err)
	}
	if n := s.Stats().Pieces; n < 20 {
		t.Errorf("%d pieces", n)
	}

	small := startServers(t, 1, func(c *servers) { c.payload = 32 << 10 })
	openFails(t, small.options(newName()), "max_payload of 32768")
	o = small.options(newName())
	o.Sync, o.Replicas = SyncChecked, 3
	openFails(t, o, "1 servers", "Options.Replicas = 3")
}

func TestVersions(t *testing.T) {
	for version, isGood := range map[string]bool{"2.15.0": true, "2.15.2": true, "2.16.0-dev": true, "3.0.0": true,
		"v2.15.1": true, "2.14.9": false, "2.9.25": false, "1.99.99": false, "": false} {
		if err := checkVersion("n1", version); (err == nil) != isGood {
			t.Errorf("the version %q: %v", version, err)
		}
	}
}

// A stream that could lose what it has acknowledged is refused, with the field that is wrong.
func TestStreamsAreChecked(t *testing.T) {
	o := shared(t).options(newName())
	s := openStore(t, o)
	js, err := jetstream.New(s.conn.nc)
	if err != nil {
		t.Fatal(err)
	}
	for word, change := range map[string]func(*jetstream.StreamConfig){
		"max_age":              func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max_msgs_per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 },
		"discard":              func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"max_msg_size":         func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 },
		"allow_direct":         func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"allow_rollup_hdrs":    func(c *jetstream.StreamConfig) { c.AllowRollup = false },
		"allow_atomic":         func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"hypertoken.format":    func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{metaFormat: "2"} },
		"subject transform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: o.Name + ".j.0.>", Destination: "x.>"}
		},
	} {
		config := s.journalConfig(0)
		change(&config)
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		openFails(t, o, s.layout.journalStream(0), word)
	}
	if _, err := js.UpdateStream(t.Context(), s.journalConfig(0)); err != nil {
		t.Fatal(err)
	}
	wrong := o
	wrong.Streams = 2
	openFails(t, wrong, "hypertoken.streams", "Options.Streams")
	if o.Replicas == 1 {
		wrong = o
		wrong.Replicas = 3
		openFails(t, wrong, "num_replicas")
	}
	openStore(t, o)
}

// A connection that lacks a right is refused in words that say which.
func TestRightsAreChecked(t *testing.T) {
	o := shared(t).options(newName())
	t.Parallel() // it waits for answers that the servers forbid
	openStore(t, o)
	o.Connect = []nats.Option{nats.UserInfo("reader", "reader")}
	openFails(t, o, "writing to the stream", "Permissions Violation", o.Name+".j.0.read")
	o.Connect = []nats.Option{nats.UserInfo("writer", "writer")}
	openFails(t, o, "removing messages of the stream", "Permissions Violation")
	o.Connect = []nats.Option{nats.UserInfo("nobody", "nobody")}
	openFails(t, o, "Authorization")
}

// Stores with several streams divide the slots.
func TestSeveralStreams(t *testing.T) {
	o := shared(t).options(newName())
	o.Streams = 3
	s := openStore(t, o)
	c := client{t, s}
	for _, name := range namesIn(9, false) {
		c.must(c.install(name, ownerOf(1, 1), setup()))
		c.must(c.append(name, ownerOf(1, 1), 0, action(1)))
		c.expect(name, ownerOf(1, 2), 1)
	}
	ended := make(chan int, 1)
	s.List("", "", 100, func(page []journal.Info, err error) {
		c.must(err)
		ended <- len(page)
	})
	if n := <-ended; n != 9 {
		t.Errorf("%d names, want 9", n)
	}
}

// forgetfulServers do not answer the first questions about streams, as servers that elect a leader.
type forgetfulServers struct {
	jetstream.JetStream
	questions int
}

func (f *forgetfulServers) Stream(ctx context.Context, _ string) (jetstream.Stream, error) {
	if f.questions++; f.questions < 3 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, jetstream.ErrStreamNotFound
}

// A question that the servers have forgotten is asked again: a store can be opened while they elect a
// leader.
func TestForgottenQuestions(t *testing.T) {
	s := &Store{o: Options{AnswerTimeout: time.Millisecond, Streams: 1}}
	f := &forgetfulServers{}
	if err := s.checkMoreStreams(t.Context(), f); err != nil || f.questions != 3 {
		t.Errorf("%v after %d questions", err, f.questions)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.checkMoreStreams(ended, &forgetfulServers{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}
