package integration

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hypertoken/host"
	"hypertoken/internal/leaks"
	"hypertoken/internal/process"
)

// A worker has nothing of its host's environment, none of its descriptors, and no way to more privileges.
func TestAWorkerStartsWithWhatItNeeds(t *testing.T) {
	for name, value := range map[string]string{
		"LD_PRELOAD": "/nowhere.so", "GODEBUG": "gctrace=1", "GOTRACEBACK": "crash", "AWS_SECRET_ACCESS_KEY": "secret",
		"PLUGIN_CLIENT_CERT": "none", "HOME": t.TempDir(), "BASH_ENV": "/nowhere.sh",
	} {
		t.Setenv(name, value)
	}
	// What the host holds without the flag that closes it: a file, a copy of it, a pipe.
	secret := filepath.Join(t.TempDir(), "secret")
	held, err := unix.Open(secret, unix.O_CREAT|unix.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := unix.Dup(held)
	if err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, fd := range []int{held, twice, pipe[0], pipe[1]} {
			_ = unix.Close(fd)
		}
	}()
	h := newHost(t, host.Options{Workers: 1})
	e := open(t, h, "e", deck(3))
	dispatch(t, e, "stack:draw", nil)
	worker := fmt.Sprintf("/proc/%d/", workerOf(t, h))

	var names []string
	for _, variable := range strings.Split(strings.TrimSuffix(contents(t, worker+"environ"), "\x00"), "\x00") {
		name, _, _ := strings.Cut(variable, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"HYPERTOKEN_WORKER", "PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT",
		"PLUGIN_PROTOCOL_VERSIONS"}; !slices.Equal(names, want) {
		t.Errorf("its environment has %v, want %v", names, want)
	}

	shared := map[string]bool{}
	entries, err := os.ReadDir(worker + "fd")
	if err != nil {
		t.Fatal(err)
	}
	hosts := strings.Join(leaks.Descriptors(), "\n") + "\n"
	for _, entry := range entries {
		to, err := os.Readlink(worker + "fd/" + entry.Name())
		switch {
		case err != nil:
			t.Fatal(err)
		case !ownDescriptor.MatchString(to):
			t.Errorf("its descriptor %s is %s", entry.Name(), to)
		case strings.HasPrefix(to, "pipe:") && strings.Contains(hosts, " "+to+"\n"):
			shared[to] = true
		}
	}
	if len(shared) != 3 {
		t.Errorf("it shares %v with its host: more than standard input, output and error", shared)
	}

	threads, _ := filepath.Glob(worker + "task/*/status")
	for _, thread := range threads {
		status := contents(t, thread)
		if !strings.Contains(status, "\nNoNewPrivs:\t1\n") {
			t.Errorf("%s may gain privileges", thread)
		}
		for _, set := range capabilitySets(t, statusBefore) {
			if !strings.Contains(status, "\n"+set+":\t0000000000000000\n") {
				t.Errorf("%s has capabilities (%s):\n%s", thread, set, status)
			}
		}
		if process.Offered().Seccomp && !strings.Contains(status, "\nSeccomp:\t2\n") {
			t.Errorf("the system calls of %s are not filtered:\n%s", thread, status)
		}
	}
	if len(threads) < 2 {
		t.Errorf("its threads are %v", threads)
	}
	if limits := contents(t, worker+"limits"); !noCore.MatchString(limits) {
		t.Errorf("it may dump its memory:\n%s", limits)
	}
	// Of the host's own threads only the one that starts workers has given up anything.
	threads, _ = filepath.Glob("/proc/self/task/*/status")
	bound := 0
	for _, thread := range threads {
		if b, err := os.ReadFile(thread); err == nil && strings.Contains(string(b), "\nNoNewPrivs:\t1\n") {
			bound++
		}
	}
	if before := strings.Contains(statusBefore, "\nNoNewPrivs:\t1\n"); !before && bound != 1 {
		t.Errorf("%d threads of the host have given up privileges", bound)
	}
}

// capabilitySets are the sets that have to be empty in a worker. A host that may not change its bounding set leaves its
// workers theirs, of which they can get nothing.
func capabilitySets(t *testing.T, host string) []string {
	t.Helper()
	sets := []string{"CapInh", "CapPrm", "CapEff", "CapAmb"}
	m := regexp.MustCompile(`(?m)^CapEff:\s+([0-9a-f]+)$`).FindStringSubmatch(host)
	if m == nil {
		t.Fatalf("no capabilities in %s", host)
	}
	effective, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if effective&(1<<unix.CAP_SETPCAP) != 0 {
		sets = append(sets, "CapBnd")
	}
	return sets
}

// Workers are told apart from their host, and from each other, wherever processes are listed, and
// the kernel ends them before their host if memory runs out.
func TestAWorkerIsNamedAndOfferedToTheOOMKiller(t *testing.T) {
	self, err := process.SHA256("")
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range []string{"", self} {
		h := newHost(t, host.Options{Workers: 2, Spares: 1, WorkerSHA256: pin})
		e := open(t, h, "e", deck(3))
		dispatch(t, e, "stack:draw", nil)
		s := h.Stats()
		for slices.ContainsFunc(slices.Concat(s.Workers, s.Spares),
			func(w host.WorkerStats) bool { return w.State != host.WorkerReady }) {
			betweenLooks()
			s = h.Stats()
		}
		score := func(pid string) int {
			n, err := strconv.Atoi(strings.TrimSpace(contents(t, "/proc/"+pid+"/oom_score_adj")))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		check := func(pid int, name string) {
			t.Helper()
			of := strconv.Itoa(pid)
			if got, want := contents(t, "/proc/"+of+"/comm"), "ht-"+name+"\n"; got != want {
				t.Errorf("it is named %q, want %q", got, want)
			}
			if got, want := contents(t, "/proc/"+of+"/cmdline"), "hypertoken-"+name+"\x00worker\x00"; got != want {
				t.Errorf("its command line is %q, want %q", got, want)
			}
			if own, workers := score("self"), score(of); workers <= own && own < 1000 {
				t.Errorf("oom_score_adj is %d, and the host's %d", workers, own)
			}
		}
		for id, w := range s.Workers {
			check(w.PID, fmt.Sprint("worker-", id))
		}
		check(s.Spares[0].PID, "spare-0")
	}
}

// statusBefore is this process's before it has started a worker.
var statusBefore = func() string {
	b, _ := os.ReadFile("/proc/self/status")
	return string(b)
}()

var (
	// Of Go's runtime, for its container's CPU limit too, and go-plugin's.
	ownDescriptor = regexp.MustCompile(`^(/dev/null|pipe:.*|anon_inode:\[event(poll|fd)\]|socket:\[\d+\]|/sys/fs/cgroup/.*)$`)
	noCore        = regexp.MustCompile(`(?m)^Max core file size +0 +0 `)
)

// A pinned program that is replaced is not started any more: its engines go on in this process, and
// move back when it is what it was.
func TestAPinnedWorkerIsReplacedOnDisk(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "worker")
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(program)
	pin := fmt.Sprintf("%x", sha256.Sum256(program))
	var log syncBuffer
	h := newHost(t, host.Options{Workers: 1, WorkerPath: path, WorkerSHA256: pin, MaxRestarts: 1,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	e := open(t, h, "e", deck(10))
	dispatch(t, e, "stack:draw", nil)
	pid := workerOf(t, h)
	other := append(slices.Clone(program), 0)
	write(other) // in place, while it runs
	signal(t, pid, syscall.SIGKILL)
	// An action that it dies of would wait for a worker.
	for h.Stats().Workers[0].PID == pid {
		betweenLooks()
	}
	n := uint64(1)
	until := func(place host.Place) {
		for h.Stats().Engines[place] == 0 {
			n++
			if r := dispatch(t, e, "stack:reverse", nil); r.Sequence != n {
				t.Fatalf("got %+v, want sequence %d", r, n)
			}
		}
	}
	until(host.PlaceInProcess)
	if said := log.String(); !strings.Contains(said, pin) ||
		!strings.Contains(said, fmt.Sprintf("%x", sha256.Sum256(other))) {
		t.Errorf("the log names not both hashes:\n%s", said)
	}
	write(program)
	until(host.PlaceWorker)
}

// syncBuffer is what a log goes to.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func contents(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
