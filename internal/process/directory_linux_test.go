package process_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"

	"hypertoken/internal/process"
)

func init() { withoutDirectories = startWithoutDirectories }

// startWithoutDirectories prints the error of a start in a process that can make no directory
// anywhere.
func startWithoutDirectories() {
	if err := landlock.MustConfig(landlock.AccessFSSet(landlocksys.AccessFSMakeDir)).RestrictPaths(); err != nil {
		panic(err)
	}
	_, err := process.Start(context.Background(), process.Config{Env: []string{"ROLE=echo"}})
	fmt.Println(err)
	os.Exit(0)
}

// A worker starts without the directory for temporary files, as long as there is any other that
// can be written.
func TestNoTemporaryDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/no/such/directory", file, "/proc"} {
		t.Setenv("TMPDIR", dir)
		p := startWorker(t, "echo", newLog())
		echo(t, p)
		finish(p)
	}
}

// If there is no such directory at all, the error says so, and does not blame the program.
func TestNoDirectoryAtAll(t *testing.T) {
	if process.Offered().Landlock == 0 {
		t.Skip("this kernel has no Landlock, by which a process can be kept from making directories")
	}
	host := exec.Command("/proc/self/exe")
	host.Env = append(os.Environ(), "ROLE=directories", "TMPDIR=/no/such/directory")
	out, err := host.CombinedOutput()
	said := string(out)
	for _, part := range []string{"a directory for temporary files", "/no/such/directory", "mkdir /dev/shm/",
		"set TMPDIR"} {
		if err != nil || !strings.Contains(said, part) || strings.Contains(said, "WorkerPath") {
			t.Errorf("got %v, want %q:\n%s", err, part, said)
		}
	}
}
