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

// takeName names this process, which would be "exe" after the link that was executed, as its host
// calls it: in ps, in top and in the kernel's log a worker "hypertoken-worker-3" is "ht-worker-3".
// A name there has 15 bytes at most.
func takeName(argument string) {
	slot, ok := strings.CutPrefix(argument, namePrefix)
	if !ok {
		return
	}
	// The file names the process, whichever thread writes it; prctl would name a thread.
	_ = os.WriteFile("/proc/self/comm", []byte("ht-"+slot), 0)
}

// moreOOM is how much sooner the kernel ends a worker than its host if memory runs out, on its
// scale from -1000 to 1000: as much as half of all memory would add.
const moreOOM = 500

// offerToOOM has the kernel end a worker before its host if memory runs out.
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
		return nil // it has ended already, of which its end says more
	}
	return err
}
