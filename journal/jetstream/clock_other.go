//go:build !linux

package jetstream

import "time"

// suspendedClock returns a clock. Where the monotonic clock stands still while the machine is
// suspended, as on macOS, the wall clock is the better one: a lease ends meanwhile.
func suspendedClock() func() time.Duration {
	start := time.Now()
	wall := start.Round(0)
	return func() time.Duration {
		now := time.Now()
		return max(now.Sub(start), now.Round(0).Sub(wall))
	}
}
