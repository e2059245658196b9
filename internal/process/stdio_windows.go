package process

import (
	"os"

	"golang.org/x/sys/windows"
)

// takeStdio keeps the standard handles for itself and gives others to whoever asks for them from now on.
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

// dropInherited has nothing to do: a process gets the handles here that it is given, and no others.
func dropInherited() error { return nil }
