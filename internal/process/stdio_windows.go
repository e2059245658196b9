package process

import (
	"os"

	"golang.org/x/sys/windows"
)

// takeStdio returns the standard handles and replaces them: standard input is empty afterwards,
// and standard output is standard error.
func takeStdio() (in, out *os.File, err error) {
	in, out = os.Stdin, os.Stdout
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	os.Stdin, os.Stdout = null, os.Stderr
	if err = windows.SetStdHandle(windows.STD_INPUT_HANDLE, windows.Handle(null.Fd())); err == nil {
		err = windows.SetStdHandle(windows.STD_OUTPUT_HANDLE, windows.Handle(os.Stderr.Fd()))
	}
	return in, out, err
}

// dropInherited has nothing to do: on Windows a process inherits only the handles that it is
// given.
func dropInherited() error { return nil }
