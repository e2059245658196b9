//go:build !linux

package process

// takeName does nothing here: a process is named after its program.
func takeName(string) {}

// offerToOOM does nothing here: the system chooses by itself what to end if memory runs out.
func offerToOOM(int) error { return nil }
