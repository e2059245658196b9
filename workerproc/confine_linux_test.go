package workerproc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hypertoken/internal/process"
	"hypertoken/ipc"
)

// If BREAK_OUT names a directory, a worker tries, at each SIGUSR1 and during its work, everything
// that a core could try that has broken out of WebAssembly.
func init() {
	if dir := os.Getenv("BREAK_OUT"); dir != "" && process.InWorker() {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGUSR1)
		readers := newReaders()
		go func() {
			for round := range 2 {
				<-told
				logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
				for name, err := range breakOut(filepath.Join(dir, fmt.Sprint(round)), readers) {
					var errno syscall.Errno
					errors.As(err, &errno)
					logger.Info("tried", "what", name, "errno", int(errno))
				}
				logger.Info("tried", "what", "")
			}
		}()
	}
}

// breakOut makes the attempts, and returns the error of each. The directory dir has a file named
// there.
func breakOut(dir string, r *readers) map[string]error {
	plain := net.ListenConfig{}
	plain.SetMultipathTCP(false)
	_, list := os.ReadDir("/")
	tried := r.attack(dir)
	maps.Copy(tried, map[string]error{
		"read":             read(),
		"read, any thread": r.read(),
		"list":             list,
		"write":            os.WriteFile(filepath.Join(dir, "there"), nil, 0o600),
		"make":             os.WriteFile(filepath.Join(dir, "made"), nil, 0o600),
		"remove":           os.Remove(filepath.Join(dir, "there")),
		"execute":          execute("/bin/true"),
		"connect TCP":      opened(net.Dial("tcp", os.Getenv("TCP"))),
		"bind TCP":         opened(plain.Listen(context.Background(), "tcp", "127.0.0.1:0")),
		"connect abstract": opened(net.Dial("unix", os.Getenv("ABSTRACT"))),
		"signal the host":  syscall.Kill(os.Getppid(), 0),
	})
	return tried
}

func opened[C interface{ Close() error }](c C, err error) error {
	if err == nil {
		_ = c.Close()
	}
	return err
}

func read() error {
	_, err := os.ReadFile("/etc/passwd")
	return err
}

func execute(path string) error {
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
	if err == nil {
		_, err = syscall.Wait4(pid, nil, 0, nil)
	}
	return err
}

// readers are threads that were there before the worker is confined.
type readers struct {
	turn  chan struct{}
	tried chan error
	// tcp are sockets of before that too.
	tcp []int
	// pair are two that are connected.
	pair [2]int
}

const readerCount = 8

func newReaders() *readers {
	r := &readers{turn: make(chan struct{}), tried: make(chan error)}
	for range 6 {
		fd, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		r.tcp = append(r.tcp, fd)
	}
	r.pair, _ = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	ready := make(chan struct{})
	for range readerCount {
		go func() {
			runtime.LockOSThread()
			ready <- struct{}{}
			for range r.turn {
				r.tried <- read()
			}
		}()
	}
	for range readerCount {
		<-ready
	}
	return r
}

// read lets each reader read once, and returns nil if any of them could. No reader gets a second
// turn before all have had one.
func (r *readers) read() (err error) {
	for range readerCount {
		r.turn <- struct{}{}
	}
	failed := 0
	for range readerCount {
		if e := <-r.tried; e != nil {
			err = e
			failed++
		}
	}
	if failed < readerCount {
		return nil
	}
	return err
}

// attempts takes the log lines in which a worker reports its attempts.
type attempts chan []byte

func (a attempts) Write(line []byte) (int, error) {
	a <- bytes.Clone(line)
	return len(line), nil
}

// next makes the worker try, and returns the error number of each attempt.
func (a attempts) next(t *testing.T, pid int) map[string]syscall.Errno {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	tried := map[string]syscall.Errno{}
	for {
		select {
		case line := <-a:
			var r struct {
				Msg, What string
				Errno     syscall.Errno
			}
			if err := json.Unmarshal(line, &r); err != nil || r.Msg != "tried" {
				t.Fatalf("the worker said %s", line)
			}
			if r.What == "" {
				return tried
			}
			tried[r.What] = r.Errno
		case <-t.Context().Done():
			t.Fatal("the worker does not try")
		}
	}
}

func TestAWorkerGivesUpWhatItDoesNotNeed(t *testing.T) {
	if !process.Offered().Seccomp {
		t.Skip("this kernel filters no system calls")
	}
	dir := t.TempDir()
	for _, round := range []string{"0", "1"} {
		if err := os.Mkdir(filepath.Join(dir, round), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, round, "there"), []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	abstract, err := net.Listen("unix", fmt.Sprintf("@hypertoken-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = abstract.Close() }()
	tried := make(attempts, 128)
	s := startWith(t, process.Config{
		Logger: slog.New(slog.NewJSONHandler(tried, nil)),
		Env:    []string{"BREAK_OUT=" + dir, "TCP=" + tcp.Addr().String(), "ABSTRACT=" + abstract.Addr().String()},
	})
	before := tried.next(t, s.process.Pid())
	for what, errno := range before {
		if errno != 0 && !mayFail[what] {
			t.Errorf("%s failed before: %v", what, errno)
		}
	}
	s.configure()
	after := tried.next(t, s.process.Pid())
	for what, errno := range after {
		want := syscall.EPERM
		if what == "fork by clone3" {
			want = syscall.ENOSYS
		}
		if errno != want {
			t.Errorf("%s: %v, want %v", what, errno, want)
		}
	}
	if len(after) != len(before) || len(after) < 80 {
		t.Errorf("tried: %v", after)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "1", "there")); err != nil || string(b) != "kept" {
		t.Errorf("the file has %q, %v", b, err)
	}
	// It works as before.
	s.open(1)
	s.good(ipc.Ready, 1)
	s.good(ipc.Dispatch, 1, action("stack:draw"))
}
