package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/leaks"
)

// An application is this program in another role: it opens a host on workers and says in JSON Lines
// what happens. It runs as a user who is bound by limits and permissions, which root is not.

// nobody is a user that has no other process: limits count those.
const nobody = 64_999

// theirs has the cache of compiled code that applications share where it is not the subject.
var theirs string

// application starts a role.
func application(t *testing.T, home, role string, args ...string) (c *exec.Cmd, in io.WriteCloser, out *bufio.Scanner) {
	t.Helper()
	leaks.Check(t)
	if theirs == "" {
		theirs = makeHome(t)
	}
	c = exec.Command(testProgram(t), args...)
	c.Env = []string{roleVariable + "=" + role, "TMPDIR=" + filepath.Join(home, "tmp"), "HYPERTOKEN_TEST_CACHE=" +
		filepath.Join(home, "cache")}
	if role != "cached" {
		c.Env = append(c.Env, "HYPERTOKEN_TEST_CACHE="+filepath.Join(theirs, "cache"))
	}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		c.Env = append(c.Env, "GOCOVERDIR="+dir)
	}
	c.Stderr = os.Stderr
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return begin(t, c)
}

// home makes a directory for an application's user, that has room for temporary files, which are
// gone after the test, and a cache.
func home(t *testing.T) (dir string) {
	t.Helper()
	dir = makeHome(t)
	t.Cleanup(func() {
		left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*"))
		if len(left) > 0 {
			t.Errorf("files are left: %v", left)
		}
	})
	return dir
}

func makeHome(t *testing.T) (dir string) {
	t.Helper()
	// Its name is short, as sockets need it.
	dir, err := os.MkdirTemp(programs, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "tmp"), filepath.Join(dir, "cache")} {
		err := errors.Join(os.MkdirAll(d, 0o755), os.Chmod(d, 0o755))
		if err == nil && os.Geteuid() == 0 {
			err = os.Chown(d, nobody, nobody)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// testProgram returns a copy of this program that everybody may run.
func testProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(programs, "application")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(path, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// said is what an application says.
type said struct {
	What    string
	Workers []int
	Results []string
	Digest  string
	Code    string // of what failed
	Error   string
	Stats   host.Stats
	Logged  []string
}

// hear reads what an application says next, which is to be what.
func hear(t *testing.T, out *bufio.Scanner, what string) (s said) {
	t.Helper()
	if !out.Scan() {
		t.Fatalf("the application has ended before %q: %v", what, out.Err())
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.What != what {
		t.Fatalf("the application says %s instead of %q", out.Bytes(), what)
	}
	return s
}

// app is the application's side.
type app struct {
	host *host.Host
	log  *memoryLog
}

// must ends the application where something is wrong with it.
func must[T any](v T, err error) T {
	if err != nil {
		current.fail(err)
	}
	return v
}

// current is the application that this process is.
var current *app

// fail says why, and what has happened up to now.
func (a *app) fail(why any) {
	fmt.Fprintf(os.Stderr, "application: %v\n%s\n", why, strings.Join(a.log.all(), "\n"))
	if a.host != nil {
		fmt.Fprintf(os.Stderr, "%+v\n", a.host.Stats())
	}
	os.Exit(1)
}

func newApp(o host.Options) *app {
	a := &app{log: &memoryLog{}}
	current = a
	go func() {
		// The test holds the other end as long as it lives.
		_, _ = io.Copy(io.Discard, os.Stdin)
		a.fail("the test has ended")
	}()
	o.Core, o.CacheDir, o.Logger = cores.Test, os.Getenv("HYPERTOKEN_TEST_CACHE"), slog.New(a.log)
	a.host = must(host.New(context.Background(), o))
	return a
}

func (a *app) open(name string, setup any) *host.Engine {
	return must(a.host.Open(context.Background(), name, host.EngineOptions{Setup: setup}))
}

// say writes a line, with what the host has counted and logged up to now.
func (a *app) say(s said) {
	s.Stats = a.host.Stats()
	s.Logged = a.log.all()
	for _, w := range s.Stats.Workers {
		s.Workers = append(s.Workers, w.PID)
	}
	must(os.Stdout.Write(append(must(json.Marshal(s)), '\n')))
}

// until waits for what the host's counts show.
func (a *app) until(is func(host.Stats) bool) host.Stats {
	for {
		if s := a.host.Stats(); is(s) {
			return s
		}
		betweenLooks()
	}
}

// memoryLog keeps warnings and errors.
type memoryLog struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (m *memoryLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (m *memoryLog) WithAttrs([]slog.Attr) slog.Handler           { return m }
func (m *memoryLog) WithGroup(string) slog.Handler                { return m }

func (m *memoryLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, line)
	return nil
}

func (m *memoryLog) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.lines...)
}

// turn is an action of a game that goes the same way each time.
func turn(n int) (action string, options []host.DispatchOption) {
	return []string{"stack:shuffle", "stack:draw", "stack:reverse", "stack:reset"}[n%4],
		[]host.DispatchOption{host.Now(time.UnixMilli(int64(n))), host.Entropy([16]byte{byte(n), byte(n >> 8)})}
}

// playTurns plays turns of the game.
func playTurns(ctx context.Context, e *host.Engine, from, to int) (results []string, err error) {
	for n := from; n < to; n++ {
		action, options := turn(n)
		r, err := e.Dispatch(ctx, action, nil, options...)
		if err != nil {
			return results, fmt.Errorf("turn %d: %w", n, err)
		}
		results = append(results, fmt.Sprintf("%d %x", r.Sequence, r.Raw))
	}
	return results, nil
}

// undisturbedTurns is what the game gives where nothing happens to it.
func undisturbedTurns(t *testing.T, turns int) (results []string, digest string) {
	t.Helper()
	h, err := host.New(t.Context(), host.Options{InProcess: true, Core: cores.Test,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	e := open(t, h, "e", deck(52))
	if results, err = playTurns(t.Context(), e, 0, turns); err != nil {
		t.Fatal(err)
	}
	d, err := e.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return results, d.String()
}

func argument(n int) string {
	if n < len(os.Args) {
		return os.Args[n]
	}
	return ""
}
