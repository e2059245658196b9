package driver

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/measure"
	"hypertoken/ipc"
)

// callTimes is what is measured of a call. Its times are those since the host was started; 0 if
// nothing is measured.
type callTimes struct {
	began time.Duration
	// isCounted says that the host's measure has the call in flight.
	isCounted bool
	trace     *traced
}

// traced is the trace that a request belongs to, and its own span, if there is a tracer.
type traced struct {
	context trace.SpanContext
	span    trace.Span
}

// meter tells the host's measurements what an engine does.
type meter struct {
	engines *Engines
	engine  string // its name
	shard   int    // of the host's counts
	// isFallen says that the last place was this process, for want of a worker. lostAt is when the
	// engine lost a worker that it had something to do for, on the clock of measurements, until it is
	// placed again. The engine's lock guards both.
	isFallen bool
	lostAt   time.Duration
}

// begin takes note of a call for an action, or for a batch of n.
func (m *meter) begin(ctx context.Context, r *callTimes, name string, n int) {
	h := m.engines
	recorder, tracer := h.measure.Load(), h.config.Tracer
	if recorder == nil && tracer == nil {
		return
	}
	r.began = h.stamp()
	if recorder != nil {
		r.isCounted = true
		recorder.Begin(m.shard, n)
	}
	if tracer != nil {
		_, span := tracer.Start(ctx, spanName, trace.WithTimestamp(h.started.Add(r.began)), trace.WithAttributes(
			attribute.String("hypertoken.engine", m.engine), attribute.String("hypertoken.action", name),
			attribute.Int("hypertoken.actions", n)))
		r.trace = &traced{span.SpanContext(), span}
	} else if c := trace.SpanContextFromContext(ctx); c.IsSampled() {
		r.trace = &traced{context: c}
	}
}

const spanName = "hypertoken.dispatch"

// end takes note of the end of an action. from is the request that it went with: its own, or its
// batch's.
func (m *meter) end(own *callTimes, from *engine.Request, name string, err error) {
	if !own.isCounted {
		return
	}
	h := m.engines
	ended := h.stamp()
	o := measure.Outcome{Shard: m.shard, Engine: m.engine, Action: name, Err: err, Took: ended - own.began,
		At: h.started.Add(ended)}
	if from.Kind == ipc.Dispatch && from.Answered > 0 {
		o.Run, o.HasRun = time.Duration(from.Outcome.RunTime), true
	}
	if own.trace != nil {
		o.Trace = own.trace.context
	}
	h.measure.Load().End(&o)
}

// endParts takes note of where the time of a request went. r is the request that the call went
// with.
func (m *meter) endParts(c *Call, r *engine.Request) {
	if r.Answered == 0 || !c.times.isCounted {
		return
	}
	m.engines.measure.Load().Parts(m.shard, r.Sent-c.times.began, r.Answered-r.Sent-time.Duration(r.Outcome.RunTime))
	if w := c.at.Load(); w != nil {
		w.ObserveAnswer(r.Answered - r.Sent)
	}
}

// endSpan ends the span of a call that went with a request: its own, or its batch's. It has an
// event where each part of the time has ended, with how long that was.
func (r *callTimes) endSpan(h *Engines, from *engine.Request, err error) {
	if r.trace == nil || r.trace.span == nil {
		return
	}
	span, run := r.trace.span, time.Duration(from.Outcome.RunTime)
	part := func(name string, end, took time.Duration) {
		span.AddEvent(name, trace.WithTimestamp(h.started.Add(end)),
			trace.WithAttributes(attribute.Float64("duration_seconds", took.Seconds())))
	}
	if from.Answered > 0 {
		part("queue", from.Sent, from.Sent-r.began)
		part("run", from.Answered, run)
		part("wire", from.Answered, max(0, from.Answered-from.Sent-run))
	}
	if err != nil {
		span.SetStatus(codes.Error, fault.CodeOf(err))
		span.RecordError(err)
	}
	span.End()
	r.trace.span = nil
}

// endAlone takes note of the end of an action that raises no event: it did not get as far as the
// engine, or it had the key of another one.
func (m *meter) endAlone(c *Call, name string, err error) {
	m.engines.counts.Action(m.shard, err)
	m.end(&c.times, &c.request, name, err)
	c.times.endSpan(m.engines, &c.request, err)
}

// endBatch takes note of the end of a batch.
func (m *meter) endBatch(b *batch, err error) {
	if !b.call.times.isCounted {
		return
	}
	m.engines.measure.Load().Batch(int(b.mode), len(b.types), err)
}

// placed takes note that the engine has a place, to which that many records were replayed.
func (m *meter) placed(p engine.Place, replayed uint64) {
	lostAt, back := m.lostAt, m.isFallen && !p.IsLocal()
	m.lostAt = 0
	if back {
		m.isFallen = false
	}
	recorder := m.engines.measure.Load()
	if recorder == nil {
		return
	}
	recorder.Replayed.Add(replayed)
	if lostAt > 0 {
		recorder.Recovery.Observe(m.engines.stamp() - lostAt)
	}
	if back {
		recorder.MovedBack.Add(1)
	}
}

// reportError tells of an error that is the engine's own.
func (e *Driver) reportError(err error) {
	if m := e.engines.measure.Load(); m != nil {
		m.EngineError(time.Now(), e.name, err)
	}
	e.emit(Event{Name: eventError, Err: err})
}
