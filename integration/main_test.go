package integration

import (
	"fmt"
	"os"
	"testing"

	"hypertoken/workerproc"
)

// roles are what this program is, beside its tests and its own worker, where the variable names
// one: applications that a test starts, stops and kills. They return their exit status.
var roles = map[string]func() int{}

const roleVariable = "HYPERTOKEN_TEST_ROLE"

// programs is a directory for what tests build. It goes with them.
var programs string

func TestMain(m *testing.M) {
	hostileMain()
	workerproc.Main()
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		os.Exit(role())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "hypertoken"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(programs) }()
	// Other users run some of them.
	if err = os.Chmod(programs, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
