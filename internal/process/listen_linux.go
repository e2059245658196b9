package process

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listen returns the listener of go-plugin's service: an abstract socket. It has no file that
// somebody would have to remove. No directory protects it, so it accepts only connections of this
// process's user.
func listen() (net.Listener, error) {
	var name [16]byte
	_, _ = rand.Read(name[:]) // never fails
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "@hypertoken-" + hex.EncodeToString(name[:]), Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &ownListener{l, uint32(os.Geteuid())}, nil
}

// ownListener closes the connections of other users.
type ownListener struct {
	*net.UnixListener
	user uint32
}

// Accept returns the next connection of this process's user.
func (l *ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if peer, err := peerOf(c); err == nil && peer.Uid == l.user {
			return c, nil
		}
		_ = c.Close()
	}
}

// peerOf returns the process and the user at the other end of a connection.
func peerOf(c syscall.Conn) (peer *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET,
			unix.SO_PEERCRED)
	})
	if err == nil {
		err = failed
	}
	return peer, err
}
