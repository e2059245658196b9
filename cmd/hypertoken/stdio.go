package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// errOutputUnread is the error of a write to a standard output that has no reader any more, as in
// 'hypertoken run | head -1'.
var errOutputUnread = errors.New("standard output has no reader any more")

// output is standard output. If it has no reader any more, a write fails with [errOutputUnread],
// which ends the command.
type output struct{ file *os.File }

func (o output) Write(b []byte) (int, error) {
	n, err := o.file.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = errOutputUnread
	}
	return n, err
}

// diagnostics is standard error: the log, the progress and the errors of commands. A write never
// blocks and never fails, so that nothing depends on the reader of standard error. A goroutine
// writes the queued texts. If the reader falls behind by more than maxQueued bytes, later writes
// are dropped. When there is room again, a line says how many.
type diagnostics struct {
	file *os.File

	mu      sync.Mutex // guards the fields below
	queue   [][]byte
	queued  int // the number of bytes that are queued or being written
	dropped int // writes
	writing bool
	idle    chan struct{} // closed when the goroutine that writes ends; nil before it has ever been started
}

// maxQueued bounds the bytes that wait for the reader of standard error.
const maxQueued = 1 << 20

// standardError is the standard error of this process.
var standardError = &diagnostics{file: os.Stderr}

// Fd returns the descriptor. With it, a caller can tell whether standard error is a terminal.
func (d *diagnostics) Fd() uintptr { return d.file.Fd() }

// Write queues a copy of b.
func (d *diagnostics) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queued+len(b) > maxQueued {
		d.dropped++
		return len(b), nil
	}
	if d.dropped > 0 {
		d.appendLocked(fmt.Appendf(nil, "hypertoken: %d messages were dropped: standard error was not read\n",
			d.dropped))
		d.dropped = 0
	}
	d.appendLocked(append([]byte(nil), b...))
	if !d.writing {
		d.writing, d.idle = true, make(chan struct{})
		go d.write(d.idle)
	}
	return len(b), nil
}

// appendLocked queues b. The caller holds d.mu.
func (d *diagnostics) appendLocked(b []byte) {
	d.queue = append(d.queue, b)
	d.queued += len(b)
}

// write writes the queued texts, and returns when none is left.
func (d *diagnostics) write(idle chan<- struct{}) {
	defer close(idle)
	for {
		d.mu.Lock()
		if len(d.queue) == 0 {
			d.queue, d.writing = nil, false
			d.mu.Unlock()
			return
		}
		b := d.queue[0]
		d.queue = d.queue[1:]
		d.mu.Unlock()
		_, _ = d.file.Write(b) // nobody could be told
		d.mu.Lock()
		d.queued -= len(b)
		d.mu.Unlock()
	}
}

// flush waits until everything is written, but not longer than most.
func (d *diagnostics) flush(most time.Duration) {
	d.mu.Lock()
	idle := d.idle
	d.mu.Unlock()
	if idle == nil {
		return
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}
