package serve

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hypertoken/host"
	"hypertoken/journal"
	"hypertoken/metrics"
)

// How the server of a node goes on with another host, which has another core. Both have the same store.
// What is opened from then on is opened on the new host. Engines of the former one are closed, a few at
// a time, each once the lines that run on it have ended. The next line opens such an engine on the new
// host, which takes its journal over.

const (
	// changeMost is how many engines are being closed at a time when the host changes.
	changeMost = 16
	// changeTime is for how long a call waits for a host with the core that journals are to be with.
	changeTime = 30 * time.Second
)

// served is a host that the server has, or had.
type served struct {
	*host.Host
	// users are the calls that use the host itself. An engine that is open on it is no call.
	users    sync.WaitGroup
	replaced chan struct{} // closed once another host has taken its place
}

func newServed(h *host.Host) *served { return &served{Host: h, replaced: make(chan struct{})} }

// ChangeHost has the server go on with another host. It returns once nothing uses the former one any
// more, which the caller then shuts down; or once ctx ends, and then the former one may still be in use.
func (s *Server) ChangeHost(ctx context.Context, h *host.Host) {
	former := s.engines.replaceHost(h)
	s.figures.change(h)
	s.engines.leaveHost(ctx, former)
}

// Host returns the host that the server opens engines on.
func (s *Server) Host() *host.Host { return s.engines.present() }

// present returns the host that engines are opened on.
func (g *engines) present() *host.Host {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.host.Host
}

// acquire returns the host that engines are opened on, with one more user: the caller calls Done of
// users.
func (g *engines) acquire() *served {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.host.users.Add(1)
	return g.host
}

// onHost calls f with the host that engines are opened on. If f fails because journals are to be with
// another core, onHost waits for the host with that core, and calls f again.
func (g *engines) onHost(ctx context.Context, f func(*host.Host) error) error {
	for {
		s := g.acquire()
		err := f(s.Host)
		s.users.Done()
		if !errors.Is(err, journal.ErrNotTarget) || !g.awaitReplaced(ctx, s) {
			return err
		}
	}
}

// awaitReplaced waits until a host is replaced. It returns false if that does not happen in time, or if
// ctx or the server ends.
func (g *engines) awaitReplaced(ctx context.Context, s *served) bool {
	timer := time.NewTimer(changeTime)
	defer timer.Stop()
	select {
	case <-s.replaced:
		return true
	case <-timer.C:
	case <-ctx.Done():
	case <-g.life.Done():
	}
	return false
}

// replaceHost has engines opened on another host from now on, and returns the former one.
func (g *engines) replaceHost(h *host.Host) (former *served) {
	g.mu.Lock()
	defer g.mu.Unlock()
	former, g.host = g.host, newServed(h)
	close(former.replaced)
	return former
}

// leaveHost closes the engines that are open on a host which was replaced. It returns once all are
// closed and no call uses the host, or ctx ends.
func (g *engines) leaveHost(ctx context.Context, former *served) {
	room := make(chan struct{}, changeMost)
	for _, name := range g.openOn(former.Host) {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		gone := g.close(name, former.Host)
		g.background.Go(func() {
			<-gone
			<-room
		})
	}
	// Engines that were being opened meanwhile are on their way out once they are open.
	idle := make(chan struct{})
	g.background.Go(func() {
		former.users.Wait()
		for _, name := range g.openOn(former.Host) {
			<-g.close(name, former.Host)
		}
		close(idle)
	})
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// openOn returns the names of the engines that are open on a host.
func (g *engines) openOn(h *host.Host) (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, e := range g.list {
		if e.engine != nil && e.engine.Host() == h {
			names = append(names, name)
		}
	}
	return names
}

// close begins to close an engine that is open on a host, and returns a channel that is closed once it
// is. An engine whose line still runs is closed when the line has ended.
func (g *engines) close(name string, h *host.Host) (gone <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.list[name]
	if e == nil || e.engine == nil || e.engine.Host() != h {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	if e.leaving == isStaying {
		g.leaveLocked(name, e, isClosing)
	}
	return e.gone
}

// figures is the collector of the metrics of the host that the server has. Those of another host begin
// anew, as they do in a new process.
type figures struct {
	present atomic.Pointer[metrics.Collector]
}

// change has the figures of another host collected.
func (f *figures) change(h *host.Host) { f.present.Store(metrics.NewCollector(h, nil)) }

// Describe implements [prometheus.Collector].
func (f *figures) Describe(to chan<- *prometheus.Desc) { f.present.Load().Describe(to) }

// Collect implements [prometheus.Collector].
func (f *figures) Collect(ch chan<- prometheus.Metric) { f.present.Load().Collect(ch) }
