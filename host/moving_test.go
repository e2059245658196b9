package host

import (
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/ipc"
	"hypertoken/journal"
)

// An engine that is to move while it is placed answers something first: one that takes long to place would only ever move.
func TestAPlacedEngineAnswersBeforeItMoves(t *testing.T) {
	m := engineMachine{limits: &machineLimits{maxAttempts: 2, openTimeout: time.Minute}}
	here := place{id: 1}
	// took steps the machine and says what it asks for; what is to be sent is sent.
	var id uint64
	took := func(ev engineEvent) (kinds []engineEffectKind) {
		m.step(ev)
		for k := 0; k < len(m.effects); k++ {
			f := m.effects[k]
			if kinds = append(kinds, f.kind); f.kind == effSend {
				id++
				m.step(engineEvent{kind: evSent, id: id})
			}
		}
		m.effects = m.effects[:0]
		return kinds
	}
	took(engineEvent{kind: evDispatch, req: &request{kind: ipc.Dispatch, what: "stack:draw"}})
	took(engineEvent{kind: evLoaded, stored: &journal.Stored{}})
	took(engineEvent{kind: evPlace, place: here})
	if id != 2 {
		t.Fatalf("a placing of %d pieces", id)
	}
	o := ipc.Outcome{Checksum: xxhash.Sum64(nil)}
	body := ipc.AppendBytes(o.AppendHead(nil), 0)
	took(engineEvent{kind: evMove, later: true})
	took(engineEvent{kind: evAnswer, place: here, id: 1, body: body})
	took(engineEvent{kind: evAnswer, place: here, id: 2, body: body})
	if m.state != engineLive || m.sent.len() != 1 {
		t.Fatalf("the engine is %v with %d requests sent", m.state, m.sent.len())
	}
	took(engineEvent{kind: evAnswer, place: here, id: 3, body: body})
	if m.state != engineOut {
		t.Errorf("it has answered, and is %v", m.state)
	}
}
