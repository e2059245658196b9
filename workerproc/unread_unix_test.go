//go:build unix

package workerproc_test

import (
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"hypertoken/internal/process"
	"hypertoken/ipc"
	"hypertoken/wasm"
)

// If STDERR_UNREAD is set, nobody reads a worker's standard error.
func init() {
	if os.Getenv("STDERR_UNREAD") == "" || !process.InWorker() {
		return
	}
	in, out, err := os.Pipe()
	if err == nil {
		err = unix.Dup2(int(out.Fd()), int(os.Stderr.Fd()))
	}
	if err != nil {
		panic(err)
	}
	_, _ = in.Close(), out.Close()
}

// A worker that logs to a standard error that nobody reads runs its engines.
func TestAWorkerWhoseLogNobodyReads(t *testing.T) {
	s := startWith(t, process.Config{Logger: slog.New(slog.DiscardHandler), Env: []string{"STDERR_UNREAD=1"}})
	s.good(ipc.Configure, 0, ipc.Encode(ipc.ConfigureBody{Core: wasm.Hash(wasm.Builtin()), EngineMemory: 64 << 20,
		MaxFrame: ipc.DefaultMaxFrame, Debug: true}))
	s.open(1)
	s.good(ipc.Ready, 1)
	s.good(ipc.Dispatch, 1, action("stack:draw"))
}
