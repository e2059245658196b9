package serve

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"hypertoken/host"
)

// phase is the phase of a connection. If connections without a seat must be closed, those in the
// lowest phase are closed first.
type phase int8

const (
	refusedPhase phase = iota // its request was refused; only the answer may still be on the way
	silentPhase               // no whole request has come yet
	idlePhase                 // between two requests
	servedPhase               // a request is served
)

// connections accepts the connections of a listener and bounds them. A connection has no seat at
// first. It gets one with its first line for an engine, and keeps it: seats are bounded, over all
// addresses and for each. The connections without a seat are bounded by themselves: if one more
// comes, another one is closed, so that probes and metrics always have room.
type connections struct {
	net.Listener
	max, perAddress int // seats
	waitingRoom     int // connections without a seat
	buffers         *buffers

	mu       sync.Mutex // guards the fields below, and the fields of connections that name it
	draining bool
	clock    uint64 // counts what changes, so that since can be compared
	waiting  map[*connection]struct{}
	talking  map[*connection]struct{}
	tallies  map[netip.Prefix]*tally

	evicted atomic.Int64 // connections that were closed because others came
}

// tally counts the connections of an address.
type tally struct{ waiting, talking int }

func (t *tally) countWaiting() int { return t.waiting }
func (t *tally) countTalking() int { return t.talking }

// closesBeforeLocked reports whether a connection is closed before another one of its address. The
// lock connections.mu is held.
func (c *connection) closesBeforeLocked(other *connection) bool {
	if c.phase != other.phase {
		return c.phase < other.phase
	}
	return c.since < other.since
}

// waitingRoom is how many connections there may be without a seat.
const waitingRoom = 128

func newConnections(o Options, b *buffers) *connections {
	l := &connections{max: o.MaxConnections, perAddress: o.perAddress(), waitingRoom: o.waitingRoom, buffers: b,
		waiting: map[*connection]struct{}{}, talking: map[*connection]struct{}{}, tallies: map[netip.Prefix]*tally{}}
	if l.waitingRoom == 0 {
		l.waitingRoom = waitingRoom
	}
	return l
}

// kernelBuffer bounds the answers that the kernel buffers for a connection, in bytes; Linux allows
// twice as much. Without it, this buffer grows to some MB, which --max-buffered does not count. A
// write goes on once a third of the buffer is free. With a larger buffer, a slow client would look
// like one that does not read.
const kernelBuffer = 256 << 10

// Accept implements [net.Listener].
func (l *connections) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if buffered, ok := accepted.(interface{ SetWriteBuffer(int) error }); ok {
			_ = buffered.SetWriteBuffer(kernelBuffer) // it bounds memory, and nothing fails without it
		}
		c := newConnection(accepted, l)
		if l.add(c) {
			return c, nil
		}
		_ = accepted.Close()
	}
}

// add takes in a connection, and closes another one if there are too many. It reports false when
// the server stops.
func (l *connections) add(c *connection) bool {
	l.mu.Lock()
	if l.draining {
		l.mu.Unlock()
		return false
	}
	var victim *connection
	if len(l.waiting) >= l.waitingRoom {
		victim = l.victimLocked(l.waiting, (*tally).countWaiting, func(*connection) bool { return true })
		l.removeLocked(victim)
		l.evicted.Add(1)
	}
	l.waiting[c] = struct{}{}
	l.tallyLocked(c).waiting++
	l.enterLocked(c, silentPhase)
	l.mu.Unlock()
	if victim != nil {
		_ = victim.Close()
	}
	return true
}

// victimLocked returns the connection that is closed to make room for another one, or nil. It
// takes the address that has the most connections. Of its connections it takes those in the lowest
// phase, and of these the one that has been in it for the longest time. The lock mu is held.
func (l *connections) victimLocked(all map[*connection]struct{}, count func(*tally) int,
	may func(*connection) bool,
) *connection {
	var victim *connection
	most := 0
	for c := range all {
		if !may(c) {
			continue
		}
		n := count(l.tallies[c.address])
		if victim == nil || n > most || n == most && c.closesBeforeLocked(victim) {
			victim, most = c, n
		}
	}
	return victim
}

func (l *connections) tallyLocked(c *connection) *tally {
	t := l.tallies[c.address]
	if t == nil {
		t = &tally{}
		l.tallies[c.address] = t
	}
	return t
}

func (l *connections) enterLocked(c *connection, p phase) {
	l.clock++
	c.phase, c.since = p, l.clock
}

// enter records the phase that a connection enters.
func (l *connections) enter(c *connection, p phase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.phase != refusedPhase {
		l.enterLocked(c, p)
	}
}

// removeLocked forgets a connection. The lock mu is held.
func (l *connections) removeLocked(c *connection) {
	t := l.tallies[c.address]
	if t == nil {
		return
	}
	if _, ok := l.waiting[c]; ok {
		delete(l.waiting, c)
		t.waiting--
	}
	if _, ok := l.talking[c]; ok {
		delete(l.talking, c)
		t.talking--
	}
	if *t == (tally{}) {
		delete(l.tallies, c.address)
	}
}

func (l *connections) remove(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(c)
}

// vacantLocked looks for a seat for a connection. If there is none, it returns the problem. If
// another connection must be closed for the seat, it returns that connection, which is between two
// requests. It returns nil twice if the connection has a seat, or if one is free. The lock mu is
// held.
func (l *connections) vacantLocked(c *connection) (*connection, *problem) {
	if _, ok := l.talking[c]; ok {
		return nil, nil
	}
	idle := func(of *connection) bool { return of.phase == idlePhase }
	t := l.tallies[c.address]
	switch {
	case t != nil && t.talking >= l.perAddress:
		own := func(of *connection) bool { return idle(of) && of.address == c.address }
		if victim := l.victimLocked(l.talking, (*tally).countTalking, own); victim != nil {
			return victim, nil
		}
		if l.perAddress < l.max {
			return nil, tooMany(http.StatusTooManyRequests, codeQuota,
				"%d connections of this address talk to engines, "+
					"as many as --max-connections-per-address allows: close some, or try again later", l.perAddress)
		}
	case len(l.talking) < l.max:
		return nil, nil
	default:
		if victim := l.victimLocked(l.talking, (*tally).countTalking, idle); victim != nil {
			return victim, nil
		}
	}
	return nil, tooMany(http.StatusServiceUnavailable, host.ErrOverloaded.Code, "%d connections are open, "+
		"as many as --max-connections allows: close some, or try again later", l.max)
}

// vacant returns the problem if a connection can't have a seat now, or nil.
func (l *connections) vacant(c *connection) *problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, p := l.vacantLocked(c)
	return p
}

// claim gives a connection a seat, unless it has one. If there is no seat, it returns the problem.
func (l *connections) claim(c *connection) *problem {
	l.mu.Lock()
	victim, p := l.vacantLocked(c)
	if p == nil {
		if victim != nil {
			l.removeLocked(victim)
			l.evicted.Add(1)
		}
		if _, ok := l.waiting[c]; ok { // a connection that is closed already is in neither map
			delete(l.waiting, c)
			l.talking[c] = struct{}{}
			t := l.tallyLocked(c)
			t.waiting--
			t.talking++
		}
	}
	l.mu.Unlock()
	if victim != nil {
		_ = victim.Close()
	}
	return p
}

// drain closes the connections that have no request, and lets no more in.
func (l *connections) drain() {
	l.mu.Lock()
	l.draining = true
	var idle []*connection
	for _, all := range []map[*connection]struct{}{l.waiting, l.talking} {
		for c := range all {
			if c.phase != servedPhase {
				idle = append(idle, c)
			}
		}
	}
	l.mu.Unlock()
	for _, c := range idle {
		_ = c.Close()
	}
}

// count returns how many connections have a seat, and how many do not.
func (l *connections) count() (talking, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.talking), len(l.waiting)
}

type connectionKey struct{}

// below returns the connection below a connection of the HTTP server.
func below(c net.Conn) *connection {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	own, _ := c.(*connection)
	return own
}

// withConnection lets requests know their connection.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, below(c))
}

// connectionOf returns the connection of a request, or nil if the request did not come through a
// listener of this server.
func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}
