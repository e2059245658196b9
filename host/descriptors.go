package host

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
	// descriptorsOfWorker is what a worker that runs has open in its host: the ends of its pipes, its
	// process, its log.
	descriptorsOfWorker = 8
	// descriptorsOfStart is what starting workers takes for a moment, and is kept in reserve for that.
	descriptorsOfStart = 24
)

// Descriptors returns how many file descriptors a host of those options needs at most, beside what the
// application has open: for its workers and spares, for starting them, and for itself. A process that
// may have fewer (RLIMIT_NOFILE) can't restart a worker at some time. Options that are zero have their
// defaults.
func Descriptors(o Options) int {
	o.setDefaults()
	if o.InProcess {
		return descriptorsOfHost
	}
	return descriptorsOfHost + descriptorsOfStart + (o.Workers+o.Spares)*descriptorsOfWorker
}

// descriptorReserve are descriptors that are given up while workers are started.
type descriptorReserve struct {
	mu      sync.Mutex // guards what follows
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

func (r *descriptorReserve) fillLocked() {
	for r.starts == 0 && !r.isEnded && len(r.files) < descriptorsOfStart {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return // the next start tries again
		}
		r.files = append(r.files, f)
	}
}

// begin gives the reserve up for a start; end takes it back once no start is under way.
func (r *descriptorReserve) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts++
	r.closeLocked()
}

func (r *descriptorReserve) end() {
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

func (r *descriptorReserve) closeLocked() {
	for _, f := range r.files {
		_ = f.Close()
	}
	r.files = nil
}

// withDescriptors says what is to be done about a worker that can't be started for want of descriptors.
func (h *Host) withDescriptors(err error) error {
	if runtime.GOOS == "windows" || (!errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE)) {
		return err
	}
	if errors.Is(err, syscall.ENFILE) {
		return fmt.Errorf("%w: the system has no file descriptor left for any process: raise its limit (fs.file-max on Linux)", err)
	}
	return fmt.Errorf("%w: this process may have %d file descriptors (RLIMIT_NOFILE), "+
		"of which a host with %d workers and %d spares needs %d: raise the limit, or open less", err, descriptorLimit(), h.options.Workers, h.options.Spares, Descriptors(h.options))
}
