package integration

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/leaks"
	"hypertoken/internal/require"
)

// endings are the signals that end a command.
var endings = []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// A signal ends every command alike, with its workers and whatever else it has started, and no temporary file is left.
func TestASignalEndsACommand(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	core := filepath.Join(t.TempDir(), "test.wasm")
	if err := os.WriteFile(core, cores.Test, 0o600); err != nil {
		t.Fatal(err)
	}
	if ossignal.Ignored(syscall.SIGHUP) {
		// The commands would ignore it, too, as under nohup. What is caught here is not ignored there.
		caught := make(chan os.Signal, 1)
		ossignal.Notify(caught, syscall.SIGHUP)
		defer ossignal.Stop(caught)
	}
	hasChildren := func(n int) func(*testing.T, int, io.Writer, *bufio.Scanner) {
		return func(t *testing.T, pid int, _ io.Writer, _ *bufio.Scanner) { untilChildren(t, pid, n) }
	}
	listens := func(t *testing.T, _ int, _ io.Writer, out *bufio.Scanner) { line(t, out) }
	for k, c := range []struct {
		name string
		args []string
		// under waits until the command is under way.
		under func(t *testing.T, pid int, in io.Writer, out *bufio.Scanner)
		// failed says that the exit status is that of a command that a signal has ended.
		failed bool
	}{
		{"run, waiting for input", []string{"run"}, func(t *testing.T, _ int, in io.Writer, out *bufio.Scanner) {
			fmt.Fprintln(in, `{"digest":true}`)
			line(t, out)
		}, true},
		{"run, in a batch", []string{"run", "--batch", "--batch-window", "1h"}, func(t *testing.T, _ int, in io.Writer, out *bufio.Scanner) {
			fmt.Fprintln(in, `{"digest":true}`)
			line(t, out)
			fmt.Fprintln(in, `{"type":"stack:peek"}`)
		}, true},
		{"run, in an action", []string{"run", "--core", core, "--timeout", "0"}, func(t *testing.T, pid int, in io.Writer, out *bufio.Scanner) {
			fmt.Fprintln(in, `{"digest":true}`)
			line(t, out)
			fmt.Fprintln(in, `{"type":"test:spin"}`)
			untilItComputes(t, pid)
		}, true},
		{"run, before its file has a writer", []string{"run", pipe}, untilItOpens, true},
		{"verify, before its file has a writer", []string{"verify", pipe}, untilItOpens, true},
		{"serve", []string{"serve", "--listen", "127.0.0.1:0", "--workers", "1"}, listens, false},
		{"torture", []string{"torture", "--for", "1h", "--faults", "cancel"}, hasChildren(2), false},
		{"bench", []string{"bench", "--for", "1h", "--only", "roundtrip/go_plugin"}, hasChildren(2), false},
	} {
		// A run that is not deep gives each command one of the signals, the next one the next.
		for _, s := range require.Sample(len(endings),
			slices.Concat(endings[k%len(endings):], endings[:k%len(endings)])) {
			t.Run(fmt.Sprintf("%s/%v", c.name, s), func(t *testing.T) {
				command, in, out := start(t, program, c.args...)
				c.under(t, command.Process.Pid, in, out)
				signal(t, command.Process.Pid, s)
				said := rest(out)
				want := 0
				if c.failed {
					want = 128 + int(s)
				}
				if got := status(command.Wait()); got != want {
					t.Errorf("it ends with %d, want %d; it said %q", got, want, said)
				}
				if strings.Contains(said, "canceled") {
					t.Errorf("it said %q of its own end", said)
				}
			})
		}
	}
}

// A second signal ends a command whose end takes long.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	core := filepath.Join(t.TempDir(), "test.wasm")
	if err := os.WriteFile(core, cores.Test, 0o600); err != nil {
		t.Fatal(err)
	}
	// A worker that its host leaves in a hurry may leave the directory of its socket.
	t.Setenv("TMPDIR", t.TempDir())
	c := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--workers", "1", "--core", core, "--timeout", "0",
		"--drain-timeout", "1h")
	c, _, out := begin(t, c)
	url := strings.TrimPrefix(line(t, out), "listening on ")
	go func() {
		r, err := http.Post(url+"/v1/engines/e", "application/jsonl",
			strings.NewReader("{\"setup\":{}}\n{\"type\":\"test:spin\"}\n"))
		if err == nil {
			_, _ = io.Copy(io.Discard, r.Body) // until the server ends
			_ = r.Body.Close()
		}
	}()
	untilItComputes(t, c.Process.Pid)
	signal(t, c.Process.Pid, syscall.SIGTERM)
	// It has taken the first signal when it listens no more.
	for {
		r, err := http.Get(url + "/healthz")
		if err != nil {
			break
		}
		_ = r.Body.Close()
	}
	signal(t, c.Process.Pid, syscall.SIGHUP)
	_ = rest(out)
	if got := status(c.Wait()); got != 128+int(syscall.SIGHUP) {
		t.Errorf("it ends with %d", got)
	}
}

// Under nohup a command outlives its terminal.
func TestAHangupThatIsIgnoredStaysIgnored(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	leaks.Check(t)
	c, in, out := begin(t, exec.Command("/bin/sh", "-c", `trap "" HUP; exec "$0" run`, program))
	fmt.Fprintln(in, `{"digest":true}`)
	line(t, out)
	signal(t, c.Process.Pid, syscall.SIGHUP)
	fmt.Fprintln(in, `{"digest":true}`)
	line(t, out)
	_ = in.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// What bench measures for comparison ends with it, even if nobody is there to end it.
func TestBaselinesEndWithTheirHost(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	leaks.Check(t)
	c := exec.Command(program, "bench", "--for", "1h", "--only", "roundtrip/(go_plugin|pipe|node)")
	c, _, _ = begin(t, c)
	// All of them, so that bench is not in the middle of a start: a directory whose child was
	// never started has nobody who removes it.
	baselines := 3
	if _, err := exec.LookPath("node"); err == nil {
		baselines++
	}
	children := untilChildren(t, c.Process.Pid, baselines)
	_ = c.Process.Kill()
	_ = c.Wait()
	for _, pid := range children {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			if !ended(fd, time.Minute) { // Node may still be starting
				t.Errorf("the process %d has outlived bench", pid)
			}
			_ = unix.Close(fd)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

// A command whose output nobody reads any more ends, says nothing about it and leaves nothing.
func TestACommandEndsWhenNobodyReadsItsOutput(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	trace, err := filepath.Abs("testdata/conformance/game-blackjack-1-00.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("run, after a line", func(t *testing.T) {
		leaks.Check(t)
		c := exec.Command(program, "run")
		session(t, c)
		var said bytes.Buffer
		c.Stderr = &said
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(in, `{"digest":true}`)
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		_ = out.Close()
		fmt.Fprintln(in, `{"digest":true}`) // its answer finds no reader; standard input stays open
		if got := status(c.Wait()); got != 128+int(syscall.SIGPIPE) || said.Len() > 0 {
			t.Errorf("it ends with %d and says %q", got, said.String())
		}
	})
	server, _, out := start(t, program, "serve", "--listen", "127.0.0.1:0", "--workers", "1")
	url := strings.TrimPrefix(line(t, out), "listening on ")
	for _, args := range [][]string{
		{"run", "../examples/blackjack.jsonl"},
		{"verify", trace},
		{"actions"},
		{"actions", "--json"},
		{"version"},
		{"torture", "--for", "100ms", "--faults", "cancel"},
		{"bench", "--for", "1s", "--only", "roundtrip/pipe"},
		{"bench", "--for", "1s", "--only", "roundtrip/pipe", "--json"},
		{"top", "--plain", "--interval", "100ms", url},
		{"top", "--json", "--interval", "100ms", url},
	} {
		t.Run(strings.Join(args[:min(2, len(args))], " "), func(t *testing.T) {
			c := exec.Command(program, args...)
			session(t, c)
			var said bytes.Buffer
			c.Stdout, c.Stderr = unread(t), &said
			if got := status(c.Run()); got != 128+int(syscall.SIGPIPE) || said.Len() > 0 {
				t.Errorf("it ends with %d and says %q", got, said.String())
			}
		})
	}
	signal(t, server.Process.Pid, syscall.SIGTERM)
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
}

// Nothing that is logged ends a game or holds it up: neither a standard error that nobody reads any
// more, nor one that is full.
func TestAGameGoesOnWithoutItsLog(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	for name, stderr := range map[string]func(*testing.T) *os.File{"unread": unread, "full": full} {
		t.Run(name, func(t *testing.T) {
			t.Run("run", func(t *testing.T) {
				leaks.Check(t)
				c := exec.Command(program, "run", "--debug")
				c.Stderr = stderr(t)
				c, in, out := begin(t, c)
				for range 5 {
					fmt.Fprintln(in, `{"digest":true}`)
					line(t, out)
					for _, worker := range childrenOf(c.Process.Pid) {
						signal(t, worker, syscall.SIGKILL)
					}
				}
				_ = in.Close()
				if err := c.Wait(); err != nil {
					t.Error(err)
				}
			})
			t.Run("serve", func(t *testing.T) {
				leaks.Check(t)
				c := exec.Command(program, "serve", "--debug", "--listen", "127.0.0.1:0", "--workers", "1")
				c.Stderr = stderr(t)
				c, _, out := begin(t, c)
				url := strings.TrimPrefix(line(t, out), "listening on ")
				body := "{\"setup\":{}}\n"
				for range 5 {
					r, err := http.Post(url+"/v1/engines/e", "application/jsonl", strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					answer, err := io.ReadAll(r.Body)
					_ = r.Body.Close()
					if err != nil || r.StatusCode != http.StatusOK || bytes.Contains(answer, []byte("error")) {
						t.Fatalf("%d %s, %v", r.StatusCode, answer, err)
					}
					body = "{\"digest\":true}\n"
					for _, worker := range childrenOf(c.Process.Pid) {
						signal(t, worker, syscall.SIGKILL)
					}
				}
				http.DefaultClient.CloseIdleConnections()
				signal(t, c.Process.Pid, syscall.SIGTERM)
				if err := c.Wait(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func init() { roles["unread"] = unreadApplication }

// unreadApplication plays a game while its worker is killed again and again. Its host has the
// logger of every application.
func unreadApplication() int {
	ctx := context.Background()
	h := must(host.New(ctx, host.Options{Workers: 1, MaxRestarts: 1 << 20, RestartWindow: 1,
		CacheDir: os.Getenv("HYPERTOKEN_TEST_CACHE")}))
	e := must(h.Open(ctx, "e", host.EngineOptions{Setup: deck(52)}))
	for n := range uint64(3) {
		must(e.Dispatch(ctx, "stack:draw", nil))
		_ = syscall.Kill(h.Stats().Workers[0].PID, syscall.SIGKILL)
		for h.Stats().Restarts[host.RestartDied] <= n {
			betweenLooks()
		}
	}
	must(e.Dispatch(ctx, "stack:draw", nil))
	_ = h.Shutdown(ctx)
	fmt.Println("played")
	return 0
}

// An application outlives what its host logs, if nobody reads its standard error.
func TestAnApplicationGoesOnWithoutItsLog(t *testing.T) {
	leaks.Check(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env, c.Stderr = append(os.Environ(), roleVariable+"=unread"), unread(t)
	c, _, out := begin(t, c)
	said := rest(out)
	if err := c.Wait(); err != nil || said != "played\n" {
		t.Errorf("it said %q and ended with %v", said, err)
	}
}

// A server serves even if nobody is there to read where it listens.
func TestAServerNeedsNoReader(t *testing.T) {
	program := build(t, "cmd/hypertoken")
	leaks.Check(t)
	c := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--workers", "1")
	session(t, c)
	c.Stdout = unread(t)
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	log := bufio.NewReader(said)
	for url := ""; url == ""; {
		text, err := log.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		_, address, _ := strings.Cut(text, "address=")
		if url, _, _ = strings.Cut(strings.TrimSpace(address), " "); url != "" {
			r, err := http.Get(strings.Trim(url, `"`) + "/healthz")
			if err != nil || r.StatusCode != http.StatusOK {
				t.Fatal(r, err)
			}
			_ = r.Body.Close()
		}
	}
	http.DefaultClient.CloseIdleConnections()
	signal(t, c.Process.Pid, syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, log)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// unread returns the end of a pipe that nobody reads any more.
func unread(t *testing.T) *os.File {
	t.Helper()
	in, out := newPipe(t)
	_ = in.Close()
	return out
}

// full returns the end of a pipe that takes no byte more: its reader does not read.
func full(t *testing.T) *os.File {
	t.Helper()
	_, out := newPipe(t)
	fd := int(out.Fd()) // blocking, as a command gets it
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := unix.Write(fd, make([]byte, 1<<10))
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return out
}

func newPipe(t *testing.T) (in, out *os.File) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	return in, out
}

// line reads the next line of a command's output.
func line(t *testing.T, out *bufio.Scanner) string {
	t.Helper()
	if !out.Scan() {
		t.Fatalf("the output has ended: %v", out.Err())
	}
	return out.Text()
}

// rest reads a command's output to its end.
func rest(out *bufio.Scanner) string {
	var b strings.Builder
	for out.Scan() {
		b.WriteString(out.Text() + "\n")
	}
	return b.String()
}

// status is the exit status of a command that has ended, -1 if a signal has killed it.
func status(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -2
}

// untilChildren waits until a process has so many children.
func untilChildren(t *testing.T, pid, n int) []int {
	t.Helper()
	for {
		if list := childrenOf(pid); len(list) >= n {
			return list
		}
		betweenLooks()
		if t.Context().Err() != nil {
			t.Fatal("the children do not come")
		}
	}
}

// spinTicks is how long a worker computes, in ticks of 10 ms, before a test takes it for one that
// runs test:spin. Being without a processor on a busy machine does not count.
const spinTicks = 20

// ticks returns how long a process has computed; 0 if it is gone.
func ticks(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= 12 {
		return 0
	}
	var user, system int
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	return user + system
}

// untilItComputes waits until a worker of a process computes, as no worker does that has nothing to run.
func untilItComputes(t *testing.T, pid int) {
	t.Helper()
	spent := func() (sum int) {
		for _, child := range childrenOf(pid) {
			sum += ticks(child)
		}
		return sum
	}
	for before := spent(); spent() < before+spinTicks; {
		betweenLooks()
		if t.Context().Err() != nil {
			t.Fatal("it does not compute")
		}
	}
}

// untilItOpens waits until a process waits in open(2), as for the writer of a named pipe.
func untilItOpens(t *testing.T, pid int, _ io.Writer, _ *bufio.Scanner) {
	t.Helper()
	for {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, task := range tasks {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, task.Name()))
			if call := strings.Fields(string(b)); len(call) > 0 && call[0] == fmt.Sprint(unix.SYS_OPENAT) {
				return
			}
		}
		betweenLooks()
		if t.Context().Err() != nil {
			t.Fatal("it does not open its file")
		}
	}
}
