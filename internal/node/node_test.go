package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"hypertoken/host"
	"hypertoken/internal/serve"
	"hypertoken/journal"
	"hypertoken/journal/jetstream"
	"hypertoken/wasm"
)

// startNATS starts a NATS server in this process, and returns its URL.
func startNATS(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true,
		StoreDir: t.TempDir(), NoLog: true, NoSigs: true, MaxPayload: 128 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not listen")
	}
	return s.ClientURL()
}

// runningNode is a node that serves clients.
type runningNode struct {
	*Node
	url string
}

// startNode starts a node of a cluster whose engines run in this process.
func startNode(t *testing.T, nats string) *runningNode {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	log := slog.New(slog.DiscardHandler)
	o := Options{Address: address, Secret: "a secret of the tests", MaxLine: 1 << 20, Logger: log,
		Store: jetstream.Options{Servers: []string{nats}, Sync: jetstream.SyncGivenUp, Replicas: 1, Address: address}}
	o.Cores = CoreOptions{Own: wasm.Builtin(), Open: func(ctx context.Context, store journal.Store,
		_ []byte) (*host.Host, error) {
		return host.New(ctx, host.Options{InProcess: true, Store: store, Logger: log})
	}}
	n, err := Join(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	h, err := n.OpenHost(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	so := serve.Defaults()
	so.Logger, so.InProcess, so.IsDurable, so.Peers = log, true, true, n.Peers()
	s, err := serve.New(h, so)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.Serve(s)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = h.Shutdown(context.Background())
		s.Wait()
		n.Leave(context.Background())
	})
	return &runningNode{n, "http://" + l.Addr().String()}
}

// send sends lines to an engine, and returns what is answered.
func (n *runningNode) send(t *testing.T, engine, lines string) string {
	t.Helper()
	r, err := http.Post(n.url+"/v1/engines/"+engine, "application/json", strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// until waits until something is true.
func until(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for since := time.Now(); !isTrue(); <-ticker.C {
		if time.Since(since) > time.Minute {
			t.Fatalf("after a minute it is not true that %s", what)
		}
	}
}

// Two nodes live and do not reach each other by HTTP. A line at the wrong one goes over the NATS server, and
// is answered.
func TestNodesThatDoNotReachEachOther(t *testing.T) {
	nats := startNATS(t)
	a, b := startNode(t, nats), startNode(t, nats)
	for _, n := range []*runningNode{a, b} {
		until(t, "the nodes see each other", func() bool { return len(n.members.Living()) == 2 })
	}
	engine := ""
	for k := 0; engine == ""; k++ {
		name := fmt.Sprint("e", k)
		const deck = `{"setup":{"stack":[{"id":"first"},{"id":"second"},{"id":"third"}]}}`
		if got := a.send(t, name, deck); !strings.Contains(got, `"ok":true`) {
			t.Fatal(got)
		}
		if slices.Contains(b.members.Owned(), jetstream.SlotOf(name)) {
			engine = name
		}
	}
	_ = b.server.Close() // its listener for other nodes, and what is connected
	for _, row := range []struct{ line, want string }{
		{`{"type":"stack:draw","key":"k"}`, `"third"`},
		{`{"type":"stack:draw","key":"k"}`, `"third"`}, // the first answer once more
		{`{"type":"stack:draw"}`, `"second"`},
		{`{"type":"stack:nothing"}`, `"unknown_action"`},
		{`{"digest":true}`, `"digest"`},
		{`{"type":"stack:draw","timeout":100,"payload":{"x":"` + strings.Repeat("x", 128<<10) + `"}}`, `"timeout"`},
	} {
		if got := a.send(t, engine, row.line); !strings.Contains(got, row.want) {
			t.Errorf("%.60s: %s, want %s", row.line, got, row.want)
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.peers.Collector())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byMessage := 0.0
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == "answered_by_message" {
			byMessage = m.GetCounter().GetValue()
		}
	}
	if byMessage != 5 {
		t.Errorf("%v lines were answered by message, want 5", byMessage)
	}
}
