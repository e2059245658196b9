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

	"hypertoken/internal/engine"
	"hypertoken/internal/histogram"
	"hypertoken/ipc"
)

// measure is what a host measures once somebody has asked for it: before, it costs an action a load. What each action adds to
// is sharded by engines, as counts are.
type measure struct {
	// table has what is measured by action; learning asks for the names that it needs.
	table    atomic.Pointer[actionTable]
	learning learning
	shards   [measureShards]measureShard
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
	_           [64]byte
}

func (m *measure) shard(e *Engine) *measureShard { return &m.shards[e.shard%measureShards] }

// callTimes is what is measured of a call. Its times are those since the host was started; 0 if nothing is measured.
type callTimes struct {
	began time.Duration
	// isCounted says that the host's measure has the call in flight.
	isCounted bool
	trace     *traced
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

// measureCall takes note of a call for an action, or for a batch of n.
func (e *Engine) measureCall(ctx context.Context, r *callTimes, name string, n int) {
	h := e.host
	m, tracer := h.measure.Load(), h.options.Tracer
	if m == nil && tracer == nil {
		return
	}
	r.began = h.stamp()
	if m != nil {
		r.isCounted = true
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

// measureOutcome takes note of the end of an action. from is the request that it went with: its own, or its batch's.
func (e *Engine) measureOutcome(own *callTimes, from *engine.Request, name string, err error) {
	if !own.isCounted {
		return
	}
	h := e.host
	took := h.stamp() - own.began
	m := h.measure.Load()
	s := m.shard(e)
	a := m.table.Load().action(e.shard%measureShards, name)
	a.duration.Observe(took)
	if from.Kind == ipc.Dispatch && from.Answered > 0 {
		a.run.Observe(time.Duration(from.Outcome.RunTime))
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

// measureParts takes note of where the time of a request went. r is what the future went with.
func (e *Engine) measureParts(f *Future, r *engine.Request) {
	if r.Answered == 0 || !f.call.isCounted {
		return
	}
	s := e.host.measure.Load().shard(e)
	s.queue.Observe(r.Sent - f.call.began)
	s.wire.Observe(r.Answered - r.Sent - time.Duration(r.Outcome.RunTime))
	if w := f.at.Load(); w != nil {
		w.answers.Observe(r.Answered - r.Sent)
	}
}

// endSpan ends the span of a call that went with a request: its own, or its batch's. It has an event where each part of the time has
// ended, with how long that was.
func (r *callTimes) endSpan(h *Host, from *engine.Request, err error) {
	if r.trace == nil || r.trace.span == nil {
		return
	}
	span, run := r.trace.span, time.Duration(from.Outcome.RunTime)
	part := func(name string, end, took time.Duration) {
		span.AddEvent(name, trace.WithTimestamp(h.started.Add(end)), trace.WithAttributes(attribute.Float64("duration_seconds", took.Seconds())))
	}
	if from.Answered > 0 {
		part("queue", from.Sent, from.Sent-r.began)
		part("run", from.Answered, run)
		part("wire", from.Answered, max(0, from.Answered-from.Sent-run))
	}
	if err != nil {
		span.SetStatus(codes.Error, CodeOf(err))
		span.RecordError(err)
	}
	span.End()
	r.trace.span = nil
}

// countAlone takes note of the end of an action that raises no event: it did not get as far as the engine, or it had the key of
// another one.
func (e *Engine) countAlone(f *Future, name string, err error) {
	e.host.counts.action(e, err)
	e.measureOutcome(&f.call, &f.request, name, err)
	f.call.endSpan(e.host, &f.request, err)
}

// measureBatch takes note of the end of a batch.
func (e *Engine) measureBatch(b *batch, err error) {
	if !b.future.call.isCounted {
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

// measurePlacing takes note that the engine has a place, to which that many records were replayed.
func (e *Engine) measurePlacing(p engine.Place, replayed uint64) {
	lostAt, back := e.lostAt, e.fallen && !p.IsLocal()
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

// reportError tells of an error that is the engine's own.
func (e *Engine) reportError(err error) {
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
