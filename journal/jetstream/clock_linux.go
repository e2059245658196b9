package jetstream

import (
	"time"

	"golang.org/x/sys/unix"
)

// suspendedClock returns a clock that counts the time for which the machine was suspended, too: a
// lease ends meanwhile.
func suspendedClock() func() time.Duration {
	read := func() time.Duration {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
			panic(err) // Linux has it since 2.6.39
		}
		return time.Duration(t.Nano())
	}
	start := read()
	return func() time.Duration { return read() - start }
}
