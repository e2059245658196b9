// Package measure counts and times what a host does. It is passive: it is told what has happened,
// changes nothing, and waits for nothing. What each action adds to is sharded, so that engines on
// several processors do not share a line of memory.
package measure

import (
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"hypertoken/internal/fault"
	"hypertoken/internal/histogram"
)

// Shards is how many shards there are. An engine belongs to the shard of its number.
const Shards = 8

// Recorder is what is measured of a host. A host that nobody measures has none.
type Recorder struct {
	table  atomic.Pointer[actionTable]
	shards [Shards]shard
	// batches are by mode and outcome, sizes by the power of two that they are at most.
	batches [modes][fault.MaxOutcomes]atomic.Uint64
	sizes   [len(BatchSizes{}.AtMost)]atomic.Uint64
	members atomic.Uint64
	recent  recentErrors

	// Recovery is from the end of a worker until an engine that had something to do there was placed again.
	Recovery histogram.Histogram
	// Replayed counts records that were replayed to place engines, MovedBack engines that have left the host's process.
	Replayed, MovedBack atomic.Uint64
	// Records and RecordBytes count what was appended to journals, Snapshots and SnapshotBytes what replaced them.
	Records, RecordBytes, Snapshots, SnapshotBytes atomic.Uint64
}

// modes is how many batch modes there are.
const modes = 2

// shard is what is measured of some of the engines.
type shard struct {
	dispatched  atomic.Uint64
	inFlight    atomic.Int64
	queue, wire histogram.Histogram
	_           [64]byte
}

// New returns a recorder that measures all actions as one, until Learn tells it their names.
func New() *Recorder {
	m := new(Recorder)
	m.table.Store(newActionTable(nil, false, nil))
	return m
}

func (m *Recorder) shard(number int) *shard { return &m.shards[number%Shards] }

// Begin takes note of a call for n actions. End has to be called for each of them.
func (m *Recorder) Begin(shard, n int) {
	s := m.shard(shard)
	s.dispatched.Add(uint64(n))
	s.inFlight.Add(int64(n))
}

// Outcome is how an action ended.
type Outcome struct {
	// Shard is the number that Begin was called with.
	Shard          int
	Engine, Action string
	Err            error
	// Took is how long the action took, from the call to its outcome, and At when it ended.
	Took time.Duration
	At   time.Time
	// Run is for how long the core ran; it counts only if HasRun.
	Run    time.Duration
	HasRun bool
	// Trace is the trace that the action belongs to. If it is sampled, it becomes an exemplar.
	Trace trace.SpanContext
}

// End takes note of the end of an action.
func (m *Recorder) End(o *Outcome) {
	a := m.table.Load().action(o.Shard%Shards, o.Action)
	a.duration.Observe(o.Took)
	if o.HasRun {
		a.run.Observe(o.Run)
	}
	a.outcomes[fault.OutcomeNumber(o.Err)].Add(1)
	if o.Trace.IsSampled() {
		a.exemplars[histogram.ClassicBucket(o.Took)].Store(&Exemplar{TraceID: o.Trace.TraceID().String(),
			SpanID: o.Trace.SpanID().String(), Value: o.Took, At: o.At})
	}
	if o.Err != nil {
		m.recent.add(o.At, o.Engine, o.Action, o.Err)
	}
	m.shard(o.Shard).inFlight.Add(-1)
}

// Parts takes note of where the time of a request went: before it was in the pipe, and in the pipe, both ways.
func (m *Recorder) Parts(shard int, queue, wire time.Duration) {
	s := m.shard(shard)
	s.queue.Observe(queue)
	s.wire.Observe(wire)
}

// Batch takes note of the end of a batch of n members. mode is its mode, from 0 to 1.
func (m *Recorder) Batch(mode, n int, err error) {
	m.batches[mode][fault.OutcomeNumber(err)].Add(1)
	m.members.Add(uint64(n))
	at := 0
	for at < len(m.sizes)-1 && n > 1<<at {
		at++
	}
	m.sizes[at].Add(1)
}

// EngineError takes note of an error that is an engine's own, and no action's.
func (m *Recorder) EngineError(at time.Time, engine string, err error) {
	m.recent.add(at, engine, "", err)
}

// BatchCount counts the batches of a mode, from 0 to 1, that had an outcome.
type BatchCount struct {
	Mode    int
	Outcome string
	Count   uint64
}

// BatchSizes counts batches by their size.
type BatchSizes struct {
	// AtMost counts those of 1, those of at most 2, 4 and so on to 4,096, and all.
	AtMost [14]uint64
	// Members counts the actions of all batches.
	Members uint64
}

// Totals is what was measured of all engines together.
type Totals struct {
	// Dispatched counts actions that callers asked for, InFlight those that have no outcome yet.
	Dispatched uint64
	InFlight   int64
	// Queue and Wire are the parts that Parts was told.
	Queue, Wire histogram.Snapshot
	Actions     []Action
	Batches     []BatchCount
	Sizes       BatchSizes
}

// Totals returns what was measured so far.
func (m *Recorder) Totals() (t Totals) {
	for k := range m.shards {
		s := &m.shards[k]
		// In this order, an action that ends meanwhile counts as in flight, and is not missing.
		t.InFlight += s.inFlight.Load()
		s.queue.AddTo(&t.Queue)
		s.wire.AddTo(&t.Wire)
	}
	t.Actions = m.table.Load().measurements()
	for k := range m.shards {
		t.Dispatched += m.shards[k].dispatched.Load()
	}
	for mode := range m.batches {
		for k, name := range fault.Outcomes() {
			if n := m.batches[mode][k].Load(); n > 0 {
				t.Batches = append(t.Batches, BatchCount{mode, name, n})
			}
		}
	}
	for k := range m.sizes {
		t.Sizes.AtMost[k] = m.sizes[k].Load()
		if k > 0 {
			t.Sizes.AtMost[k] += t.Sizes.AtMost[k-1]
		}
	}
	t.Sizes.Members = m.members.Load()
	return t
}
