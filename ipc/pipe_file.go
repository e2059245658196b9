//go:build !linux

package ipc

import (
	"errors"
	"os"
)

func (p *Pipe) write(b []byte) error {
	_, err := p.file.Write(b)
	return err
}

// Close closes this end. Reads and writes that wait fail.
func (p *Pipe) Close() error {
	if err := p.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
