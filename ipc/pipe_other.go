//go:build !unix

package ipc

import (
	"os"
	"sync"
)

// Pipe is one end of a pipe. One goroutine at a time may read, and one write. Without a poller a goroutine reads ahead,
// and every write waits in one of its own.
type Pipe struct {
	file *os.File
	once sync.Once
	came chan read
	left []byte
	err  error
}

type read struct {
	b   []byte
	err error
}

// NewPipe returns the end of a pipe. The file is the pipe's from now on.
func NewPipe(file *os.File) (*Pipe, error) { return &Pipe{file: file, came: make(chan read, 16)}, nil }

// Read waits for bytes.
func (p *Pipe) Read(b []byte) (int, error) { return p.take(b, true) }

// TryRead reads what is there without waiting: 0 bytes where there is none, [io.EOF] where none will come.
func (p *Pipe) TryRead(b []byte) (int, error) { return p.take(b, false) }

func (p *Pipe) take(b []byte, wait bool) (int, error) {
	p.once.Do(func() {
		go func() {
			for {
				buf := make([]byte, readSize)
				n, err := p.file.Read(buf)
				p.came <- read{buf[:n], err}
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

// TryWrite writes nothing: WriteAll does.
func (p *Pipe) TryWrite([]byte) (int, error) { return 0, nil }
