package process

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
)

// go-plugin makes a directory for its socket at each start. On Linux no worker needs it. So it is
// removed at once, and any directory that can be written may contain it.

// socketBases returns the directories in which go-plugin may make its directory, in the order in
// which they are tried. A directory in memory comes first. On a disk, making the directory may
// take so long that another goroutine gets the processor. If the host is killed before this
// goroutine runs again and removes the directory, the directory stays.
func socketBases() []string {
	list := []string{"/dev/shm", os.TempDir()}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		list = append(list, dir)
	}
	return append(list, fmt.Sprintf("/run/user/%d", os.Geteuid()), "/tmp", "/var/tmp", ".")
}

// discardDirectory removes the directory, which is empty, and removes its name from the worker's
// environment.
func discardDirectory(dir string, env []string) []string {
	_ = unix.Rmdir(dir) // os.Remove would first try to remove a file
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, plugin.EnvUnixSocketDir+"=") })
}

// nowhere returns the address of a socket that nobody can make.
func nowhere(string) string { return "/proc/self/nowhere" }
