package integration

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// renewals waits until a node of a cluster has renewed its lease n times. That is the clock of faults:
// it stands still while no node can renew its lease.
type renewals struct {
	n     uint64
	conns []*nats.Conn
	ended chan struct{} // closed then

	mu sync.Mutex // guards what follows
	// first has the first renewals that came, by the subject of the node's life.
	first  map[string]uint64
	isOver bool
}

// memberSubjects are the subjects of the records of nodes, with the default --cluster-name.
const memberSubjects = "hypertoken.m.*"

// watchRenewals begins to wait. It has a connection to each NATS server that is there, because one of
// them may stand still meanwhile. The caller calls close.
func watchRenewals(servers []string, n uint64) *renewals {
	w := &renewals{n: n, ended: make(chan struct{}), first: map[string]uint64{}}
	for _, server := range servers {
		c, err := nats.Connect(server, nats.NoReconnect(), nats.Timeout(30*time.Second))
		if err != nil {
			continue // it was killed, and starts again
		}
		w.conns = append(w.conns, c)
		_, _ = c.Subscribe(memberSubjects, w.note)
	}
	return w
}

// note takes in a member record. It comes once over each connection.
func (w *renewals) note(m *nats.Msg) {
	var r struct{ Renewal uint64 }
	if json.Unmarshal(m.Data, &r) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	first, isKnown := w.first[m.Subject]
	if !isKnown {
		first = r.Renewal
		w.first[m.Subject] = first
	}
	if r.Renewal >= first+w.n && !w.isOver {
		w.isOver = true
		close(w.ended)
	}
}

func (w *renewals) close() {
	for _, c := range w.conns {
		c.Close()
	}
}
