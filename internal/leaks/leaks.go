// Package leaks is for tests: it finds what a test has left behind.
package leaks

import "testing"

// Check fails the test at its end if anything is left of what the test has started after the call:
// a process, a goroutine, a descriptor, a temporary file. It looks for them on Linux only. It sets
// TMPDIR for the test, so the test may not run in parallel with others.
//
// The first call in a program starts a host with one worker, so the program has to call
// workerproc.Main.
func Check(t *testing.T) {
	t.Helper()
	check(t)
}
