package process

import (
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody runs f on a thread of another user. The thread ends with f.
func asNobody(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		const nobody = 65534
		// The call itself changes this thread only; that of the library would change all.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			done <- errno
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// No directory protects an abstract socket. So a worker closes connections of other users.
func TestTheSocketIsForItsOwnUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	asNobody(t, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: l.Addr().String()}); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
			return err
		}
		n, err := unix.Read(fd, make([]byte, 1))
		if n > 0 || err == unix.EAGAIN {
			t.Errorf("another user's connection is open: %d bytes, %v", n, err)
		}
		return nil
	})
	// The next one is the first that is accepted.
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	mine := <-accepted
	if peer, err := peerOf(mine.(*net.UnixConn)); err != nil || peer.Pid != int32(os.Getpid()) || peer.Uid != 0 {
		t.Errorf("accepted %+v, %v", peer, err)
	}
	_, _, _ = c.Close(), mine.Close(), l.Close()
	<-accepted
}
