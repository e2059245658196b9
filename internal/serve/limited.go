package serve

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
)

// limited bounds a listener's connections. The few beyond max that it lets in are told why they can't have an engine, and
// may ask for metrics and probes, which an operator needs most when all connections are taken; the others are closed.
type limited struct {
	net.Listener
	max  int64
	open atomic.Int64
}

// spare is how many connections there may be beyond the bound.
const spare = 16

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		n := l.open.Add(1)
		if n <= l.max+spare {
			return &connection{Conn: c, of: l, excess: n > l.max}, nil
		}
		l.open.Add(-1)
		_ = c.Close()
	}
}

// connection counts itself until it is closed.
type connection struct {
	net.Conn
	of     *limited
	excess bool
	once   sync.Once
}

func (c *connection) Close() error {
	c.once.Do(func() { c.of.open.Add(-1) })
	return c.Conn.Close()
}

// CloseWrite lets the HTTP server end an answer in front of what the client still sends.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type connectionKey struct{}

// withConnection lets requests know their connection.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, c)
}

// excess reports whether a request came over a connection beyond the bound.
func excess(ctx context.Context) bool {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	return ok && c.excess
}
