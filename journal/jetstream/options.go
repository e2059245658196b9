package jetstream

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// Sync says how [Open] makes sure that the servers force what they store onto their disks before they
// acknowledge it. That takes `sync_interval: always` in the servers' configuration. A client without
// rights on the system account cannot see that setting.
type Sync int

const (
	// SyncChecked asks all servers, with Options.System, and refuses to open if one of them does not
	// sync always. It is the default.
	SyncChecked Sync = iota
	// SyncTrusted relies on the operator to have set `sync_interval: always`. Nothing is checked.
	SyncTrusted
	// SyncGivenUp accepts servers that do not sync always. If the power of a majority of the servers
	// fails at once, actions of the last minutes that were reported as stored are lost, and a whole
	// stream may be. The loss of single machines still loses nothing.
	SyncGivenUp
)

// The defaults of [Options].
const (
	// DefaultName is the prefix of the streams' names and subjects.
	DefaultName = "hypertoken"
	// DefaultReplicas is how many servers have a copy of each stream.
	DefaultReplicas = 3
	// DefaultStreams is the number of streams that journals are divided into.
	DefaultStreams = 1
	// DefaultAnswerTimeout is how long an answer to a write is waited for before it is in doubt.
	DefaultAnswerTimeout = 2 * time.Second
	minAnswerTimeout     = 100 * time.Millisecond
	// DefaultPatience is how long a call waits for servers that do not answer or have no leader.
	DefaultPatience = 8 * time.Second
)

// Options configure a [Store]. Servers has to be set.
type Options struct {
	// Servers are the URLs of the NATS servers: nats://host:port. One that answers is enough.
	Servers []string
	// Connect are options of the connection: credentials, TLS.
	Connect []nats.Option
	// System are options of a connection to the system account of the same servers. Open uses it to
	// check all servers: version, sync_interval, max_payload. It is needed for SyncChecked.
	System []nats.Option
	// Sync says how Open makes sure that acknowledged data is on the servers' disks.
	Sync Sync

	// Name is the prefix of the streams' names and subjects: 1 to 32 letters, digits, - or _. Stores
	// with the same name have the same journals.
	Name string
	// Replicas is how many servers have a copy of each stream: 1, 3 or 5. With 1 the loss of a machine
	// loses its journals. The default is DefaultReplicas.
	Replicas int
	// Streams is the number of streams that journals are divided into, 1 to 64. It is fixed when the
	// first store creates the streams. A stream should have at most 100,000 engines.
	Streams int

	// Node and Address are written into the owner records of the slots that this store acquires, for
	// other stores to read. Node should be new for each life of a process; the default is random.
	Node, Address string
	// Claims decides which slots this store may acquire. The default allows all.
	Claims Claims

	// ReadsLog has each barrier write to the log, even if Claims is a [Leaser]: for machines whose clocks
	// stand still, such as virtual machines that are paused as a whole.
	ReadsLog bool

	// History says how much is kept of what came before an engine's newest base. The default keeps
	// everything. A store trims the engines of the slots that it has, so stores with the same journals
	// should have the same History.
	History journal.History

	// AnswerTimeout is how long an answer to a write is waited for. Then the write is in doubt, and the
	// store finds out whether it was stored. 100 ms to 1 minute.
	AnswerTimeout time.Duration
	// Patience is how long a call that had no effect yet waits for servers that do not answer. Then it
	// fails with [journal.ErrUnavailable]. At least AnswerTimeout.
	Patience time.Duration
	// Logger gets what an operator has to know. The default discards it.
	Logger *slog.Logger

	// MustExist has Open fail if the streams are not there, instead of making them. It is for programs
	// that look at a cluster.
	MustExist bool

	// settling says when the tail of a slot is settled. It is a seam for tests.
	settling settling
	// sweepAfter is how long after a slot was acquired what former owners left there is looked for. It is
	// a seam for tests.
	sweepAfter time.Duration
	// now is the clock that History.Age is held against. It is a seam for tests.
	now func() time.Time
}

// setDefaults replaces zero values.
func (o *Options) setDefaults() {
	o.Name = cmp.Or(o.Name, DefaultName)
	o.Replicas = cmp.Or(o.Replicas, DefaultReplicas)
	o.Streams = cmp.Or(o.Streams, DefaultStreams)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, DefaultAnswerTimeout)
	o.Patience = cmp.Or(o.Patience, DefaultPatience)
	o.Node = cmp.Or(o.Node, randomHex(16))
	o.settling = cmp.Or(o.settling, defaultSettling)
	o.sweepAfter = cmp.Or(o.sweepAfter, defaultSweepAfter)
	if o.now == nil {
		o.now = time.Now
	}
	if o.Claims == nil {
		o.Claims = claimAll{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
}

// validate fails if a value is out of its bounds.
func (o *Options) validate() error {
	isName := len(o.Name) <= 32
	for _, c := range []byte(o.Name) {
		isLetter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
		isName = isName && isLetter
	}
	switch {
	case len(o.Servers) == 0:
		return fmt.Errorf("jetstream: Options.Servers is empty, want the URL of a NATS server at least")
	case o.Sync < SyncChecked || o.Sync > SyncGivenUp:
		return fmt.Errorf("jetstream: Options.Sync is %d, want SyncChecked, SyncTrusted or SyncGivenUp", o.Sync)
	case o.Sync == SyncChecked && len(o.System) == 0:
		return fmt.Errorf("jetstream: Options.Sync is SyncChecked and Options.System is empty: " +
			"give credentials of the system account, or set SyncTrusted if the servers have sync_interval: always")
	case !isName:
		return fmt.Errorf("jetstream: Options.Name is %q, want 1 to 32 letters, digits, - or _", o.Name)
	case o.Replicas != 1 && o.Replicas != 3 && o.Replicas != 5:
		return fmt.Errorf("jetstream: Options.Replicas is %d, want 1, 3 or 5", o.Replicas)
	case o.Streams < 1 || o.Streams > 64:
		return fmt.Errorf("jetstream: Options.Streams is %d, want 1 to 64", o.Streams)
	case o.AnswerTimeout < minAnswerTimeout || o.AnswerTimeout > time.Minute:
		return fmt.Errorf("jetstream: Options.AnswerTimeout is %v, want 100ms to 1m", o.AnswerTimeout)
	case o.History.Age < 0:
		return fmt.Errorf("jetstream: Options.History.Age is %v, want 0 or more", o.History.Age)
	case o.Patience < o.AnswerTimeout:
		return fmt.Errorf("jetstream: Options.Patience is %v, want Options.AnswerTimeout (%v) or more", o.Patience,
			o.AnswerTimeout)
	}
	return nil
}
