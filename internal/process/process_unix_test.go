//go:build unix

package process_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hypertoken/internal/process"
)

// TestMain runs this process as a worker, or as a host that is killed, if ROLE says so.
func TestMain(m *testing.M) {
	role := os.Getenv("ROLE")
	switch role {
	case "status":
		fmt.Fprintln(os.Stderr, "no deck")
		os.Exit(3)
	case "closes":
		_ = os.Stdout.Close()
		time.AfterFunc(20*time.Millisecond, func() { os.Exit(4) })
		select {}
	case "mute":
		select {}
	case "host":
		hostOfTwo()
	case "noise":
		fmt.Print("init says hello\n1|2|3\n")
	case "unreaped":
		unreaped()
	case "directories":
		withoutDirectories()
	case "flood":
		for {
			fmt.Println(strings.Repeat("x", 1000))
		}
	}
	if !process.InWorker() {
		process.DeclareWorker()
		goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("hypertoken/internal/process.init.func1.1"))
		return
	}
	in, out, err := process.Serve()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch role {
	case "prints":
		for range 200 {
			fmt.Println(strings.Repeat("p", 1<<10))
		}
		slog.New(slog.NewJSONHandler(os.Stderr, nil)).Error("a record", "deck", 52)
	case "panics":
		panic("no more cards")
	case "spins":
		for n := 0; ; n++ {
			runtime.KeepAlive(n)
		}
	}
	_, _ = io.Copy(out, in)
	os.Exit(0)
}

// withoutDirectories is this process if it may make no directory; Linux only.
var withoutDirectories = func() {}

// hostOfTwo starts two workers, prints their process IDs, and waits to be killed.
func hostOfTwo() {
	for _, role := range []string{"echo", "spins"} {
		p, err := process.Start(context.Background(),
			process.Config{Logger: slog.Default(), Env: []string{"ROLE=" + role}})
		if err != nil {
			panic(err)
		}
		fmt.Println(p.Pid())
	}
	select {}
}

// unreaped is a host that ignores SIGCHLD, so that the kernel reaps its workers.
func unreaped() {
	signal.Ignore(syscall.SIGCHLD)
	p, err := process.Start(context.Background(), process.Config{})
	if err != nil {
		panic(err)
	}
	p.Kill()
	<-p.Done()
	fmt.Println(p.Err())
	os.Exit(0)
}

// log is a logger whose output can be waited for.
type log struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func newLog() *log { return &log{wrote: make(chan struct{}, 1)} }

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		select {
		case l.wrote <- struct{}{}:
		default:
		}
	}()
	return l.text.Write(b)
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *log) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

func (l *log) wait(t *testing.T, s string) {
	t.Helper()
	for !l.has(s) {
		select {
		case <-l.wrote:
		case <-t.Context().Done():
			t.Fatalf("the log lacks %q:\n%s", s, l.text.String())
		}
	}
}

// leaves checks that what f starts leaves no file and no descriptor.
func leaves(t *testing.T, f func()) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	if runtime.GOOS == "linux" { // elsewhere a socket lies there, whose path has to be short
		defer process.OnlyBase(dir)()
	}
	before := descriptors(t)
	f()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func startWorker(t *testing.T, role string, l *log) *process.Process {
	t.Helper()
	p, err := process.Start(t.Context(), process.Config{Logger: l.logger(), Env: []string{"ROLE=" + role}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func finish(p *process.Process) {
	_ = p.Stdin().Close()
	<-p.Done()
	_ = p.Stdout().Close()
}

func echo(t *testing.T, p *process.Process) {
	t.Helper()
	message := []byte("sixteen of clubs")
	if _, err := p.Stdin().Write(message); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(p.Stdout(), got); err != nil || !bytes.Equal(got, message) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPipesCarryFramesOnly(t *testing.T) {
	for _, role := range []string{"echo", "noise", "prints"} {
		t.Run(role, func(t *testing.T) {
			l := newLog()
			leaves(t, func() {
				p := startWorker(t, role, l)
				echo(t, p)
				finish(p)
				if err := p.Err(); err != nil {
					t.Errorf("it ended with %v", err)
				}
			})
			switch role {
			case "noise":
				l.wait(t, "init says hello")
				l.wait(t, "1|2|3")
			case "prints":
				l.wait(t, "pppp")
				l.wait(t, `level=ERROR msg="a record" deck=52`)
			}
		})
	}
}

func TestKilledWhateverItDoes(t *testing.T) {
	for _, role := range []string{"echo", "spins", "stopped"} {
		t.Run(role, func(t *testing.T) {
			leaves(t, func() {
				p := startWorker(t, role, newLog())
				if role == "stopped" {
					stop(t, p.Pid())
				}
				p.Kill()
				finish(p)
				if err := p.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}

func TestAPanicIsLogged(t *testing.T) {
	l := newLog()
	p := startWorker(t, "panics", l)
	finish(p)
	l.wait(t, "panic: no more cards")
	if err := p.Ended(); !strings.Contains(err.Error(),
		"ended by itself: exit status 2; it said: panic: no more cards / ") {
		t.Errorf("it ended with %v", err)
	}
	if err := p.Err(); err == nil || err.Error() != "exit status 2" {
		t.Errorf("it ended with %v", err)
	}
}

func TestWhatCannotBeStarted(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, role string
		timeout          time.Duration
		says             string
	}{
		{"missing", "/no/such/worker", "", 0, "the worker /no/such/worker can't be started"},
		{"not executable", plain, "", 0, "permission denied"},
		{"no program", junk, "", 0, "exec format error"},
		{"ends at once", "", "status", 0, "ended with exit status 3 instead of shaking hands"},
		{"closes its output first", "", "closes", 0, "ended with exit status 4 instead of shaking hands"},
		{"says why", "", "status", 0, "it said: no deck"},
		{"says nothing", "", "mute", 200 * time.Millisecond, "did not shake hands within 200ms"},
		{"never stops talking", "", "flood", 0, "and no handshake"},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaves(t, func() {
				_, err := process.Start(t.Context(), process.Config{Path: c.path, Logger: newLog().logger(),
					Env: []string{"ROLE=" + c.role}, StartTimeout: c.timeout})
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
			})
		})
	}
}

// A directory for temporary files may have any name: a socket's path is shorter than that.
func TestALongTemporaryDirectory(t *testing.T) {
	for _, n := range []int{65, 66, 200} {
		dir := t.TempDir()
		dir = filepath.Join(dir, strings.Repeat("d", max(1, n-len(dir)-1)))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", dir)
		p := startWorker(t, "echo", newLog())
		echo(t, p)
		finish(p)
	}
}

// If a program has started a child that holds its output open, the host must not wait for the
// child.
func TestGrandchildrenDoNotHoldAStart(t *testing.T) {
	for _, c := range []struct {
		name, does, says string
		timeout          time.Duration
	}{
		{"of one that ended", "exit 3", "ended with exit status 3", 5 * time.Minute},
		// The time is long enough for a shell to print the ID of the process that it has started.
		{"of one that is late", "wait", "did not shake hands within 2s", 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "wrapper")
			if err := os.WriteFile(path, []byte("#!/bin/sh\nsleep 60 &\necho $! >&2\n"+c.does+"\n"),
				0o700); err != nil {
				t.Fatal(err)
			}
			leaves(t, func() {
				_, err := process.Start(t.Context(), process.Config{Path: path, Logger: newLog().logger(),
					Env: []string{"PATH=" + os.Getenv("PATH")}, StartTimeout: c.timeout})
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %v, want %q", err, c.says)
				}
				_, said, _ := strings.Cut(err.Error(), "it said: ")
				pid, err := strconv.Atoi(said)
				if err != nil {
					t.Fatal(err)
				}
				if !alive(pid) {
					t.Error("the start has waited for the grandchild")
				}
				_ = syscall.Kill(pid, syscall.SIGKILL)
			})
		})
	}
}

func TestAHostThatIgnoresItsChildren(t *testing.T) {
	host := exec.Command("/proc/self/exe")
	host.Env = append(os.Environ(), "ROLE=unreaped", "TMPDIR="+t.TempDir())
	if out, err := host.CombinedOutput(); err != nil || !strings.Contains(string(out), "status unknown") {
		t.Errorf("got %v:\n%s", err, out)
	}
}

func TestAStartIsCanceled(t *testing.T) {
	leaves(t, func() {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := process.Start(ctx, process.Config{Logger: newLog().logger(),
			Env: []string{"ROLE=mute"}}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// If a host is killed, its workers end, also a worker that runs an endless action.
func TestWorkersEndWithTheirHost(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the parent's death signal is Linux's")
	}
	host := exec.Command("/proc/self/exe")
	temporary := t.TempDir()
	host.Env = append(os.Environ(), "ROLE=host", "TMPDIR="+temporary)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var workers []int
	for len(workers) < 2 && lines.Scan() {
		var pid int
		if _, err := fmt.Sscan(lines.Text(), &pid); err != nil {
			t.Fatal(err)
		}
		workers = append(workers, pid)
	}
	_ = host.Process.Signal(syscall.SIGKILL)
	_ = host.Wait()
	deadline := time.Now().Add(5 * time.Minute)
	for _, pid := range workers {
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("worker %d outlives its host", pid)
			}
			runtime.Gosched()
		}
	}
	if len(workers) != 2 {
		t.Errorf("%d workers had started", len(workers))
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("they have left %v, %v", left, err)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		p, err := process.Start(b.Context(), process.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		finish(p)
	}
}
