package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"hypertoken/host"
)

// engines are the engines that clients have made and that are open, by name. If the store outlives
// the server, engines that are not in use are closed, and opened again by their next line.
type engines struct {
	life       context.Context // of the server
	isDurable  bool            // the store outlives the server
	max        int
	perAddress int           // 0 for no bound
	idle       time.Duration // 0 for ever
	log        *slog.Logger

	mu      sync.Mutex // guards the fields below, and the entries
	host    *served    // the host that engines are opened on
	list    map[string]*entry
	made    map[netip.Prefix]int // open engines by the address that made them
	sockets map[string]int       // open WebSockets by the name of their engine
	// background are the goroutines that open, close and delete engines.
	background sync.WaitGroup

	expired atomic.Int64 // engines that were idle for too long
}

// entry is an engine that is open, is being opened, or is being deleted.
type entry struct {
	ready   chan struct{} // closed once it is open, or could not be opened
	engine  *host.Engine  // nil until it is open
	err     error         // the reason why it could not be opened
	users   int           // the number of lines that run
	leaving leaving
	gone    chan struct{} // closed once it is closed or deleted, or that has failed
	left    error         // why it could not be closed or deleted, once gone is closed

	maker  netip.Prefix      // the address that made it
	last   time.Time         // the time at which its last line ended
	gauges map[string]*gauge // of its answers, by the action; "" for answers without an action
}

// leaving is whether an engine is being closed or deleted.
type leaving uint8

const (
	isStaying  leaving = iota
	isClosing          // the engine stays in the store
	isDeleting         // the engine is deleted from the store, too
)

// maxGauges bounds the actions of an engine that have a gauge of their own. All others share one.
const maxGauges = 256

// stateGauge is the key of the gauge of an engine's state. No action has that name.
const stateGauge = "\x00state"

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Codes of this server's own errors. It also uses the codes of the host.
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

// create makes a new engine for a client.
func (g *engines) create(ctx context.Context, name string, setup host.Raw, maker netip.Prefix) error {
	return g.make(ctx, name, maker, host.EngineOptions{Setup: setup, Mode: host.OpenNew})
}

// make opens a new engine with options.
func (g *engines) make(ctx context.Context, name string, maker netip.Prefix, o host.EngineOptions) error {
	e, err := g.enter(ctx, name, maker)
	if err != nil {
		return err
	}
	return g.open(ctx, name, e, o)
}

// adopt has a new engine made for a client: make stores it, without opening it. Then it is opened.
func (g *engines) adopt(ctx context.Context, name string, maker netip.Prefix, make func(context.Context) error) error {
	e, err := g.enter(ctx, name, maker)
	if err != nil {
		return err
	}
	if err := make(ctx); err != nil {
		return g.notOpened(name, e, err)
	}
	// It is there, so it is opened even if the client goes away.
	return g.open(context.WithoutCancel(ctx), name, e, host.EngineOptions{Mode: host.OpenExisting})
}

// enter puts a new entry on the list for an engine that a client makes, once there is room. If another
// client makes an engine of that name, enter waits until it is known whether there is one.
func (g *engines) enter(ctx context.Context, name string, maker netip.Prefix) (*entry, error) {
	for {
		g.mu.Lock()
		e := g.listedLocked(name)
		switch {
		case e != nil && e.leaving == isDeleting:
			g.mu.Unlock()
			return nil, failure(codeExists, "the engine %q is being deleted: try again once it is deleted", name)
		case e != nil:
			g.mu.Unlock()
			select {
			case <-e.ready:
			case <-ctx.Done():
				code := host.ErrCanceled.Code
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					code = host.ErrTimeout.Code
				}
				return nil, failure(code, "the request ended before it was known whether there is an engine %q", name)
			}
			if e.err != nil {
				continue // it is off the list
			}
			return nil, alreadyExists(name)
		case g.perAddress > 0 && maker.IsValid() && g.made[maker] >= g.perAddress:
			g.mu.Unlock()
			return nil, failure(codeQuota, "%d engines of this address are open, as many as --max-engines-per-address allows: "+
				"DELETE one first", g.perAddress)
		}
		e, wait, err := g.enterLocked(name, maker)
		g.mu.Unlock()
		if err != nil || e != nil {
			return e, err
		}
		if err := awaitRoom(ctx, wait, name); err != nil {
			return nil, err
		}
	}
}

func alreadyExists(name string) error {
	return failure(codeExists,
		"an engine %q exists already: DELETE /v1/engines/%s first, or choose another name", name, name)
}

// enterLocked puts a new entry on the list. If there is no room, it returns a channel that is
// closed once an engine that is not in use has left, or an error if none can. The lock mu is held.
func (g *engines) enterLocked(name string, maker netip.Prefix) (e *entry, wait <-chan struct{}, err error) {
	if len(g.list) >= g.max {
		victim, idlest := g.idlestLocked()
		if idlest == nil {
			return nil, nil, failure(host.ErrOverloaded.Code,
				"%d engines are open, as many as --max-engines allows: DELETE one first, or raise it", g.max)
		}
		if idlest.leaving == isStaying {
			g.leaveLocked(victim, idlest, isClosing)
		}
		return nil, idlest.gone, nil
	}
	e = &entry{ready: make(chan struct{}), gone: make(chan struct{}), maker: maker, last: time.Now(),
		gauges: map[string]*gauge{}}
	g.list[name] = e
	g.made[maker]++
	return e, nil, nil
}

// awaitRoom waits until an engine has left.
func awaitRoom(ctx context.Context, gone <-chan struct{}, name string) error {
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return failure(host.ErrCanceled.Code, "the request ended before there was room for the engine %q", name)
	}
}

// idlestLocked returns the engine that may be closed and was used least recently, or one that
// leaves already; nil if there is none. The lock mu is held.
func (g *engines) idlestLocked() (name string, idlest *entry) {
	if !g.isDurable {
		return "", nil
	}
	for n, e := range g.list {
		switch {
		case e.leaving != isStaying && e.users == 0:
			return n, e
		case e.engine == nil || e.leaving != isStaying || e.users > 0 || g.sockets[n] > 0:
		case idlest == nil || e.last.Before(idlest.last):
			name, idlest = n, e
		}
	}
	return name, idlest
}

// open opens the engine of an entry and takes the entry off the list if that fails.
func (g *engines) open(ctx context.Context, name string, e *entry, o host.EngineOptions) error {
	err := g.onHost(ctx, func(h *host.Host) error {
		engine, err := h.Open(ctx, name, o)
		if err == nil {
			g.opened(name, e, engine)
		}
		return err
	})
	if err != nil {
		return g.notOpened(name, e, err)
	}
	return nil
}

// opened notes the engine of an entry. If the host has changed meanwhile, the engine is closed after the
// lines that wait for it.
func (g *engines) opened(name string, e *entry, engine *host.Engine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e.engine, e.last = engine, time.Now()
	close(e.ready)
	if engine.Host() != g.host.Host {
		g.leaveLocked(name, e, isClosing)
	}
}

// notOpened takes an entry off the list whose engine can't be opened, and returns why it can't.
func (g *engines) notOpened(name string, e *entry, err error) error {
	switch {
	case errors.Is(err, host.ErrEngineNotFound):
		err = unknown(name)
	case errors.Is(err, host.ErrEngineExists):
		err = alreadyExists(name)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	e.err = err
	g.forgetLocked(name, e)
	close(e.ready)
	return err
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

// attach notes that a WebSocket to an engine is open, until detach is called. Such an engine does
// not expire.
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

// expire closes engines that were idle for too long, or deletes them if they would not outlive the
// server anyway, until ctx ends.
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
				if !g.isDurable {
					g.log.Info("an engine was idle for too long and is deleted", "engine", name, "idle", g.idle)
				}
			}
		}
	}
}

// expireAt has the engines leave that have been idle for too long at a time, and returns their
// names.
func (g *engines) expireAt(now time.Time) (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, e := range g.list {
		if e.engine == nil || e.leaving != isStaying || e.users > 0 || g.sockets[name] > 0 || now.Sub(e.last) < g.idle {
			continue
		}
		g.expired.Add(1)
		if g.isDurable {
			g.leaveLocked(name, e, isClosing)
		} else {
			g.leaveLocked(name, e, isDeleting)
		}
		names = append(names, name)
	}
	return names
}

// use returns the engine with this name. It is not closed or deleted before done is called. If the
// engine is stored and not open, use opens it.
func (g *engines) use(ctx context.Context, name string) (engine *host.Engine, done func(), err error) {
	e, err := g.find(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	done = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		e.last = time.Now()
		if e.users--; e.users == 0 && e.leaving != isStaying {
			g.removeLocked(name, e)
		}
	}
	select {
	case <-e.ready:
		err = e.err
	case <-ctx.Done():
		err = failure(host.ErrCanceled.Code, "the request ended before the engine %q was open", name)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return e.engine, done, nil
}

// find returns the entry of a name with one more user. The entry may still be on its way in.
func (g *engines) find(ctx context.Context, name string) (*entry, error) {
	for {
		g.mu.Lock()
		e := g.listedLocked(name)
		var wait <-chan struct{}
		var err error
		switch {
		case e == nil && g.isDurable:
			if e, wait, err = g.enterLocked(name, netip.Prefix{}); e != nil {
				// Others may wait for the engine, too, so it is opened even if this request ends.
				g.background.Go(func() {
					_ = g.open(context.WithoutCancel(ctx), name, e, host.EngineOptions{Mode: host.OpenExisting})
				})
			}
		case e == nil || e.leaving == isDeleting && !g.isDurable:
			err = unknown(name)
		case e.leaving != isStaying: // the store may refuse a deletion: then the engine is still there
			e, wait = nil, e.gone
		}
		if e != nil && err == nil {
			e.users++
		}
		g.mu.Unlock()
		if err != nil || e != nil {
			return e, err
		}
		if err := awaitRoom(ctx, wait, name); err != nil {
			return nil, err
		}
	}
}

// listedLocked returns the entry of a name, nil if there is none. It takes an entry off the list whose
// engine has moved away. The lock mu is held.
func (g *engines) listedLocked(name string) *entry {
	e := g.list[name]
	if e != nil && g.hasMovedLocked(name, e) {
		g.forgetLocked(name, e)
		close(e.gone)
		return nil
	}
	return e
}

// hasMovedLocked reports whether the engine of an entry has closed itself, because another owner has
// its journal. The lock mu is held.
func (g *engines) hasMovedLocked(name string, e *entry) bool {
	return e.engine != nil && e.leaving == isStaying && g.isDurable && e.engine.Host().Get(name) == nil
}

// delete deletes an engine once no line uses it. If ctx ends first, it returns, and the deletion
// goes on. It fails if the store does not delete the engine.
func (g *engines) delete(ctx context.Context, name string) error {
	e, err := g.beginDelete(ctx, name)
	if err != nil {
		return err
	}
	select {
	case <-e.gone:
		return e.left
	case <-ctx.Done():
		return failure(host.ErrCanceled.Code, "the engine %q is deleted as soon as its actions have ended", name)
	}
}

// beginDelete has an engine leave and be forgotten.
func (g *engines) beginDelete(ctx context.Context, name string) (*entry, error) {
	if g.isDurable {
		_, done, err := g.use(ctx, name) // so that it is open
		if err != nil {
			return nil, err
		}
		defer done()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.list[name]
	if e == nil || e.leaving == isDeleting {
		return nil, unknown(name)
	}
	select {
	case <-e.ready:
	default:
		return nil, failure(codeNotFound, "the engine %q is not open yet: try again when its setup was answered", name)
	}
	g.leaveLocked(name, e, isDeleting)
	return e, nil
}

// leaveLocked has an engine leave, once no line uses it. The lock mu is held.
func (g *engines) leaveLocked(name string, e *entry, how leaving) {
	e.leaving = how
	if e.users == 0 {
		g.removeLocked(name, e)
	}
}

// removeLocked closes or deletes an engine that no line uses any more. The lock mu is held.
func (g *engines) removeLocked(name string, e *entry) {
	end := e.engine.Close
	if e.leaving == isDeleting {
		end = e.engine.Delete
	}
	g.background.Go(func() {
		err := end(context.Background())
		if err != nil && !errors.Is(err, host.ErrShutdown) {
			g.log.Warn("an engine could not be closed, or deleted from the store", "engine", name, "error", err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.forgetLocked(name, e)
		e.left = err
		close(e.gone)
	})
}
