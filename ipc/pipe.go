package ipc

import (
	"errors"
	"os"
)

// How a side waits for bytes: it parks in the runtime's poller. A Pipe is the only place that knows.

// WriteAll writes b in a goroutine of its own, which ends with the write or when the pipe is closed.
func (p *Pipe) WriteAll(b []byte, done func(error)) {
	go func() {
		_, err := p.file.Write(b)
		done(err)
	}()
}

// Close closes this end. Reads and writes that wait fail.
func (p *Pipe) Close() error {
	if err := p.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
