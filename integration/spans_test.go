package integration

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"hypertoken/host"
)

// A tracer gets a span for each call, within the caller's, with an event where each part of its time has ended.
func TestSpans(t *testing.T) {
	spans := new(tracetest.SpanRecorder)
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	test := func(t *testing.T, o host.Options) {
		spans.Reset()
		o.Tracer, o.Logger = tracer, slog.New(slog.DiscardHandler)
		h, err := host.New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Shutdown(context.Background()) }()
		tokens := []map[string]any{{"id": "ace"}, {"id": "king"}, {"id": "queen"}}
		e, err := h.Open(t.Context(), "table", host.EngineOptions{Setup: map[string]any{"stack": tokens}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, parent := tracer.Start(t.Context(), "request")
		_, err = e.Dispatch(ctx, "stack:draw", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, failure := e.Dispatch(ctx, "stack:draw", map[string]any{"count": 0})
		future := e.DispatchAsync(ctx, "stack:peek", nil)
		if _, err := future.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := e.DispatchBatch(ctx, host.BatchAtomic,
			[]host.Action{{Type: "stack:draw"}, {Type: "stack:reset"}}); err != nil {
			t.Fatal(err)
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		_, refused := e.Dispatch(canceled, "stack:draw", nil)
		ended := spans.Ended()
		if len(ended) != 5 {
			t.Fatalf("%d spans, want 5", len(ended))
		}
		for k, want := range []struct {
			action string
			n      int
			err    error
			events []string
		}{
			{"stack:draw", 1, nil, []string{"queue", "run", "wire"}},
			{"stack:draw", 1, failure, []string{"queue", "run", "wire", "exception"}},
			{"stack:peek", 1, nil, []string{"queue", "run", "wire"}},
			{"batch", 2, nil, []string{"queue", "run", "wire"}},
			{"stack:draw", 1, refused, []string{"exception"}},
		} {
			s := ended[k]
			var events []string
			for _, e := range s.Events() {
				events = append(events, e.Name)
				if e.Name != "exception" && (e.Time.Before(s.StartTime()) || e.Time.After(s.EndTime())) {
					t.Errorf("%d: %s ended %v, the span is from %v to %v", k, e.Name, e.Time, s.StartTime(),
						s.EndTime())
				}
			}
			wanted := []attribute.KeyValue{attribute.String("hypertoken.engine", "table"),
				attribute.String("hypertoken.action", want.action),
				attribute.Int("hypertoken.actions", want.n)}
			if s.Name() != "hypertoken.dispatch" || s.Parent().SpanID() != parent.SpanContext().SpanID() ||
				!slices.Equal(s.Attributes(), wanted) ||
				!slices.Equal(events, want.events) {
				t.Errorf("%d: %s of %v, %v, events %v, want %v, %v", k, s.Name(), s.Parent().SpanID(), s.Attributes(),
					events, wanted, want.events)
			}
			if status := s.Status(); (want.err != nil) != (status.Code == codes.Error) ||
				(want.err != nil && status.Description != host.CodeOf(want.err)) {
				t.Errorf("%d: the status is %v, the error was %v", k, status, want.err)
			}
		}
	}
	t.Run("in_process", func(t *testing.T) { test(t, host.Options{InProcess: true}) })
	t.Run("on_workers", func(t *testing.T) { test(t, host.Options{Workers: 1}) })
}
