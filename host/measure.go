package host

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"hypertoken/internal/histogram"
	"hypertoken/ipc"
)

// measure is what a host measures once somebody has asked for it: before, it costs an action a load. What each action adds to
// is sharded by engines, as counts are.
type measure struct {
	// names has the numbers of the core's actions; other is that of all others.
	names  map[string]int
	list   []string
	other  int
	shards [measureShards]measureShard
	// batches are by mode and outcome, sizes by the power of two that they are at most.
	batches  [BatchIndependent + 1][maxOutcomes]atomic.Uint64
	sizes    [len(BatchSizes{}.AtMost)]atomic.Uint64
	members  atomic.Uint64
	recovery histogram.Histogram

	replayed, records, recordBytes, snapshots, snapshotBytes, movedBack atomic.Uint64

	recent recentErrors
}

const measureShards = 8

// measureShard is what is measured of some of the engines.
type measureShard struct {
	dispatched  atomic.Uint64
	inFlight    atomic.Int64
	queue, wire histogram.Histogram
	actions     []atomic.Pointer[actionMeasure] // by their numbers; nil where there was none
	_           [64]byte
}

// actionMeasure is what is measured of an action.
type actionMeasure struct {
	outcomes      [maxOutcomes]atomic.Uint64
	duration, run histogram.Histogram
	exemplars     [len(histogram.Bounds) + 1]atomic.Pointer[Exemplar]
}

// newMeasure returns what measures the actions of those names.
func newMeasure(names []string) *measure {
	m := &measure{names: map[string]int{}, list: names, other: len(names)}
	for k, name := range names {
		m.names[name] = k
	}
	for k := range m.shards {
		m.shards[k].actions = make([]atomic.Pointer[actionMeasure], len(names)+1)
	}
	return m
}

func (m *measure) shard(e *Engine) *measureShard { return &m.shards[e.shard%measureShards] }

// action returns what is measured of an action.
func (m *measure) action(s *measureShard, name string) *actionMeasure {
	k, known := m.names[name]
	if !known {
		k = m.other
	}
	a := s.actions[k].Load()
	if a == nil {
		s.actions[k].CompareAndSwap(nil, new(actionMeasure))
		a = s.actions[k].Load()
	}
	return a
}

// times is when a request got where, since the host was started; 0 where it has not, or where nothing is measured.
type times struct {
	began, sent, answered time.Duration
	// counted says that the host's measure has it in flight.
	counted bool
	trace   *traced
}

// traced is the trace that a request belongs to, and its own span where there is a tracer.
type traced struct {
	context trace.SpanContext
	span    trace.Span
}

// stamp returns the time for measurements.
func (h *Host) stamp() time.Duration { return time.Since(h.started) }

// measures reports whether somebody wants to know when what happens.
func (h *Host) measures() bool { return h.measure.Load() != nil || h.options.Tracer != nil }

// begin takes note of a call for an action, or for a batch of n.
func (e *Engine) begin(ctx context.Context, r *request, name string, n int) {
	h := e.host
	m, tracer := h.measure.Load(), h.options.Tracer
	if m == nil && tracer == nil {
		return
	}
	r.began = h.stamp()
	if m != nil {
		r.counted = true
		s := m.shard(e)
		s.dispatched.Add(uint64(n))
		s.inFlight.Add(int64(n))
	}
	if tracer != nil {
		_, span := tracer.Start(ctx, spanName, trace.WithTimestamp(h.started.Add(r.began)), trace.WithAttributes(
			attribute.String("hypertoken.engine", e.name), attribute.String("hypertoken.action", name), attribute.Int("hypertoken.actions", n)))
		r.trace = &traced{span.SpanContext(), span}
	} else if c := trace.SpanContextFromContext(ctx); c.IsSampled() {
		r.trace = &traced{context: c}
	}
}

const spanName = "hypertoken.dispatch"

// measured takes note of the end of an action. from is the request that it went with: its own, or its batch's.
func (e *Engine) measured(own, from *request, name string, err error) {
	if !own.counted {
		return
	}
	h := e.host
	took := h.stamp() - own.began
	m := h.measure.Load()
	s := m.shard(e)
	a := m.action(s, name)
	a.duration.Observe(took)
	if from.kind == ipc.Dispatch && from.answered > 0 {
		a.run.Observe(time.Duration(from.outcome.RunTime))
	}
	a.outcomes[outcomeOf(err)].Add(1)
	if own.trace != nil {
		a.exemplify(took, own.trace.context, h.started.Add(own.began+took))
	}
	if err != nil {
		m.recent.add(h.started.Add(own.began+took), e.name, name, err)
	}
	s.inFlight.Add(-1)
}

// exemplify keeps a trace beside the bucket that its action is in.
func (a *actionMeasure) exemplify(took time.Duration, c trace.SpanContext, at time.Time) {
	if c.IsSampled() {
		a.exemplars[histogram.ClassicBucket(took)].Store(&Exemplar{TraceID: c.TraceID().String(), SpanID: c.SpanID().String(), Value: took, At: at})
	}
}

// arrived takes note of where the time of a request went.
func (e *Engine) arrived(r *request) {
	if r.answered == 0 || !r.counted {
		return
	}
	s := e.host.measure.Load().shard(e)
	s.queue.Observe(r.sent - r.began)
	s.wire.Observe(r.answered - r.sent - time.Duration(r.outcome.RunTime))
	if w := r.at.Load(); w != nil {
		w.answers.Observe(r.answered - r.sent)
	}
}

// endSpan ends the span of a call that went with a request: its own, or its batch's. It has an event where each part of the time has
// ended, with how long that was.
func (r *request) endSpan(h *Host, from *request, err error) {
	if r.trace == nil || r.trace.span == nil {
		return
	}
	span, run := r.trace.span, time.Duration(from.outcome.RunTime)
	part := func(name string, end, took time.Duration) {
		span.AddEvent(name, trace.WithTimestamp(h.started.Add(end)), trace.WithAttributes(attribute.Float64("duration_seconds", took.Seconds())))
	}
	if from.answered > 0 {
		part("queue", from.sent, from.sent-r.began)
		part("run", from.answered, run)
		part("wire", from.answered, max(0, from.answered-from.sent-run))
	}
	if err != nil {
		span.SetStatus(codes.Error, CodeOf(err))
		span.RecordError(err)
	}
	span.End()
	r.trace.span = nil
}

// only takes note of the end of an action that nobody else is told of: one that did not get as far as the engine, or that had the
// key of another one.
func (e *Engine) only(f *Future, name string, err error) {
	e.host.counts.action(e, err)
	e.measured(&f.request, &f.request, name, err)
	f.endSpan(e.host, &f.request, err)
}

// batchEnded takes note of the end of a batch.
func (e *Engine) batchEnded(b *batch, err error) {
	if !b.counted {
		return
	}
	m, n := e.host.measure.Load(), len(b.types)
	m.batches[b.mode][outcomeOf(err)].Add(1)
	m.members.Add(uint64(n))
	at := 0
	for at < len(m.sizes)-1 && n > 1<<at {
		at++
	}
	m.sizes[at].Add(1)
}

// appended takes note of what the store has just said that it holds. The engine's lock is held.
func (e *Engine) appended() {
	if m := e.host.measure.Load(); m != nil && len(e.m.group) > 0 && !e.m.uncertain {
		m.records.Add(e.m.appending)
		m.recordBytes.Add(uint64(entrySize(e.m.records)))
	}
}

// installed does so for a snapshot.
func (e *Engine) installed() {
	if m := e.host.measure.Load(); m != nil && e.m.install != nil {
		m.snapshots.Add(1)
		m.snapshotBytes.Add(uint64(len(e.m.install.data)))
	}
}

// placed takes note that the engine has a place, to which that many entries were replayed.
func (e *Engine) placed(p place, replayed uint64) {
	lostAt, back := e.lostAt, e.fallen && p.worker != nil
	e.lostAt = 0
	if back {
		e.fallen = false
	}
	m := e.host.measure.Load()
	if m == nil {
		return
	}
	m.replayed.Add(replayed)
	if lostAt > 0 {
		m.recovery.Observe(e.host.stamp() - lostAt)
	}
	if back {
		m.movedBack.Add(1)
	}
}

// failed tells of an error that is the engine's own.
func (e *Engine) failed(err error) {
	if m := e.host.measure.Load(); m != nil {
		m.recent.add(time.Now(), e.name, "", err)
	}
	e.emit(Event{Name: EventError, Err: err})
}

// recentErrors are the last errors that a host has told its callers.
type recentErrors struct {
	mu   sync.Mutex // guards what follows
	list [maxRecent]RecentError
	n    int
}

const (
	maxRecent = 32
	// maxMessage is what is kept of a message, and of an action's name, in bytes.
	maxMessage = 512
)

func (l *recentErrors) add(at time.Time, engine, action string, err error) {
	r := RecentError{At: at, Engine: engine, Action: action[:min(len(action), maxMessage)], Code: CodeOf(err), Message: err.Error()}
	var own *Error
	var core *ActionError
	switch {
	case errors.As(err, &own):
		r.Message = own.Message
	case errors.As(err, &core):
		r.Message = core.Message
	}
	r.Message = r.Message[:min(len(r.Message), maxMessage)]
	l.mu.Lock()
	l.list[l.n%maxRecent] = r
	l.n++
	l.mu.Unlock()
}

// sent takes note that a request is in the pipe.
func (e *Engine) sent(r *request) {
	if r.began > 0 {
		r.times.sent = e.host.stamp()
	}
}

// ran counts for how long a worker ran something.
func (p place) ran(nanoseconds uint64) {
	if p.worker != nil {
		p.worker.busy.Add(int64(nanoseconds))
	}
}
