package coredev_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"hypertoken/cmd/hypertoken/internal/coredev"
	"hypertoken/internal/cores"
)

// endless returns a core without actions. One of the functions of its ABI never returns.
func endless(op byte) *cores.Module {
	m := new(cores.Module).Returns("ht_abi", cores.ToInt, 1).Returns("ht_reply", cores.ToInt, 0)
	m.Function("ht_input", cores.IntToInt, 0x41, 0x80, 0xc0, 0x00)
	m.Function("ht_call", cores.IntsToInt, slices.Concat(
		[]byte{0x20, 0, 0x41, op, 0x46, 0x04, 0x40}, cores.Endless, []byte{0x0b}, // if call == op
		[]byte{0x41, 48, 0x41, 0x90, 0x01, 0x3a, 0, 0, // the byte at 48 is an empty array
			0x41, 8, 0x41, 48, 0x36, 2, 0, // the body of the reply is there
			// and has (call == 11) + 8 · (call == 10) bytes
			0x41, 12, 0x20, 0, 0x41, 11, 0x46, 0x20, 0, 0x41, 10, 0x46, 0x41, 8, 0x6c, 0x6a, 0x36, 2, 0,
			0x41, 0})...)
	m.Pages = 64
	return m
}

// A check always ends, whatever the core does. A finding names the function that does not end.
func TestAHostileCoreDoesNotHoldACheck(t *testing.T) {
	for name, c := range map[string]struct {
		code []byte
		want string
	}{
		"its start": {cores.Whole(1).Starting(cores.Endless...).Bytes(),
			"its first instance was not ready within 1s"},
		"opening":         {endless(1).Bytes(), "the setup of the check is refused: it does not end within 1s"},
		"restoring":       {endless(2).Bytes(), "can't be restored: it does not end within 1s"},
		"the snapshot":    {endless(7).Bytes(), "can't be written: it does not end within 1s"},
		"the digest":      {endless(10).Bytes(), "can't be computed: it does not end within 1s"},
		"the actions":     {endless(11).Bytes(), "its list of actions can't be read: it does not end within 1s"},
		"what is no file": {[]byte("\x7fELF"), "is it a file that 'hypertoken core build' made?"},
		"nothing":         {nil, "a host refuses it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var found []string
			check := coredev.Checker{Timeout: 100 * time.Millisecond, Report: func(f coredev.Finding) {
				found = append(found, string(f.Verdict)+" "+f.Text)
			}}
			sound, err := check.Check(t.Context(), c.code)
			said := strings.Join(found, "\n")
			if sound || err != nil || !strings.Contains(said, c.want) || !strings.Contains(said, "FAIL") {
				t.Errorf("sound: %v, %v; want %q, found\n%s", sound, err, c.want, said)
			}
		})
	}
}
