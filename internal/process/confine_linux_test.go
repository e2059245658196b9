package process

import (
	"testing"

	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// If Landlock treats each thread as a process of its own, Go's runtime must still be able to send
// signals to threads.
func TestSignalsStayWhereThreadsNeedThem(t *testing.T) {
	for _, c := range []struct {
		name        string
		abi, errata int
		taken       bool
	}{
		{"not mended", 6, 0b01, false},
		{"mended", 6, 0b10, true},
		{"mended, and newer", 7, 0b111, true},
		{"all threads at once", 8, 0, true},
	} {
		r := restrictions(c.abi, c.errata)
		if taken := r.Scoped&landlocksys.ScopeSignal != 0; taken != c.taken {
			t.Errorf("%s: signals are taken: %v, want %v", c.name, taken, c.taken)
		}
		if r.Scoped&landlocksys.ScopeAbstractUnixSocket == 0 || r.HandledAccessFS == 0 || r.HandledAccessNet == 0 {
			t.Errorf("%s: %v", c.name, r)
		}
	}
}
