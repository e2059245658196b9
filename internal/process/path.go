package process

import (
	"os"
	"os/exec"
	"runtime"
)

// lookUp finds a program, "" being this one.
func lookUp(path string) (string, error) {
	if path == "" {
		return os.Executable()
	}
	return exec.LookPath(path)
}

// mostSocketBase is how long the name of a directory may be where go-plugin makes another one with a socket: the path of a
// socket has at most 103 bytes (macOS; 107 on Linux), of which its own names take up to 38.
const mostSocketBase = 65

// socketBase returns the directory for temporary files, or one with a shorter name where that is too long for sockets.
func socketBase(temporary string) string {
	if runtime.GOOS != "windows" && len(temporary) > mostSocketBase {
		return "/tmp"
	}
	return temporary
}
