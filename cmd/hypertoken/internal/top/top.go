// Package top shows how a host and its workers are, from the metrics that its application exports:
// live in a terminal, as plain text, or as JSON for scripts.
//
// A client reads what a server says, a sample. What came between two samples is an interval, of
// which a Frame has the figures; view draws a frame. Nothing is asked of a server but GET, and
// nothing that it says reaches a terminal before printable.Line has taken out what could steer it.
package top

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"syscall"
	"time"
)

// Mode is how it is shown.
type Mode int

// The modes.
const (
	Live  Mode = iota // in a terminal, until its user quits
	Plain             // a block of text for each interval
	JSON              // a line for each interval
)

// Bounds of Config.Interval.
const (
	MinInterval = 100 * time.Millisecond
	MaxInterval = time.Hour
)

// DefaultTimeout is for how long a server is waited for.
const DefaultTimeout = 5 * time.Second

// Config says which server to show, and how.
type Config struct {
	URL   *url.URL // where the metrics are, as [ParseURL] returns it
	Token string   // sent as a bearer token, if there is one
	// the authorities that may have signed the server's certificate; nil for those of the system
	CA       *x509.CertPool
	Interval time.Duration // from one reading to the next, from MinInterval to MaxInterval
	Timeout  time.Duration // for all that is asked of the server at a time; 0 for DefaultTimeout
	Mode     Mode
	Count    int // how many blocks or lines there are, 0 for no end; not for Live
	In       io.Reader
	Out      io.Writer        // for Live, both have to be terminals
	Now      func() time.Time // read once for each reading; nil for time.Now
}

// ErrGone is a server that did not answer any more when the last block was written.
var ErrGone = errors.New("the server is gone")

// Run shows a server until its user quits, Count blocks are written, or the context ends; none of
// that is an error. It fails at once if there is no server, or one that exports nothing of
// HyperToken. A server that goes away later is waited for, and shown as gone; if it is gone in the
// last of Count blocks, the error is [ErrGone].
func Run(ctx context.Context, c Config) error {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	source := newClient(c)
	first := source.read(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(first.err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s; 'hypertoken serve' starts a server, and URL names another",
			source.name)
	case first.err != nil:
		return fmt.Errorf("%s: %w", source.name, first.err)
	}
	w := &watch{client: source, every: c.Interval}
	w.take(first)
	if c.Mode == Live {
		return live(ctx, c, w)
	}
	return blocks(ctx, c, w)
}

// watch has the figures of a server, one reading after the other.
type watch struct {
	client  *client
	every   time.Duration
	last    *sample // what the next one is held against; nil after the server was gone
	frame   *Frame  // the last there was
	history history
	gone    *gone
}

// take takes in a reading.
func (w *watch) take(r reading) {
	if r.err != nil {
		if w.gone == nil {
			w.gone = &gone{since: r.at}
		}
		w.gone = &gone{since: w.gone.since, err: r.err}
		w.last = nil // figures over the time it was gone would be of no interval
		return
	}
	w.gone = nil
	w.frame = newFrame(newInterval(w.last, r.sample), w.client.name)
	w.history = w.history.with(w.frame)
	w.last = r.sample
}
