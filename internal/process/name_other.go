//go:build !linux

package process

// takeName does nothing here: a process is named after its program.
func takeName(string) {}

// offerToOOM does nothing here: if memory runs out, the system alone chooses which process to
// kill.
func offerToOOM(int) error { return nil }
