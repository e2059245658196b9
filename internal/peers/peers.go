// Package peers takes lines from a node of a cluster to the node that has the engine.
//
// A line is sent over HTTP, to a listener that is for nodes only. Who asks there has to know the
// cluster's secret. A line is never forwarded twice: a node that does not have the engine either
// says who has it, as far as it knows, and the first node goes on.
package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Owner is the node that has an engine, or is about to.
type Owner struct {
	Address string `json:"address"`
	Epoch   uint64 `json:"epoch"`
}

// Answer is a node's answer to a line. If the line was refused before anything ran, Status is the
// status of a request that begins with such a line; 0 otherwise.
type Answer struct {
	Line   []byte
	Status int
}

// Options configure [New]. All of them are needed but Draining, Clients, TLS, Way and Messenger.
type Options struct {
	// Self is the address at which the other nodes reach this one.
	Self string
	// Secret is what the nodes of the cluster know, and nobody else.
	Secret string
	// OwnerOf returns the owner that an error of this node's host names.
	OwnerOf func(error) (Owner, bool)
	// SlotOf returns the slot of an engine: engines of one slot have one owner.
	SlotOf func(engine string) int
	// Ready returns why this node can't have engines at the moment, or "".
	Ready func() string
	// Overview returns the cluster as this node sees it, with the owner of each slot if hasOwners is true.
	// It waits for servers until ctx ends.
	Overview func(ctx context.Context, hasOwners bool) Overview
	// Draining returns the addresses of the living members that are about to end.
	Draining func() []string
	// Clients returns the URLs at which clients reach members that live, and such that have died a while
	// ago. With nil there are none.
	Clients func() []string
	// IsAlive reports whether a node with an address is a living member.
	IsAlive func(address string) bool
	// MaxLine bounds a line in bytes.
	MaxLine int64
	// TLS is how nodes speak to each other. With nil they use none.
	TLS *TLS
	// Way returns the address at which this node reaches one that has an address, if that is another one.
	Way func(address string) string
	// Messenger takes lines to living nodes that HTTP does not reach; nil if nothing does.
	Messenger Messenger
}

// Peers are the nodes of a cluster, as one of them sees them.
type Peers struct {
	o      Options
	secret [32]byte
	client *http.Client
	routes sync.Map // slot to Owner: the last that was heard of
	lines  *prometheus.CounterVec
	// draining has the addresses of the nodes that are about to end.
	draining atomic.Pointer[map[string]bool]
	// answer is what Handler was given.
	answer func(ctx context.Context, engine string, line []byte, first int) (Answer, error)
	tokens tokens
	prober prober

	mu    sync.Mutex // guards what follows
	alive map[string]bool
	// cut has the nodes that HTTP did not reach, and until when it is not tried again.
	cut  map[string]time.Time
	sent map[string]map[*sending]struct{} // lines without an answer, by the address of their node
}

// sending is a line that was sent and has no answer yet. giveUp ends the wait for it.
type sending struct{ giveUp context.CancelFunc }

// MinSecret is the least length of a secret, in bytes. A shorter one could be guessed.
const MinSecret = 16

// The times of a connection to another node. connectTimeout is short: until it is over, a line waits
// that could go to another node.
const (
	connectTimeout = time.Second
	idleTimeout    = 90 * time.Second
	idlePerNode    = 64
	// continueTimeout is after what time a body is sent that nobody has asked for. A node that works asks
	// for it at once.
	continueTimeout = 5 * time.Second
)

// New returns the peers of a node.
func New(o Options) *Peers {
	dialer := &dialer{net.Dialer{Timeout: connectTimeout}, o.Way}
	lines := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hypertoken_serve_forwarded_lines_total",
		Help: "Lines that were sent to another node, by what came of it."}, []string{"outcome"})
	for _, outcome := range []string{"answered", "answered_by_message", "moved", "unreached", "lost"} {
		lines.WithLabelValues(outcome)
	}
	return &Peers{o: o, lines: lines, secret: sha256.Sum256([]byte(o.Secret)), alive: map[string]bool{},
		cut: map[string]time.Time{}, prober: newProber(dialer, o.TLS),
		sent: map[string]map[*sending]struct{}{}, client: &http.Client{
			Transport: &http.Transport{DialContext: dialer.DialContext, DialTLSContext: o.TLS.dialer(dialer),
				MaxIdleConnsPerHost: idlePerNode, IdleConnTimeout: idleTimeout, DisableCompression: true,
				ExpectContinueTimeout: continueTimeout},
			// A node never redirects. A line must not go to anybody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
}

// dialer connects to other nodes.
type dialer struct {
	net.Dialer
	way func(address string) string // nil if the address of a node is where it is reached
}

// DialContext connects to the node that has an address.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if d.way != nil {
		address = d.way(address)
	}
	return d.Dialer.DialContext(ctx, network, address)
}

// MembersChanged is to be called after a member has come or died. Lines that were sent to a node that
// has died are not waited for any more: a process that stands still would answer them when it goes on,
// or never.
func (p *Peers) MembersChanged() {
	p.noteDraining()
	p.routes.Range(func(slot, o any) bool {
		p.mu.Lock()
		hasDied := p.hasDiedLocked(o.(Owner).Address)
		p.mu.Unlock()
		if hasDied {
			p.routes.CompareAndDelete(slot, o)
		}
		return true
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, list := range p.sent {
		if p.hasDiedLocked(address) {
			for s := range list {
				s.giveUp()
			}
		}
	}
}

// hasDiedLocked reports whether a node was alive and is not any more. One that was never seen may have
// come a moment ago. The lock mu is held.
func (p *Peers) hasDiedLocked(address string) bool {
	if p.o.IsAlive(address) {
		p.alive[address] = true
		return false
	}
	return p.alive[address]
}

// beginSending notes a line that is sent to a node. The returned context ends if the node dies. The
// caller calls end once it waits no more.
func (p *Peers) beginSending(ctx context.Context, address string) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	s := &sending{cancel}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sent[address] == nil {
		p.sent[address] = map[*sending]struct{}{}
	}
	p.sent[address][s] = struct{}{}
	if p.hasDiedLocked(address) {
		cancel()
	}
	return ctx, func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		if delete(p.sent[address], s); len(p.sent[address]) == 0 {
			delete(p.sent, address)
		}
	}
}

// isCut reports whether HTTP did not reach a node a moment ago.
func (p *Peers) isCut(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.cut[address]
	if ok && time.Now().After(until) {
		delete(p.cut, address)
		ok = false
	}
	return ok
}

// setCut notes that messages reach a node, and HTTP does not.
func (p *Peers) setCut(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut[address] = time.Now().Add(cutFor)
}

// Close closes the connections that are not in use.
func (p *Peers) Close() { p.client.CloseIdleConnections() }

// Collector returns the collector of the metrics.
func (p *Peers) Collector() prometheus.Collector { return p.lines }

// Overview returns the cluster as this node sees it, as [Options] say.
func (p *Peers) Overview(ctx context.Context, hasOwners bool) Overview {
	return p.o.Overview(ctx, hasOwners)
}

// Ready returns why this node can't have engines at the moment, or "".
func (p *Peers) Ready() string { return p.o.Ready() }

// Route returns the other node that has an engine, as far as it is known.
func (p *Peers) Route(engine string) (Owner, bool) {
	o, ok := p.routes.Load(p.o.SlotOf(engine))
	if !ok {
		return Owner{}, false
	}
	return o.(Owner), true
}

// Forget says that the node that Route names does not have the engine, or is not there.
func (p *Peers) Forget(engine string) { p.routes.Delete(p.o.SlotOf(engine)) }

// SlotOf returns the slot of an engine.
func (p *Peers) SlotOf(engine string) int { return p.o.SlotOf(engine) }

// Given takes in that this node has given a slot to another one.
func (p *Peers) Given(slot int, to Owner) { p.routes.Store(slot, to) }

// ownerOf returns the owner that an error names: one of this node's host, or a [MovedError].
func (p *Peers) ownerOf(err error) (Owner, bool) {
	var moved *MovedError
	if errors.As(err, &moved) {
		return moved.Owner, true
	}
	return p.o.OwnerOf(err)
}

// Moved takes in who has an engine that this node's host has not. It returns false if the error is
// another one, or names this node.
func (p *Peers) Moved(engine string, err error) (Owner, bool) {
	o, ok := p.ownerOf(err)
	if !ok || o.Address == "" || o.Address == p.o.Self {
		return Owner{}, false
	}
	p.routes.Store(p.o.SlotOf(engine), o)
	return o, true
}

// The errors of Send. With ErrUnreached and a [MovedError] nothing ran, with ErrLost it may have.
var (
	ErrUnreached = errors.New("the node was not reached")
	ErrLost      = errors.New("the node has not answered")
)

// MovedError says that a node does not have the engine, and who has it as far as it knows.
type MovedError struct{ Owner Owner }

// Error implements error.
func (e *MovedError) Error() string {
	if e.Owner.Address == "" {
		return "the node that was asked does not have the engine, and does not know who has"
	}
	return "the engine is at " + e.Owner.Address
}

// The headers of a forwarded line and its answer.
const (
	headerFirst  = "Hypertoken-First"
	headerStatus = "Hypertoken-Status"
)

// Send has another node answer a line. first is the number of its first action. After a
// [MovedError], Route has the owner that it names. If HTTP does not reach the node, and it lives, the line
// goes over Options.Messenger.
//
// Send ends if the node dies, or if HTTP does not reach it any more: then it fails with ErrLost.
func (p *Peers) Send(ctx context.Context, to Owner, engine string, line []byte, first int) (Answer, error) {
	answer, outcome, err := p.sendEitherWay(ctx, to, engine, line, first)
	var moved *MovedError
	switch {
	case errors.As(err, &moved):
		outcome = "moved"
	case errors.Is(err, ErrUnreached):
		outcome = "unreached"
	case err != nil:
		outcome = "lost"
	}
	p.lines.WithLabelValues(outcome).Inc()
	return answer, err
}

// sendEitherWay sends a line over HTTP or as a message. outcome is for a line that was answered.
func (p *Peers) sendEitherWay(ctx context.Context, to Owner, engine string, line []byte, first int) (answer Answer,
	outcome string, err error) {
	const byHTTP, byMessage = "answered", "answered_by_message"
	var errMessage error
	if p.o.Messenger != nil && p.isCut(to.Address) {
		answer, errMessage = p.sendMessage(ctx, to, engine, line, first)
		if !errors.Is(errMessage, ErrUnreached) {
			return answer, byMessage, errMessage
		}
	}
	answer, err = p.send(ctx, to, engine, line, first)
	var cut *connectionError
	if p.o.Messenger == nil || !errors.Is(err, ErrUnreached) || !errors.As(err, &cut) || !p.o.IsAlive(to.Address) {
		return answer, byHTTP, err
	}
	if errMessage == nil {
		answer, errMessage = p.sendMessage(ctx, to, engine, line, first)
		if !errors.Is(errMessage, ErrUnreached) {
			p.setCut(to.Address)
			return answer, byMessage, errMessage
		}
	}
	return Answer{}, byMessage, fmt.Errorf("%w; as a message: %w", err, errMessage)
}

// connectionError is why a request got no answer by HTTP.
type connectionError struct{ error }

// Unwrap returns the error itself.
func (e *connectionError) Unwrap() error { return e.error }

func (p *Peers) send(ctx context.Context, to Owner, engine string, line []byte, first int) (Answer, error) {
	ctx, end := p.beginSending(ctx, to.Address)
	defer end()
	if ctx.Err() != nil {
		return Answer{}, fmt.Errorf("%w: it is no member any more", ErrUnreached)
	}
	ctx, stop := p.whileReached(ctx, to.Address)
	defer stop()
	address := p.o.TLS.scheme() + "://" + to.Address + "/node/lines/" + url.PathEscape(engine)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	d := &delivery{}
	d.setBody(r, line)
	r.Header.Set("Authorization", "Bearer "+p.o.Secret)
	r.Header.Set(headerFirst, strconv.Itoa(first))
	if p.isDraining(to.Address) {
		r.Header.Set(headerExpect, expectContinue)
	}
	w, err := p.client.Do(r)
	if err != nil {
		return Answer{}, &connectionError{sendError(err, d)}
	}
	defer w.Body.Close()
	body, err := io.ReadAll(w.Body)
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("%w: %w", ErrLost, err)
	case w.StatusCode == http.StatusMisdirectedRequest:
		moved := &MovedError{}
		if err := json.Unmarshal(body, &moved.Owner); err != nil {
			return Answer{}, fmt.Errorf("%w: %w", ErrUnreached, err)
		}
		return Answer{}, p.hasMoved(engine, moved.Owner)
	case w.StatusCode != http.StatusOK: // it stops, or wants another secret
		return Answer{}, fmt.Errorf("%w: it says %s: %s", ErrUnreached, w.Status, bytes.TrimSpace(body))
	}
	status, _ := strconv.Atoi(w.Header.Get(headerStatus))
	return Answer{body, status}, nil
}

// hasMoved takes in who has an engine, as a node says that has not. It returns the error that says so.
func (p *Peers) hasMoved(engine string, to Owner) error {
	if to.Address == "" || to.Address == p.o.Self {
		p.Forget(engine)
	} else {
		p.routes.Store(p.o.SlotOf(engine), to)
	}
	return &MovedError{to}
}

// guard lets in only who knows the secret.
func (p *Peers) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given := sha256.Sum256([]byte(bearer(r)))
		if subtle.ConstantTimeCompare(given[:], p.secret[:]) != 1 {
			http.Error(w, "this is for the nodes of the cluster: the secret is another one", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Handler answers the lines and the requests that other nodes send. answer answers a line, or fails
// with an error of this node's host: then nothing of the line ran. requests answers whole requests, and
// those of [Peers.Call] and [Peers.Withdraw].
func (p *Peers) Handler(answer func(ctx context.Context, engine string, line []byte, first int) (Answer, error),
	requests http.Handler) http.Handler {
	p.answer = answer
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+alivePath, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	mux.Handle(requestPath+"/", http.StripPrefix(requestPath, requests))
	mux.HandleFunc("POST /node/lines/{engine}", func(w http.ResponseWriter, r *http.Request) {
		line, err := io.ReadAll(http.MaxBytesReader(w, r.Body, p.o.MaxLine))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		first, err := strconv.Atoi(r.Header.Get(headerFirst))
		if err != nil || first < 1 {
			http.Error(w, headerFirst+": want a number from 1", http.StatusBadRequest)
			return
		}
		engine := r.PathValue("engine")
		// The line runs even if the other node goes away, as that of a client does.
		a, err := answer(context.WithoutCancel(r.Context()), engine, line, first)
		if err != nil {
			p.Misdirected(w, err)
			return
		}
		if a.Status != 0 {
			w.Header().Set(headerStatus, strconv.Itoa(a.Status))
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(a.Line)
	})
	return p.guard(mux)
}

func bearer(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return token
}
