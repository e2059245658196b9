//go:build unix && !linux

package ipc

import (
	"io"
	"os"
	"syscall"
)

// Pipe is one end of a pipe. One goroutine at a time may read, and one write.
type Pipe struct {
	file *os.File
	raw  syscall.RawConn
	// The arguments and results of the functions below. The functions are made once, so that a
	// call allocates nothing.
	in, out       []byte
	read, written int
	inErr, outErr error
	tryRead       func(uintptr) bool
	tryWrite      func(uintptr) bool
}

// NewPipe returns the end of a pipe that the runtime can poll. The file is the pipe's from now
// on.
func NewPipe(file *os.File) (*Pipe, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &Pipe{file: file, raw: raw}
	p.tryRead = func(fd uintptr) bool {
		p.read, p.inErr = uninterrupted(syscall.Read, int(fd), p.in)
		return true
	}
	p.tryWrite = func(fd uintptr) bool {
		p.written, p.outErr = uninterrupted(syscall.Write, int(fd), p.out)
		return true
	}
	return p, nil
}

func uninterrupted(f func(int, []byte) (int, error), fd int, b []byte) (int, error) {
	for {
		if n, err := f(fd, b); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Read waits for bytes.
func (p *Pipe) Read(b []byte) (int, error) { return p.file.Read(b) }

// TryRead reads what is there without waiting: 0 bytes if there are none yet, [io.EOF] if there
// will be no more.
func (p *Pipe) TryRead(b []byte) (int, error) {
	p.in = b
	err := p.raw.Read(p.tryRead)
	p.in = nil
	switch {
	case err != nil:
		return 0, err
	case p.inErr == syscall.EAGAIN:
		return 0, nil
	case p.inErr == nil && p.read == 0:
		return 0, io.EOF
	}
	return p.read, p.inErr
}

// TryWrite writes what fits without waiting.
func (p *Pipe) TryWrite(b []byte) (int, error) {
	p.out = b
	err := p.raw.Write(p.tryWrite)
	p.out = nil
	switch {
	case err != nil:
		return 0, err
	case p.outErr == syscall.EAGAIN:
		return 0, nil
	}
	return p.written, p.outErr
}
