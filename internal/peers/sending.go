package peers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// How a node knows of a line or a request that got no answer whether the other node may have run it.

// A request with this header is sent without its body until the other node asks for the body. So if
// the connection ends before, nothing can have run: a node that stops ends connections.
const (
	headerExpect   = "Expect"
	expectContinue = "100-continue"
)

// delivery says whether anything of a request's body may have been sent. As long as nobody has read
// from it, the other node has nothing that it could run.
type delivery struct{ state atomic.Int32 }

const (
	isUnread int32 = iota
	isRead
	// isWithdrawn says that nobody may read from the body any more.
	isWithdrawn
)

// withdraw reports whether nobody has read from the body. Then nobody will.
func (d *delivery) withdraw() bool {
	return d.state.CompareAndSwap(isUnread, isWithdrawn) || d.state.Load() == isWithdrawn
}

// errWithdrawn is the error of a body that is read too late.
var errWithdrawn = errors.New("the request is not sent here any more")

// noticedBody is a body whose delivery is told when it is read. Its Close does nothing: the body may be
// sent to another node.
type noticedBody struct {
	io.Reader
	delivery *delivery
}

// Read implements io.Reader.
func (b *noticedBody) Read(p []byte) (int, error) {
	if !b.delivery.state.CompareAndSwap(isUnread, isRead) && b.delivery.state.Load() == isWithdrawn {
		return 0, errWithdrawn
	}
	return b.Reader.Read(p)
}

// Close implements io.Closer.
func (b *noticedBody) Close() error { return nil }

// setBody makes a line the body of a request.
func (d *delivery) setBody(r *http.Request, line []byte) {
	if len(line) == 0 {
		d.state.Store(isRead) // nobody reads nothing
		return
	}
	r.ContentLength = int64(len(line))
	// The HTTP client takes a new one if it finds that a connection was closed before it wrote anything.
	r.GetBody = func() (io.ReadCloser, error) { return &noticedBody{bytes.NewReader(line), d}, nil }
	r.Body, _ = r.GetBody()
}

// noteDraining notes which nodes are about to end. Lines are sent there with more care.
func (p *Peers) noteDraining() {
	if p.o.Draining == nil {
		return
	}
	draining := map[string]bool{}
	for _, address := range p.o.Draining() {
		draining[address] = true
	}
	p.draining.Store(&draining)
}

// isDraining reports whether a node is about to end.
func (p *Peers) isDraining(address string) bool {
	draining := p.draining.Load()
	return draining != nil && (*draining)[address]
}

// sendError returns [ErrUnreached] if a request that failed with an error can't have run, or [ErrLost].
// d is nil for a request without a body.
func sendError(err error, d *delivery) error {
	var dial *net.OpError
	isUnreached := errors.As(err, &dial) && dial.Op == "dial"
	if d != nil && d.withdraw() {
		isUnreached = true
	}
	if isUnreached {
		return fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}
