package serve

import (
	"net"
	"syscall"
	"testing"
)

// The kernel's buffer for the answers of a connection is bounded, because --max-buffered does not
// count it.
func TestTheBufferOfTheKernel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepting := newConnections(Defaults(), newBuffers(1<<20))
	accepting.Listener = l
	defer func() { _ = accepting.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	c, err := accepting.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	raw, err := c.(*connection).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	if failed := raw.Control(func(fd uintptr) {
		size, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	}); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	if size > 2*kernelBuffer {
		t.Errorf("the kernel keeps %d bytes, want at most %d", size, 2*kernelBuffer)
	}
}
