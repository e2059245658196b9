package pool

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// File descriptors: how many a host needs, and those that it keeps so that a worker can be started
// when there are no others. Without workers its engines would have to run in its own process.

const (
	// descriptorsOfHost is what a host and Go's runtime have open beside their workers.
	descriptorsOfHost = 16
	// descriptorsOfWorker is what a worker that runs has open in its host: the ends of its pipes,
	// its process, its log.
	descriptorsOfWorker = 8
	// descriptorsOfStart is what starting workers takes for a moment, and is kept in reserve for
	// that.
	descriptorsOfStart = 24
)

// Descriptors returns how many file descriptors a host with so many workers and spares needs at
// most, beside what the application has open: for them, for starting them, and for itself.
func Descriptors(workers, spares int) int {
	if workers == 0 {
		return descriptorsOfHost
	}
	return descriptorsOfHost + descriptorsOfStart + (workers+spares)*descriptorsOfWorker
}

// descriptorReserve are descriptors that are given up while workers are started.
type descriptorReserve struct {
	mu      sync.Mutex // guards what follows; a leaf
	files   []*os.File
	starts  int // that are under way
	isEnded bool
}

// fill opens what is missing of the reserve, as far as that is possible.
func (r *descriptorReserve) fill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fillLocked()
}

// fillLocked is fill with the reserve's lock held.
func (r *descriptorReserve) fillLocked() {
	for r.starts == 0 && !r.isEnded && len(r.files) < descriptorsOfStart {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return // the next start tries again
		}
		r.files = append(r.files, f)
	}
}

// beginStart gives the reserve up for a start. endStart takes it back once no start is under way.
func (r *descriptorReserve) beginStart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts++
	r.closeLocked()
}

func (r *descriptorReserve) endStart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts--
	r.fillLocked()
}

// close gives the reserve up for good.
func (r *descriptorReserve) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isEnded = true
	r.closeLocked()
}

// closeLocked closes the reserve, whose lock is held.
func (r *descriptorReserve) closeLocked() {
	for _, f := range r.files {
		_ = f.Close()
	}
	r.files = nil
}

// explainDescriptors says what is to be done about a worker that can't be started for want of
// descriptors. It returns other errors as they are.
func explainDescriptors(err error, workers, spares int) error {
	if runtime.GOOS == "windows" || (!errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE)) {
		return err
	}
	if errors.Is(err, syscall.ENFILE) {
		return fmt.Errorf("%w: the system has no file descriptor left for any process: "+
			"raise its limit (fs.file-max on Linux)", err)
	}
	return fmt.Errorf("%w: this process may have %d file descriptors (RLIMIT_NOFILE), "+
		"of which a host with %d workers and %d spares needs %d: raise the limit, or open less",
		err, descriptorLimit(), workers, spares, Descriptors(workers, spares))
}
