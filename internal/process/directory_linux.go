package process

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
)

// go-plugin makes a directory for its socket in each start. No worker needs it here, so it is
// removed at once, and anything that can be written will do.

// socketBases returns where go-plugin may make its directory, in the order in which they are tried.
// Memory comes first: a disk may take so long to make a directory that this goroutine has to wait
// for its turn before it can remove that, and a host that is killed meanwhile leaves it.
func socketBases() []string {
	list := []string{"/dev/shm", os.TempDir()}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		list = append(list, dir)
	}
	return append(list, fmt.Sprintf("/run/user/%d", os.Geteuid()), "/tmp", "/var/tmp", ".")
}

// discardDirectory removes the directory, which is empty, and its name from the environment of the worker.
func discardDirectory(dir string, env []string) []string {
	_ = unix.Rmdir(dir) // os.Remove would try first whether it is a file
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, plugin.EnvUnixSocketDir+"=") })
}

// nowhere is an address of a socket that nobody can make.
func nowhere(string) string { return "/proc/self/nowhere" }
