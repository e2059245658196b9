package host

import "hypertoken/internal/pool"

// Descriptors returns how many file descriptors a host of those options needs at most, beside what the
// application has open: for its workers and spares, for starting them, and for itself. A process that
// may have fewer (RLIMIT_NOFILE) can't restart a worker at some time. Options that are zero have their
// defaults.
func Descriptors(o Options) int {
	o.setDefaults()
	if o.InProcess {
		return pool.Descriptors(0, 0)
	}
	return pool.Descriptors(o.Workers, o.Spares)
}
