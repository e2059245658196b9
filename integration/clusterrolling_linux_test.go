package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hypertoken/internal/leaks"
)

// patientClient plays on engines of its own, in turn, without keys. It stays at one node as long as
// that takes its connections, and never sends a line again that may have been received.
type patientClient struct {
	engines   []string
	sequences []uint64 // of the engines
	urls      []string
	node      int
	client    *http.Client
	answers   atomic.Int64
	waits     []time.Duration
}

// play sends actions until stop is closed. Each has to have the next sequence.
func (p *patientClient) play(stop <-chan struct{}) error {
	for k := 0; ; k = (k + 1) % len(p.engines) {
		select {
		case <-stop:
			return nil
		default:
		}
		began, next := time.Now(), p.sequences[k]+1
		b, err := p.send(p.engines[k],
			fmt.Sprintf(`{"type":"game:setProperty","payload":{"key":"n","value":%d},"want":["sequence"]}`, next))
		var a struct {
			Sequence uint64
			Error    *struct{ Code, Message string }
		}
		took := time.Since(began)
		switch {
		case err != nil:
			return fmt.Errorf("%s at node %d: %w after %v", p.engines[k], p.node, err, took)
		case json.Unmarshal(b, &a) != nil || a.Error != nil:
			return fmt.Errorf("%s at node %d: %s after %v", p.engines[k], p.node, b, took)
		case a.Sequence != next:
			return fmt.Errorf("%s: the answer to the action %d has the sequence %d", p.engines[k], next, a.Sequence)
		}
		p.sequences[k] = next
		p.answers.Add(1)
		p.waits = append(p.waits, took)
	}
}

// send sends a line to the first node that takes the connection. A node that is about to end says so.
func (p *patientClient) send(engine, line string) ([]byte, error) {
	for refusals := 0; ; refusals++ {
		r, err := http.NewRequest(http.MethodPost, p.urls[p.node]+"/v1/engines/"+engine, strings.NewReader(line))
		if err != nil {
			return nil, err
		}
		w, err := p.client.Do(r)
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" && refusals < 100 {
			p.node = (p.node + 1) % len(p.urls)
			continue
		}
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(w.Body)
		_ = w.Body.Close()
		if w.Close {
			p.node = (p.node + 1) % len(p.urls)
		}
		return bytes.TrimSpace(b), err
	}
}

// patientClients are clients that play at the same time.
type patientClients struct {
	list    []*patientClient
	stop    chan struct{}
	failed  chan error // has room for one error of each client
	running sync.WaitGroup
}

// startPatientClients makes engines, and has clients play on them, each on so many of its own.
func startPatientClients(t *testing.T, urls []string, clients, enginesOfEach int) *patientClients {
	t.Helper()
	all := &patientClients{stop: make(chan struct{}), failed: make(chan error, clients)}
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	t.Cleanup(transport.CloseIdleConnections)
	var made sync.WaitGroup
	room := make(chan struct{}, 16)
	for k := range clients {
		p := &patientClient{urls: urls, node: k % len(urls), client: &http.Client{Transport: transport},
			sequences: make([]uint64, enginesOfEach)}
		for j := range enginesOfEach {
			p.engines = append(p.engines, fmt.Sprintf("patient%d-%d", k, j))
		}
		all.list = append(all.list, p)
		made.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			for _, engine := range p.engines {
				if b, err := p.send(engine, `{"setup":{}}`); err != nil || !strings.HasPrefix(string(b), `{"ok"`) {
					t.Errorf("%s can't be set up: %s %v", engine, b, err)
				}
			}
		})
	}
	made.Wait()
	for _, p := range all.list {
		all.running.Go(func() {
			if err := p.play(all.stop); err != nil {
				all.failed <- err
			}
		})
	}
	return all
}

// getOn waits until each client has had an answer for each of its engines.
func (all *patientClients) getOn(t *testing.T) {
	t.Helper()
	goals := make([]int64, len(all.list))
	for k, p := range all.list {
		goals[k] = p.answers.Load() + int64(len(p.engines))
	}
	untilTrue(t, "all clients got on", func() bool {
		select {
		case err := <-all.failed:
			all.failed <- err
			return true
		default:
		}
		for k, p := range all.list {
			if p.answers.Load() < goals[k] {
				return false
			}
		}
		return true
	})
}

// end has the clients end, and reports their errors and how long they waited.
func (all *patientClients) end(t *testing.T) {
	t.Helper()
	close(all.stop)
	all.running.Wait()
	close(all.failed)
	for err := range all.failed {
		t.Error(err)
	}
	var waits []time.Duration
	for _, p := range all.list {
		waits = append(waits, p.waits...)
	}
	slices.Sort(waits)
	if len(waits) > 0 {
		t.Logf("%d answers; p50 %v, p99 %v, the longest wait %v", len(waits),
			waits[len(waits)/2].Round(time.Millisecond/10), waits[len(waits)*99/100].Round(time.Millisecond),
			waits[len(waits)-1].Round(time.Millisecond))
	}
}

// untilTrue waits until something is true that processes bring about.
func untilTrue(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	for until := time.Now().Add(2 * time.Minute); !isTrue(); betweenLooks() {
		if time.Now().After(until) {
			t.Fatalf("after two minutes it is not true that %s", what)
		}
	}
}

// terminate ends a node by SIGTERM, and waits until that process is gone.
func (p *clusterProcess) terminate(t *testing.T) {
	t.Helper()
	ended := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.restarts
	}
	before, began := ended(), time.Now()
	p.signal(syscall.SIGTERM)
	untilTrue(t, p.name+" has ended", func() bool { return ended() > before })
	t.Logf("%s ended after %v", p.name, time.Since(began).Round(time.Millisecond))
}

// slots returns how many slots a node has, as it says itself; 0 if it does not answer.
func (c *clusterUnderTest) slots(k int) int {
	w, err := http.Get(c.urls[k] + "/v1/cluster")
	if err != nil {
		return 0
	}
	defer w.Body.Close()
	var overview struct{ Slots int }
	if err := json.NewDecoder(w.Body).Decode(&overview); err != nil {
		return 0
	}
	return overview.Slots
}

// All nodes are restarted one after the other, as for a new version. Clients without keys get each answer
// once, in order, and no error. In the end each node has slots again: those that it should have came back.
func TestRollingRestart(t *testing.T) {
	leaks.Check(t)
	clients, enginesOfEach := 24, 1
	if os.Getenv("HYPERTOKEN_DEEP") != "" {
		clients, enginesOfEach = 100, 10
	}
	c := &clusterUnderTest{}
	defer c.stop(t)
	c.start(t)
	all := startPatientClients(t, c.urls, clients, enginesOfEach)
	for _, p := range c.nodes {
		all.getOn(t)
		p.terminate(t)
		c.untilReady(t, 2*time.Minute)
	}
	for k, p := range c.nodes {
		untilTrue(t, p.name+" has slots", func() bool { return c.slots(k) > 0 })
	}
	all.getOn(t)
	all.end(t)
}
