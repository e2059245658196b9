// Package top shows the state of a host and its workers, from the metrics that the application
// exports: live in a terminal, as plain text, or as JSON for scripts.
//
// A client reads the metrics of a server; the result is a sample. Two samples make an interval,
// and a Frame has the figures of an interval. view draws a frame. The client sends only GET
// requests. Every text from the server goes through printable.Line, which removes characters that
// control a terminal.
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

// Mode is the way in which the figures are shown.
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

// DefaultTimeout is the default of Config.Timeout.
const DefaultTimeout = 5 * time.Second

// Config describes the server to show, and the way to show it.
type Config struct {
	URL   *url.URL // the address of the metrics, as [ParseURL] returns it
	Token string   // sent as a bearer token, if it is not empty
	// CA has the authorities that may have signed the server's certificate; nil for those of the
	// system.
	CA       *x509.CertPool
	Interval time.Duration // from one reading to the next, from MinInterval to MaxInterval
	Timeout  time.Duration // for all requests of one reading together; 0 for DefaultTimeout
	Mode     Mode
	Count    int // the number of blocks or lines; 0 for no end. Not for Live
	In       io.Reader
	Out      io.Writer        // for Live, In and Out must be terminals
	Now      func() time.Time // read once for each reading; nil for time.Now
}

// ErrGone is returned if the server no longer answered when the last block was written.
var ErrGone = errors.New("the server is gone")

// Run shows a server until the user quits, Count blocks are written, or the context ends. None of
// these is an error. Run fails at once if there is no server, or if the server has no metrics of
// HyperToken. If a server stops to answer later, it is shown as gone, and Run waits for it. If it
// is gone in the last of Count blocks, the error is [ErrGone].
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
	last    *sample // the sample with which the next one is compared; nil after the server was gone
	frame   *Frame  // the last frame
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
		w.last = nil // no interval includes the time for which the server was gone
		return
	}
	w.gone = nil
	w.frame = newFrame(newInterval(w.last, r.sample), w.client.name)
	w.history = w.history.with(w.frame)
	w.last = r.sample
}
