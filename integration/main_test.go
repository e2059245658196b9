package integration

import (
	"fmt"
	"os"
	"testing"

	"hypertoken/workerproc"
)

// programs is a directory for what tests build. It goes with them.
var programs string

func TestMain(m *testing.M) {
	hostileMain()
	workerproc.Main()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "hypertoken"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(programs) }()
	return m.Run()
}
