//go:build unix && !linux

package process

import (
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/go-plugin"
)

// listen returns the listener of go-plugin's service: a socket in the directory that the host has
// made. The host removes both.
func listen() (net.Listener, error) {
	return net.Listen("unix", filepath.Join(os.Getenv(plugin.EnvUnixSocketDir), "plugin"+strconv.Itoa(os.Getpid())))
}
