package toptest

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// Epoch is the time of step 0 by the server's clock.
var Epoch = time.Unix(Start+age, 0).UTC()

// Server answers each reading with the next step, once the test allows it. Until then the screen
// does not change.
type Server struct {
	Address  string
	NoStatus bool // GET /v1/status is not found; set it before the first reading

	isNode bool // it is a node of a cluster
	steps  chan int
	asked  chan struct{} // has one for each reading that was begun
	next   int
	server *http.Server
}

// NewServer starts a server that answers the first reading at once. It is closed with the test.
func NewServer(t testing.TB) *Server { return newServer(t, false) }

// NewNode starts a server that is a node of a cluster.
func NewNode(t testing.TB) *Server { return newServer(t, true) }

func newServer(t testing.TB, isNode bool) *Server {
	s := &Server{Address: "127.0.0.1:0", isNode: isNode, steps: make(chan int, 16), asked: make(chan struct{}, 1024)}
	s.Listen(t)
	t.Cleanup(s.Close)
	s.Step(1)
	return s
}

// Step lets so many readings go on.
func (s *Server) Step(n int) {
	for range n {
		s.steps <- s.next
		s.next++
	}
}

// Asked waits until all steps are taken in: a reading waits for the next one. It is called once,
// before the server is closed.
func (s *Server) Asked() {
	for range s.next + 1 {
		<-s.asked
	}
}

// Listen has the server listen, again at its address once it has one.
func (s *Server) Listen(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", s.Address)
	if err != nil {
		t.Fatal(err)
	}
	s.Address = l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/cluster", s.cluster)
	server := &http.Server{Handler: mux}
	s.server = server
	go func() { _ = server.Serve(l) }() // ends with Close
}

// Close ends the server and all its connections at once.
func (s *Server) Close() { _ = s.server.Close() }

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	select {
	case s.asked <- struct{}{}:
	default: // nobody waits for that many
	}
	select {
	case step := <-s.steps:
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Header().Set("Date", Epoch.Add(time.Duration(step)*time.Second).Format(http.TimeFormat))
		fmt.Fprint(w, Metrics(step))
		if s.isNode {
			fmt.Fprint(w, NodeMetrics(step))
		}
	case <-r.Context().Done():
	}
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if s.NoStatus {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, Status)
}

func (s *Server) cluster(w http.ResponseWriter, r *http.Request) {
	if !s.isNode {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, Cluster)
}

// Clock returns a clock that is a second further at each reading, from Epoch on.
func Clock() func() time.Time {
	n := -1
	return func() time.Time {
		n++
		return Epoch.Add(time.Duration(n) * time.Second)
	}
}
