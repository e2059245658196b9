//go:build unix

package calm_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"hypertoken/internal/calm"
)

// TestMain runs the application of the test below, if the variable is set.
func TestMain(m *testing.M) {
	if os.Getenv("UNREAD_APPLICATION") == "" {
		os.Exit(m.Run())
	}
	for range calm.Burst {
		log := slog.New(calm.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
		log.Warn("a worker ended")
		log.Debug("an engine is placed")
	}
	fmt.Println("goes on")
	fmt.Fprintln(os.Stderr, "a line of its own")
	fmt.Println("is not reached")
	os.Exit(0)
}

// A log that nobody reads does not end the application. If the application itself writes there,
// that ends it, as it would without this package.
func TestALogThatNobodyReads(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	defer func() { _ = out.Close() }()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env, c.Stderr = append(os.Environ(), "UNREAD_APPLICATION=1"), out
	said, err := c.Output()
	var exit *exec.ExitError
	if string(said) != "goes on\n" || !errors.As(err, &exit) ||
		exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
		t.Errorf("it said %q and ended with %v", said, err)
	}
}
