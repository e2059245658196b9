package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// takeName sets the name of this process in ps, in top and in the kernel's log: the worker
// "hypertoken-worker-3" is "ht-worker-3" there, because a name has at most 15 bytes. Without it,
// the name would be "exe", after the link that the host has executed.
func takeName(argument string) {
	slot, ok := strings.CutPrefix(argument, namePrefix)
	if !ok {
		return
	}
	// The file sets the name of the process, whichever thread writes it. prctl would name one
	// thread.
	_ = os.WriteFile("/proc/self/comm", []byte("ht-"+slot), 0)
}

// moreOOM is added to the host's oom_score_adj for a worker, on the kernel's scale from -1000 to
// 1000. So, if memory runs out, the kernel kills a worker before its host: the worker counts as if
// it used half of all memory in addition.
const moreOOM = 500

// offerToOOM makes the kernel kill a worker before its host if memory runs out.
func offerToOOM(pid int) error {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a system without /proc
	}
	if err != nil {
		return err
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(own)))
	if err != nil {
		return err
	}
	err = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(min(score+moreOOM, 1000))), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil // the process has ended already; its end is reported elsewhere
	}
	return err
}
