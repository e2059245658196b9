package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/require"
)

// text is a log that can be searched while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *text) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// replaceable is a worker's program that a test can replace.
type replaceable struct {
	t    *testing.T
	path string
}

func newReplaceable(t *testing.T) *replaceable {
	return &replaceable{t, filepath.Join(t.TempDir(), "worker")}
}

// be puts another program in its place, at once.
func (p *replaceable) be(make func(path string) error) {
	p.t.Helper()
	next := p.path + ".next"
	err := make(next)
	if err == nil {
		_ = os.RemoveAll(p.path)
		err = os.Rename(next, p.path)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func script(text string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700) }
}

// honest is this program, which is a worker.
func honest(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.Symlink(self, path)
}

// hostileFor is the hostile worker for the first n processes, and an honest one from then on.
func hostileFor(t *testing.T, mode string, n int) func(string) error {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	count := filepath.Join(t.TempDir(), "count")
	if err := os.WriteFile(count, []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return script(fmt.Sprintf("export GORACE=atexit_sleep_ms=0\nread n <%[1]q\necho $((n+1)) >%[1]q\n[ $n -lt %[2]d ] && %[3]s=%[4]q && export %[3]s\nexec %[5]q worker",
		count, n, hostileVariable, mode, self))
}

// played is what a game gave.
type played struct {
	results []string
	digests [2]host.Digest
}

// play dispatches to two engines, as fast as it can: single actions, batches, states.
func play(t *testing.T, h *host.Host) (p played) {
	t.Helper()
	var engines []*host.Engine
	for k := range 2 {
		engines = append(engines, open(t, h, fmt.Sprint("e", k), deck(20)))
		// Somebody listens, so that events are read.
		_, stop := engines[k].Events("")
		defer stop()
	}
	var futures []*host.Future
	for k := range 24 {
		opts := []host.DispatchOption{host.Now(time.UnixMilli(int64(k))), host.Entropy([16]byte{byte(k)})}
		action := []string{"stack:shuffle", "stack:draw", "stack:peek", "stack:reverse"}[k%4]
		for _, e := range engines {
			futures = append(futures, e.DispatchAsync(t.Context(), action, nil, opts...))
		}
		if k%8 != 7 {
			continue
		}
		e := engines[0]
		batch, err := e.DispatchBatch(t.Context(), host.BatchIndependent,
			[]host.Action{{Type: "stack:draw", Options: opts},
				{Type: "no:such", Options: opts}, {Type: "stack:peek", Options: opts}})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range batch.Outcomes {
			p.results = append(p.results, fmt.Sprintf("%d %x %v", o.Result.Sequence, o.Result.Raw, o.Err))
		}
		state, err := e.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.results = append(p.results, fmt.Sprintf("%d %x", state.Sequence, state.Raw))
	}
	results, err := host.All(t.Context(), futures...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		p.results = append(p.results, fmt.Sprintf("%d %v %x", r.Sequence, r.Changed, r.Raw))
	}
	for k, e := range engines {
		p.digests[k] = digest(t, e)
	}
	return p
}

// undisturbed is the game on a host that has no workers.
func undisturbed(t *testing.T) played {
	t.Helper()
	h, err := host.New(t.Context(), host.Options{InProcess: true, Core: cores.Test,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	return play(t, h)
}

func (p played) same(t *testing.T, want played) {
	t.Helper()
	if p.digests != want.digests {
		t.Errorf("digests %v, want %v", p.digests, want.digests)
	}
	for k := range want.results {
		if p.results[k] != want.results[k] {
			t.Errorf("result %d is %s, want %s", k, p.results[k], want.results[k])
		}
	}
}

// Whatever a worker does, the host survives it, says what it saw, replaces it, and no caller
// notices.
func TestAHostileWorkerIsReplaced(t *testing.T) {
	want := undisturbed(t)
	// One that owes an answer while it comes to its end may be taken for one that stands still.
	const died, stalled, late, either, none = "died", "stalled", "deadline", "died or stalled", ""
	type hostile struct {
		mode   string
		reason string // why it ended
		says   string
	}
	for _, c := range require.Sample(4, []hostile{
		{"garbage for a hello", died, "bytes 6 and 7 of a header"},
		{"another version", died, "it speaks version 99 of the protocol (hostile), this host 1: update WorkerPath"},
		{"an answer before hello", died, "a frame of answer before hello"},
		{"a deep hello", died, "a control message of 16777219 bytes"},
		{"hello is cut short", died, "a worker ended"},
		{"exits after hello", died, "a worker ended"},
		{"silent after hello", late, "a worker was not ready in time and is killed"},
		{"hello at once again", died, "a frame of hello before the worker is configured"},
		{"can't run the core", died, "it can't run the core: no core of yours"},
		{"a failure that is none", died, "want an array, got 0xc1"},
		{"answers another configure", died, "which was not sent"},
		{"ready with another sequence", died, "the engine is placed with the sequence 3, its journal ends with 0"},
		{"ready without a body", died, "a body ends 1 bytes early"},
		{"garbage between frames", died, "bytes 6 and 7 of a header are 0xa5a5"},
		{"half a frame, then the end", either, "a worker ended"},
		{"half a frame, then silence", stalled, "a worker owes an answer and does not run"},
		{"the end without a word", either, "a worker ended"},
		{"a frame too long", died, "a frame of answer is 2147483672 bytes long, 17825792 are allowed (MaxFrame)"},
		{"an unknown kind", died, "a frame of kind 99 may not come from the worker"},
		{"a kind of the host's", died, "a frame of dispatch may not come from the worker"},
		{"unknown flags", died, "a header has the flags 0x8"},
		{"bytes that are not 0", died, "bytes 6 and 7 of a header are 0x0001"},
		{"an unknown request", died, "which was not sent or is answered already"},
		{"answered twice", died, "which was not sent or is answered already"},
		{"another placement", died, "names the placement"},
		{"out of order", died, "which is not the next"},
		{"a chunk for an action", died, "a chunk for dispatch"},
		{"dropped, and not recalled", died, "is dropped, which was not recalled"},
		{"a body that is none", died, "want an array, got 0xc1"},
		{"a body cut short", died, "a body ends 1 bytes early"},
		{"a body with more", died, "1 bytes follow a body"},
		{"another checksum", died, "a result with the checksum"},
		{"no result", died, "a result with the checksum"},
		{"a sequence too high", died, "after it the engine has"},
		{"a sequence too low", died, "after it the engine has"},
		{"a change that is hidden", died, "after it the engine has"},
		{"a result too large", died, "a result of 16777220 bytes, 1048576 are allowed (MaxResult)"},
		{"a failure without a code", died, "an empty code"},
		{"not placed", died, "was ready, and is said not to be open"},
		{"hello again", died, "a second hello"},
		{"a batch with a member less", died, "a body ends"},
		{"a batch with a member more", died, "follow the outcomes of a batch of 3"},
		{"a member with another checksum", died, "the result of member 0 has another checksum"},
		{"a short digest", died, "a digest of 3 bytes"},
		{"a large chunk", died, "a chunk of 1048577 bytes"},
		{"an endless state", died, "a stream of more than 18874368 bytes, which no state of 1048576 has (MaxStateBytes)"},
		{"an endless snapshot", died, "a stream of more than 18874368 bytes"},
		{"closes its output", either, "a worker ended"},
		{"reads no more", stalled, "a worker owes an answer and does not run"},
		{"deep events", none, "raised events that can't be read"},
		{"floods its log", none, "line 0 "},
		{"outlives its host", none, ""},
	}) {
		t.Run(c.mode, func(t *testing.T) {
			program := newReplaceable(t)
			program.be(hostileFor(t, c.mode, 1))
			var log text
			o := endless
			o.Workers, o.WorkerPath, o.Logger, o.StallAfter = 1, program.path, log.logger(), 500*time.Millisecond
			o.MaxStateBytes, o.MaxResult, o.MaxAttempts = 1<<20, 1<<20, 10
			if c.mode == "an endless snapshot" {
				o.SnapshotBytes = 500
			}
			if c.reason == late {
				o.StartTimeout = 2 * time.Second
			}
			h := newHost(t, o)
			play(t, h).same(t, want)
			s := h.Stats()
			ends := map[string]uint64{}
			for reason, n := range s.Restarts {
				ends[reason.String()] = n
			}
			ends[either] = ends[died] + ends[stalled]
			if c.reason != none && ends[c.reason] == 0 || c.reason == none && ends[died] > 0 {
				t.Errorf("ends: %v, want %q", ends, c.reason)
			}
			if s.Fallbacks > 0 {
				t.Errorf("%d engines went on in process", s.Fallbacks)
			}
			if c.mode == "floods its log" {
				// The first line may still be on its way. All were read, since it has answered;
				// few were handed on.
				for !strings.Contains(log.String(), c.says) {
					betweenLooks()
				}
				if n := strings.Count(log.String(), "worker output"); n > 200 {
					t.Errorf("%d lines of its output are in the log", n)
				}
			}
			if !strings.Contains(log.String(), c.says) {
				t.Errorf("the log lacks %q:\n%.3000s", c.says, log.String())
			}
			if n := strings.Count(log.String(), "broke the protocol"); n > 1 {
				t.Errorf("it is said %d times that it broke the protocol", n)
			}
		})
	}
}

// A core of one's own may give its errors any code. One that says nothing of the placement is an
// answer, not repeated.
func TestAnErrorNamedAsOneOfTheWorkers(t *testing.T) {
	for _, code := range []string{"interrupted", "not_placed"} {
		t.Run(code, func(t *testing.T) {
			program := newReplaceable(t)
			program.be(hostileFor(t, "an error named "+code, 1))
			h := newHost(t, host.Options{Workers: 1, WorkerPath: program.path})
			e := open(t, h, "e", deck(5))
			dispatch(t, e, "stack:reverse", nil)
			dispatch(t, e, "stack:reverse", nil)
			if _, err := e.Dispatch(t.Context(), "stack:peek", nil); host.CodeOf(err) != code {
				t.Errorf("got %v, want %s", err, code)
			}
			if r, s := dispatch(t, e, "stack:draw", nil), h.Stats(); r.Sequence != 3 || s.Placed != 1 ||
				s.Restarts[host.RestartDied] != 0 {
				t.Errorf("got %+v, %+v", r, s)
			}
		})
	}
}

// A worker that lies about a result, and is consistent about it, is believed. A replay elsewhere
// finds out: never a game that is silently another one.
func TestALieIsFoundOutByTheReplay(t *testing.T) {
	program := newReplaceable(t)
	program.be(hostileFor(t, "lies", 1))
	o := endless
	o.Workers, o.WorkerPath = 1, program.path
	h := newHost(t, o)
	e, f := open(t, h, "e", deck(1)), open(t, h, "f", deck(5))
	dispatch(t, e, "stack:reverse", nil)
	if r := dispatch(t, e, "stack:draw", nil); !bytes.Contains(r.Raw, []byte("t9")) {
		t.Fatalf("it does not lie: %q", r.Raw)
	}
	dispatch(t, f, "stack:reverse", nil)
	signal(t, workerOf(t, h), syscall.SIGKILL)
	_, err := e.Dispatch(t.Context(), "stack:peek", nil)
	if !errors.Is(err, host.ErrBroken) || !errors.Is(err, host.ErrDiverged) || !strings.Contains(err.Error(),
		"sequence 2, stack:draw") {
		t.Errorf("got %v", err)
	}
	entries, err := e.Journal(t.Context())
	n := 0
	for range entries {
		n++
	}
	if n != 2 || err != nil {
		t.Errorf("the journal has %d entries, %v", n, err)
	}
	if r := dispatch(t, f, "stack:draw", nil); r.Sequence != 2 {
		t.Errorf("got %+v", r)
	}
}
