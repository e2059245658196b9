package peers

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// An answer may take long, because the line runs for long. If the network between two nodes is cut meanwhile,
// it never comes, and nothing says so. So nodes whose answers take long are asked something else.

// alivePath is what a node is asked for to see whether HTTP reaches it.
const alivePath = "/node/alive"

const (
	// probeAfter is after what time without an answer a node is asked whether it is reached, and how often
	// then. mostMissed is how often in a row it may not answer.
	probeAfter   = 5 * time.Second
	probeTimeout = 3 * time.Second
	mostMissed   = 2
)

// prober asks nodes whether HTTP reaches them, each by one question at a time.
type prober struct {
	client *http.Client
	after  time.Duration // probeAfter, but for tests

	mu      sync.Mutex // guards what follows
	running map[string]*probe
}

// probe is a question to a node. isReached is the answer, once ended is closed.
type probe struct {
	ended     chan struct{}
	isReached bool
}

// newProber returns a prober. It takes a new connection each time: one that is kept may be one that is cut.
func newProber(dialer *dialer, t *TLS) prober {
	return prober{after: probeAfter, running: map[string]*probe{}, client: &http.Client{Timeout: probeTimeout,
		Transport: &http.Transport{DialContext: dialer.DialContext, DialTLSContext: t.dialer(dialer),
			DisableKeepAlives: true}}}
}

// whileReached returns a context that ends once HTTP does not reach a node any more. The caller calls stop
// once it waits no more.
func (p *Peers) whileReached(ctx context.Context, address string) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(p.prober.after, func() {
		for missed := 0; ctx.Err() == nil; {
			if missed++; p.isReached(ctx, address) {
				missed = 0
			}
			if missed == mostMissed {
				cancel()
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(p.prober.after):
			}
		}
	})
	return ctx, func() {
		timer.Stop()
		cancel()
	}
}

// isReached asks a node whether HTTP reaches it. Any answer will do.
func (p *Peers) isReached(ctx context.Context, address string) bool {
	p.prober.mu.Lock()
	r := p.prober.running[address]
	isMine := r == nil
	if isMine {
		r = &probe{ended: make(chan struct{})}
		p.prober.running[address] = r
	}
	p.prober.mu.Unlock()
	if isMine {
		r.isReached = p.probe(address)
		p.prober.mu.Lock()
		delete(p.prober.running, address)
		p.prober.mu.Unlock()
		close(r.ended)
		return r.isReached
	}
	select {
	case <-r.ended:
		return r.isReached
	case <-ctx.Done():
		return true
	}
}

func (p *Peers) probe(address string) bool {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet,
		p.o.TLS.scheme()+"://"+address+alivePath, nil)
	if err != nil {
		return true
	}
	r.Header.Set("Authorization", "Bearer "+p.o.Secret)
	w, err := p.prober.client.Do(r)
	if err != nil {
		return false
	}
	_ = w.Body.Close()
	return true
}
