package ipc

import (
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pipe is one end of a pipe. One goroutine at a time may read, and one write.
//
// The pipe is not registered with the poller of Go's runtime. Otherwise each byte that arrives
// would wake the thread that waits in the poller, although another goroutine has read the byte
// already. That thread would take a CPU from a side that is about to answer.
type Pipe struct {
	fd int
	// users is the number of calls under way, plus pipeClosing or pipeClosed after Close. The last
	// call under way closes the descriptor, once. So no call uses the descriptor after its number
	// belongs to another file.
	users atomic.Int64
}

// Close adds pipeClosing to users. The call that finds nothing else there sets users to
// pipeClosed, and closes the descriptor.
const (
	pipeClosing = 1 << 32
	pipeClosed  = 2 * pipeClosing
)

// closePoll bounds how long a call that waits goes on after Close, in milliseconds.
const closePoll = 1000

// NewPipe returns the end of a pipe. The file is closed, also after an error: the end is the
// pipe's from now on.
func NewPipe(file *os.File) (*Pipe, error) {
	defer func() { _ = file.Close() }()
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	p, dup := new(Pipe), error(nil)
	if err := raw.Control(func(fd uintptr) { p.fd, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, err
	}
	if dup != nil {
		return nil, os.NewSyscallError("fcntl", dup)
	}
	return p, os.NewSyscallError("fcntl", unix.SetNonblock(p.fd, true))
}

func (p *Pipe) enter() bool {
	if p.users.Add(1) > pipeClosing {
		p.leave()
		return false
	}
	return true
}

func (p *Pipe) leave() {
	if p.users.Add(-1) == pipeClosing && p.users.CompareAndSwap(pipeClosing, pipeClosed) {
		_ = unix.Close(p.fd)
	}
}

// Close closes this end. Calls that wait fail, within a second.
func (p *Pipe) Close() error {
	for {
		switch n := p.users.Load(); {
		case n >= pipeClosing:
			return nil
		case p.users.CompareAndSwap(n, n+pipeClosing+1):
			p.leave()
			return nil
		}
	}
}

// now makes a system call that does not wait. Go's scheduler is not told of the call: it would
// give the processor of a goroutine that polls to another one.
func (p *Pipe) now(call uintptr, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if !p.enter() {
		return 0, os.ErrClosed
	}
	defer p.leave()
	for {
		switch n, _, err := syscall.RawSyscall(call, uintptr(p.fd), uintptr(unsafe.Pointer(&b[0])),
			uintptr(len(b))); err {
		case 0:
			if n == 0 && call == syscall.SYS_READ {
				return 0, io.EOF
			}
			return int(n), nil
		case syscall.EAGAIN:
			return 0, nil
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}

// wait waits until the pipe is ready for something, or closed.
func (p *Pipe) wait(events int16) error {
	if !p.enter() {
		return os.ErrClosed
	}
	defer p.leave()
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: events}}, closePoll)
	if err == unix.EINTR {
		return nil
	}
	return err
}

// TryRead reads what is there without waiting: 0 bytes if there are none yet, [io.EOF] if there
// will be no more.
func (p *Pipe) TryRead(b []byte) (int, error) { return p.now(syscall.SYS_READ, b) }

// TryWrite writes what fits without waiting.
func (p *Pipe) TryWrite(b []byte) (int, error) { return p.now(syscall.SYS_WRITE, b) }

// Read waits for bytes.
func (p *Pipe) Read(b []byte) (int, error) {
	for {
		if n, err := p.TryRead(b); n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if err := p.wait(unix.POLLIN); err != nil {
			return 0, err
		}
	}
}

func (p *Pipe) write(b []byte) error {
	for {
		n, err := p.TryWrite(b)
		if b = b[n:]; err != nil || len(b) == 0 {
			return err
		}
		if err := p.wait(unix.POLLOUT); err != nil {
			return err
		}
	}
}
