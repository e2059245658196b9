package serve

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/host"
)

// engines are the engines that clients have made, by name.
type engines struct {
	host       *host.Host
	max        int
	perAddress int           // 0 for no bound
	idle       time.Duration // 0 for ever
	log        *slog.Logger

	mu       sync.Mutex // guards the fields below, and the entries
	list     map[string]*entry
	made     map[netip.Prefix]int // open engines by the address that made them
	sockets  map[string]int       // open WebSockets by the name of their engine
	deletion sync.WaitGroup

	expired atomic.Int64 // engines that were idle for too long
}

// entry is an engine, or one that is on its way in or out.
type entry struct {
	ready    chan struct{} // closed once it is open, or could not be opened
	engine   *host.Engine  // nil until then
	users    int           // lines that run
	deleting bool
	gone     chan struct{} // closed once it is deleted

	maker  netip.Prefix      // the address that made it
	last   time.Time         // when a line of it ended last
	gauges map[string]*gauge // of its answers, by the action; "" for what has no action
}

// maxGauges bounds the actions of an engine whose answers are foreseen by themselves. All others share a gauge.
const maxGauges = 256

// stateGauge is the key of the gauge of an engine's state. No action has that name.
const stateGauge = "\x00state"

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Codes of this server's own errors, beside those of the host.
const (
	codeExists   = "exists"
	codeNotFound = "not_found"
	codeQuota    = "quota_exceeded"
)

func failure(code, format string, args ...any) error {
	return &host.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func unknown(name string) error {
	return failure(codeNotFound, `there is no engine %q: send {"setup":{}} first, or list them with GET /v1/engines`, name)
}

// create opens a new engine for a client.
func (g *engines) create(ctx context.Context, name string, setup host.Raw, maker netip.Prefix) error {
	g.mu.Lock()
	switch e := g.list[name]; {
	case e != nil && e.deleting:
		g.mu.Unlock()
		return failure(codeExists, "the engine %q is being deleted: try again once it is deleted", name)
	case e != nil:
		g.mu.Unlock()
		return failure(codeExists,
			"an engine %q exists already: DELETE /v1/engines/%s first, or choose another name", name, name)
	case len(g.list) >= g.max:
		g.mu.Unlock()
		return failure(host.ErrOverloaded.Code,
			"%d engines are open, as many as --max-engines allows: DELETE one first, or raise it", g.max)
	case g.perAddress > 0 && g.made[maker] >= g.perAddress:
		g.mu.Unlock()
		return failure(codeQuota, "%d engines of this address are open, as many as --max-engines-per-address allows: "+
			"DELETE one first", g.perAddress)
	}
	e := &entry{ready: make(chan struct{}), gone: make(chan struct{}), maker: maker, last: time.Now(),
		gauges: map[string]*gauge{}}
	g.list[name] = e
	g.made[maker]++
	g.mu.Unlock()

	engine, err := g.host.Open(ctx, name, host.EngineOptions{Setup: setup})
	g.mu.Lock()
	defer g.mu.Unlock()
	defer close(e.ready)
	if err != nil {
		g.forgetLocked(name, e)
		return err
	}
	e.engine, e.last = engine, time.Now()
	return nil
}

// forgetLocked takes an entry off the list. The lock mu is held.
func (g *engines) forgetLocked(name string, e *entry) {
	delete(g.list, name)
	if g.made[e.maker]--; g.made[e.maker] == 0 {
		delete(g.made, e.maker)
	}
}

// gauge returns the gauge of an engine's answers to an action, or to a question about its state.
func (g *engines) gauge(name, action string) *gauge {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.list[name]
	if e == nil {
		return &gauge{}
	}
	if e.gauges[action] == nil {
		if len(e.gauges) >= maxGauges {
			action = ""
		}
		if e.gauges[action] == nil {
			e.gauges[action] = &gauge{state: action == stateGauge}
		}
	}
	return e.gauges[action]
}

// attach notes that a WebSocket to an engine is open, until detach is called. Such an engine does not expire.
func (g *engines) attach(name string) (detach func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sockets[name]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if e := g.list[name]; e != nil {
			e.last = time.Now()
		}
		if g.sockets[name]--; g.sockets[name] == 0 {
			delete(g.sockets, name)
		}
	}
}

// expire deletes engines that were idle for too long, until ctx ends.
func (g *engines) expire(ctx context.Context) {
	if g.idle == 0 {
		return
	}
	tick := time.NewTicker(max(time.Millisecond, min(g.idle/4, time.Minute)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, name := range g.expireAt(now) {
				g.log.Info("an engine was idle for too long and is deleted", "engine", name, "idle", g.idle)
			}
		}
	}
}

// expireAt begins to delete the engines that have been idle for too long at a time, and returns their names.
func (g *engines) expireAt(now time.Time) (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, e := range g.list {
		if e.engine == nil || e.deleting || e.users > 0 || g.sockets[name] > 0 || now.Sub(e.last) < g.idle {
			continue
		}
		e.deleting = true
		g.expired.Add(1)
		g.remove(name, e)
		names = append(names, name)
	}
	return names
}

// use returns the engine of a name, which is not deleted before done is called.
func (g *engines) use(ctx context.Context, name string) (engine *host.Engine, done func(), err error) {
	g.mu.Lock()
	e := g.list[name]
	if e == nil || e.deleting {
		g.mu.Unlock()
		return nil, nil, unknown(name)
	}
	e.users++
	g.mu.Unlock()
	done = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		e.last = time.Now()
		if e.users--; e.users == 0 && e.deleting {
			g.remove(name, e)
		}
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		err = failure(host.ErrCanceled.Code, "the request ended before the engine %q was open", name)
	}
	if err == nil && e.engine == nil {
		err = unknown(name)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return e.engine, done, nil
}

// delete deletes an engine once no line uses it. If ctx ends first, it returns, and the deletion
// goes on.
func (g *engines) delete(ctx context.Context, name string) error {
	g.mu.Lock()
	e := g.list[name]
	if e == nil || e.deleting {
		g.mu.Unlock()
		return unknown(name)
	}
	select {
	case <-e.ready:
	default:
		g.mu.Unlock()
		return failure(codeNotFound, "the engine %q is not open yet: try again when its setup was answered", name)
	}
	e.deleting = true
	if e.users == 0 {
		g.remove(name, e)
	}
	g.mu.Unlock()
	select {
	case <-e.gone:
		return nil
	case <-ctx.Done():
		return failure(host.ErrCanceled.Code, "the engine %q is deleted as soon as its actions have ended", name)
	}
}

// remove deletes an engine that no line uses any more. The caller holds the lock.
func (g *engines) remove(name string, e *entry) {
	g.deletion.Go(func() {
		if err := e.engine.Delete(context.Background()); err != nil {
			g.log.Warn("an engine could not be deleted from the store", "engine", name, "error", err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.forgetLocked(name, e)
		close(e.gone)
	})
}

// engineInfo is an engine as clients see it.
type engineInfo struct {
	Name string `json:"name"`
	// Place is where it runs: worker, in_process, placing, or out.
	Place string `json:"place"`
}

func (e *entry) info(name string) engineInfo {
	if e.engine == nil {
		return engineInfo{name, "placing"}
	}
	return engineInfo{name, e.engine.Place().String()}
}

// get returns one engine.
func (g *engines) get(name string) (engineInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.list[name]
	if e == nil || e.deleting {
		return engineInfo{}, unknown(name)
	}
	return e.info(name), nil
}

// all returns the engines by name.
func (g *engines) all() []engineInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]engineInfo, 0, len(g.list))
	for name, e := range g.list {
		if !e.deleting {
			all = append(all, e.info(name))
		}
	}
	slices.SortFunc(all, func(a, b engineInfo) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
