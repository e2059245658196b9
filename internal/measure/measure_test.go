package measure

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Of every action that began, Totals says that it is in flight or how it ended.
func TestTotals(t *testing.T) {
	m := New()
	m.Begin(3, 2)
	m.End(&Outcome{Shard: 3, Action: "stack:draw", Took: time.Millisecond, Run: time.Microsecond, HasRun: true})
	m.Learn([]string{"stack:draw", "stack:draw", otherActions})
	m.Begin(11, 1) // the same shard
	m.End(&Outcome{Shard: 11, Action: "stack:draw", Took: time.Second, Err: errors.New("x")})
	m.Batch(1, 3, nil)
	m.Parts(0, time.Second, time.Second)
	c := m.Totals()
	if c.Dispatched != 3 || c.InFlight != 1 || c.Queue.Count != 1 || c.Wire.Count != 1 {
		t.Errorf("%d dispatched, %d in flight, %d and %d parts", c.Dispatched, c.InFlight, c.Queue.Count, c.Wire.Count)
	}
	if len(c.Actions) != 2 || c.Actions[0].Name != "stack:draw" || c.Actions[0].Outcomes["other"] != 1 ||
		c.Actions[1].Name != otherActions || c.Actions[1].Outcomes["ok"] != 1 || c.Actions[1].Run.Count != 1 {
		t.Errorf("actions: %+v", c.Actions)
	}
	if len(c.Batches) != 1 || c.Batches[0] != (BatchCount{1, "ok", 1}) || c.Sizes.Members != 3 ||
		c.Sizes.AtMost[1] != 0 || c.Sizes.AtMost[2] != 1 {
		t.Errorf("batches: %+v, sizes %+v", c.Batches, c.Sizes)
	}
}

// Of the traces in one bucket the last one is the exemplar.
func TestTheLastTraceIsTheExemplar(t *testing.T) {
	m := New()
	at := time.Unix(1, 0)
	for k := range 3 {
		m.Begin(k, 1)
		m.End(&Outcome{Shard: k, Action: "a", Took: time.Millisecond, At: at.Add(time.Duration(k)),
			Trace: trace.NewSpanContext(
				trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{byte(k + 1)},
					TraceFlags: trace.FlagsSampled})})
	}
	x := m.Totals().Actions[0].Exemplars
	if len(x) != 1 || !strings.HasPrefix(x[0].SpanID, "03") {
		t.Errorf("exemplars: %+v", x)
	}
}

// The last 32 errors are kept, newest first, and no more than 512 bytes of a message.
func TestRecentErrors(t *testing.T) {
	m := New()
	for k := range 40 {
		m.EngineError(time.Unix(int64(k), 0), "e", errors.New(strings.Repeat("x", 600)))
	}
	list := m.RecentErrors()
	if len(list) != maxRecent || list[0].At.Unix() != 39 || list[maxRecent-1].At.Unix() != 8 ||
		len(list[0].Message) != maxMessage {
		t.Errorf("%d errors, from %v to %v, %d bytes", len(list), list[0].At, list[len(list)-1].At,
			len(list[0].Message))
	}
}

// Counts has every outcome, also those of which there was none.
func TestCounts(t *testing.T) {
	var c Counts
	c.Action(0, nil)
	c.Action(CountShards-1, nil)
	if m := c.Actions(); m["ok"] != 2 || m["timeout"] != 0 || len(m) < 20 {
		t.Errorf("%v", m)
	}
}
