//go:build !linux

package process

import (
	"os"
	"path/filepath"
	"runtime"
)

// mostSocketBase is the longest name of a directory in which go-plugin can make its directory with
// a socket, in bytes. The path of a socket has at most 103 bytes (macOS), and go-plugin's own
// names take up to 38 of them.
const mostSocketBase = 65

// socketBases returns the directories in which go-plugin may make its directory, in the order in
// which they are tried. It is the directory for temporary files, unless its name is too long for a
// socket.
func socketBases() []string {
	if dir := os.TempDir(); runtime.GOOS == "windows" || len(dir) <= mostSocketBase {
		return []string{dir}
	}
	return []string{"/tmp"}
}

// discardDirectory keeps the directory: the worker's socket lies there.
func discardDirectory(_ string, env []string) []string { return env }

// nowhere returns the address of a socket that nobody else can make: the directory belongs to this
// user.
func nowhere(dir string) string { return filepath.Join(dir, "nowhere") }
