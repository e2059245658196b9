//go:build !unix

package ipc

import (
	"os"
	"sync"
)

// Pipe is one end of a pipe. One goroutine at a time may read, and one write. This system has no
// poller for pipes, so a goroutine reads ahead, and each write waits in a goroutine of its own.
type Pipe struct {
	file *os.File
	once sync.Once
	came chan arrival
	left []byte
	err  error
}

// arrival is what one read of the file returned.
type arrival struct {
	b   []byte
	err error
}

// NewPipe returns the end of a pipe. The file is the pipe's from now on.
func NewPipe(file *os.File) (*Pipe, error) {
	return &Pipe{file: file, came: make(chan arrival, 16)}, nil
}

// Read waits for bytes.
func (p *Pipe) Read(b []byte) (int, error) { return p.take(b, true) }

// TryRead reads what is there without waiting: 0 bytes if there are none yet, [io.EOF] if there
// will be no more.
func (p *Pipe) TryRead(b []byte) (int, error) { return p.take(b, false) }

func (p *Pipe) take(b []byte, wait bool) (int, error) {
	p.once.Do(func() {
		go func() {
			for {
				buf := make([]byte, readSize)
				n, err := p.file.Read(buf)
				p.came <- arrival{buf[:n], err}
				if err != nil {
					return
				}
			}
		}()
	})
	if len(p.left) == 0 && p.err == nil {
		if wait {
			r := <-p.came
			p.left, p.err = r.b, r.err
		} else {
			select {
			case r := <-p.came:
				p.left, p.err = r.b, r.err
			default:
			}
		}
	}
	if len(p.left) == 0 {
		return 0, p.err
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

// TryWrite writes nothing, because a write here may wait. WriteAll writes.
func (p *Pipe) TryWrite([]byte) (int, error) { return 0, nil }
