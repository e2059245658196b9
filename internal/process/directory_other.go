//go:build !linux

package process

import (
	"os"
	"path/filepath"
	"runtime"
)

// mostSocketBase is how long the name of a directory may be where go-plugin makes another one with
// a socket: the path of a socket has at most 103 bytes (macOS), of which its own names take up to
// 38.
const mostSocketBase = 65

// socketBases returns where go-plugin may make the directory for its socket, in the order in which they are tried: the
// directory for temporary files, unless its name is too long for sockets.
func socketBases() []string {
	if dir := os.TempDir(); runtime.GOOS == "windows" || len(dir) <= mostSocketBase {
		return []string{dir}
	}
	return []string{"/tmp"}
}

// discardDirectory keeps the directory: the worker's socket lies there.
func discardDirectory(_ string, env []string) []string { return env }

// nowhere is an address of a socket that nobody can make: the directory is this user's own.
func nowhere(dir string) string { return filepath.Join(dir, "nowhere") }
