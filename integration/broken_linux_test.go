package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/leaks"
	"hypertoken/internal/require"
)

// Whatever is wrong with the workers' program, from the first start on or later: engines answer in
// this process, an event says which file it is and what to do, and once it is repaired they move
// back.
func TestABrokenProgram(t *testing.T) {
	write := func(text string, mode os.FileMode) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), mode) }
	}
	link := func(to string) func(string) error {
		return func(path string) error { return os.Symlink(to, path) }
	}
	const isIt = "is it a program that calls workerproc.Main?"
	const mustBe = "WorkerPath must name a program that calls workerproc.Main"
	type broken struct {
		name string
		be   func(string) error
		says []string
	}
	for _, c := range require.Sample(5, []broken{
		{"missing", link("/no/such/program"), []string{"can't be started", "no such file", mustBe}},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, []string{"is a directory", mustBe}},
		{"not executable", write("#!/bin/sh\n", 0o600), []string{"permission denied", mustBe}},
		{"no program", write("a text\n", 0o700), []string{"exec format error", mustBe}},
		{"for another processor", write("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xff\xfe"+strings.Repeat("\x00", 100), 0o700),
			[]string{"exec format error", mustBe}},
		{"ends at once", link("/bin/true"), []string{"ended with exit status 0 instead of shaking hands", isIt}},
		{"complains", link("/bin/cat"), []string{"ended with exit status 1 instead of shaking hands", isIt, "it said: ", "No such file"}},
		{"prints", script("echo 1|2|3\necho hello; exit 0"), []string{"instead of shaking hands", isIt, "hello"}},
		{"says nothing", script("exec sleep 1000"), []string{"did not shake hands within 1s (StartTimeout)"}},
		{"of another version", hostileFor(t, "another version", 1<<30), []string{"it speaks version 99 of the protocol", "update WorkerPath"}},
		{"ends after hello", hostileFor(t, "exits after hello", 1<<30), []string{"ended by itself: status 0"}},
		{"dies after hello", hostileFor(t, "panics", 1<<30), []string{"ended by itself: exit status 2; it said: ", "no more cards"}},
		{"never ready", hostileFor(t, "silent after hello", 1<<30), []string{"was not ready within 1s (StartTimeout)"}},
		{"without the core", hostileFor(t, "can't run the core", 1<<30), []string{"it can't run the core: no core of yours"}},
	}) {
		t.Run(c.name, func(t *testing.T) {
			program := newReplaceable(t)
			program.be(c.be)
			var log text
			o := host.Options{Workers: 1, WorkerPath: program.path, MaxRestarts: 1, Logger: log.logger()}
			for _, s := range c.says {
				if strings.Contains(s, "1s (StartTimeout)") {
					o.StartTimeout = time.Second
				}
			}
			h := newHost(t, o)
			e := open(t, h, "e", deck(10))
			n := dispatch(t, e, "stack:draw", nil).Sequence
			if s := h.Stats(); s.Engines[host.PlaceInProcess] != 1 || s.Fallbacks != 1 || n != 1 {
				t.Fatalf("got %+v", s)
			}
			for _, s := range append(c.says, program.path, "an engine goes on in this process") {
				if !strings.Contains(log.String(), s) {
					t.Errorf("the log lacks %q:\n%s", s, log.String())
				}
			}

			program.be(honest)
			for h.Stats().Engines[host.PlaceWorker] == 0 {
				if r := dispatch(t, e, "stack:reverse", nil); r.Sequence != n+1 {
					t.Fatalf("got %+v after %d", r, n)
				}
				n++
				betweenLooks()
			}

			events, stop := e.Events(host.EventError)
			defer stop()
			program.be(c.be)
			died := h.Stats().Restarts[host.RestartDied]
			signal(t, workerOf(t, h), syscall.SIGKILL)
			for h.Stats().Restarts[host.RestartDied] == died {
				betweenLooks() // what is in flight at its death would not run in process
			}
			if r := dispatch(t, e, "stack:draw", nil); r.Sequence != n+1 {
				t.Errorf("got %+v after %d", r, n)
			}
			err := (<-events).Err
			if !errors.Is(err, host.ErrWorkerUnavailable) {
				t.Fatalf("got %v", err)
			}
			for _, s := range append(c.says, program.path) {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("the event %q lacks %q", err, s)
				}
			}
		})
	}
}

// What is no core is refused by New, with the file and the reason, also one that would never end.
func TestABrokenCore(t *testing.T) {
	builtin := cores.Example
	imports := cores.Whole(1).Importing("wasi_snapshot_preview1", "fd_write", 0, cores.ToNothing).Bytes()
	spins := cores.Whole(1).Starting(cores.Endless...).Bytes()
	large := cores.Whole(1)
	large.Table = []byte{0x70, 0, 1}
	ignore := leaks.Children()
	for _, c := range []struct {
		name string
		be   func(path string) error
		says string
	}{
		{"missing", func(string) error { return nil }, "no such file"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
		{"empty", func(path string) error { return os.WriteFile(path, nil, 0o600) }, "not a core: invalid magic number"},
		{"truncated", func(path string) error { return os.WriteFile(path, builtin[:len(builtin)-1000], 0o600) }, "not a core"},
		{"with imports", func(path string) error { return os.WriteFile(path, imports, 0o600) }, "it imports wasi_snapshot_preview1.fd_write: a core imports nothing"},
		{"without the ABI", func(path string) error { return os.WriteFile(path, new(cores.Module).Bytes(), 0o600) }, "it does not export the function ht_abi"},
		{"that never starts", func(path string) error { return os.WriteFile(path, spins, 0o600) }, "its first instance was not ready within 200ms"},
		{"with a table without end", func(path string) error { return os.WriteFile(path, large.Bytes(), 0o600) }, "a table without a maximum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "core.wasm")
			if err := c.be(path); err != nil {
				t.Fatal(err)
			}
			for _, inProcess := range []bool{true, false} {
				o := host.Options{CorePath: path, InProcess: inProcess, Logger: slog.New(slog.DiscardHandler)}
				if strings.Contains(c.says, "200ms") {
					o.StartTimeout = 200 * time.Millisecond
				}
				// No deadline: New has its own.
				_, err := host.New(context.Background(), o)
				if !errors.Is(err, host.ErrBadInput) || !strings.Contains(err.Error(), path) ||
					!strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %s and %q", err, path, c.says)
				}
			}
		})
	}
	if left := leaks.Children(); len(left) > len(ignore) {
		t.Errorf("processes are left: %v", left)
	}
}

// Whatever the core does, on a worker and in process: an error for that action, a state as before,
// and nobody else notices.
func TestAnUnrulyCore(t *testing.T) {
	for _, inProcess := range []bool{false, true} {
		t.Run(fmt.Sprint("in process ", inProcess), func(t *testing.T) {
			o := endless
			o.Workers, o.InProcess, o.MaxEngineMemory, o.MaxResult, o.KillGrace = 1, inProcess, 32<<20, 1<<20,
				20*time.Millisecond
			h := newHost(t, o)
			bystander := open(t, h, "bystander", deck(200))
			for _, c := range []struct {
				action  string
				payload any
				timeout time.Duration
				code    string
			}{
				{"test:spin", nil, 300 * time.Millisecond, "timeout"},
				{"test:trap", nil, 0, "trap"},
				{"test:grow", nil, 0, "out_of_memory"},
				{"test:huge", dict{"bytes": 1 << 20}, 0, "too_large"},
				{"test:lie", nil, 0, "trap"},
				{"test:lie", dict{"length": 60 << 20}, 0, "trap"},
				{"test:work", dict{"rounds": 1000}, 0, ""},
			} {
				e := open(t, h, fmt.Sprint(c.action, c.payload), deck(5))
				dispatch(t, e, "stack:draw", nil)
				before := digest(t, e)
				other := digest(t, bystander)
				ctx := t.Context()
				if c.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.timeout)
					defer cancel()
				}
				unruly := e.DispatchAsync(ctx, c.action, c.payload)
				read := bystander.DispatchAsync(t.Context(), "stack:peek", nil)
				if _, err := unruly.Wait(t.Context()); host.CodeOf(err) != c.code || (c.code == "") != (err == nil) {
					t.Errorf("%s: got %v, want %q", c.action, err, c.code)
				}
				if _, err := read.Wait(t.Context()); err != nil {
					t.Errorf("%s: the bystander fails: %v", c.action, err)
				}
				if after := digest(t, e); after != before {
					t.Errorf("%s: digest %v, before %v", c.action, after, before)
				}
				if after := digest(t, bystander); after != other {
					t.Errorf("%s: the bystander's digest is %v, before %v", c.action, after, other)
				}
				if r := dispatch(t, e, "stack:draw", nil); r.Sequence != 2 {
					t.Errorf("%s: the next action has the sequence %d", c.action, r.Sequence)
				}
				dispatch(t, bystander, "stack:draw", nil)
			}
			want := uint64(1) // for test:spin
			if inProcess {
				want = 0
			}
			if s := h.Stats(); s.Restarts[host.RestartDeadline] != want || s.Restarts[host.RestartDied] != 0 {
				t.Errorf("ends: %v", s.Restarts)
			}
		})
	}
}

// A result that another instance does not give again ends in a broken engine that says at which
// sequence. Its journal can be read, Reopen tries again, and neither another engine nor the count
// of restarts notices.
func TestAResultThatDiffersInAnotherWorker(t *testing.T) {
	o := endless
	o.Workers = 1
	h := newHost(t, o)
	e, f := open(t, h, "e", deck(5)), open(t, h, "f", deck(5))
	dispatch(t, e, "stack:draw", nil)
	// It counts in the instance, not in the state; a batch that fails takes back the state only.
	if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic,
		[]host.Action{{Type: "test:differ"}, {Type: "no:such"}}); err == nil {
		t.Fatal("no:such passes")
	}
	dispatch(t, e, "test:differ", nil)
	dispatch(t, f, "stack:draw", nil)
	signal(t, workerOf(t, h), syscall.SIGKILL)
	for h.Stats().Restarts[host.RestartDied] == 0 {
		betweenLooks()
	}
	events, stop := e.Events(host.EventError)
	defer stop()
	_, err := e.Dispatch(t.Context(), "stack:peek", nil)
	if !errors.Is(err, host.ErrBroken) || !errors.Is(err, host.ErrDiverged) || !strings.Contains(err.Error(),
		"sequence 2, test:differ") {
		t.Errorf("got %v", err)
	}
	if ev := <-events; !errors.Is(ev.Err, host.ErrDiverged) {
		t.Errorf("got the event %+v", ev)
	}
	var journal []string
	entries, err := e.Journal(t.Context())
	for entry := range entries {
		journal = append(journal, fmt.Sprint(entry.Sequence, " ", entry.Type))
	}
	if fmt.Sprint(journal) != "[1 stack:draw 2 test:differ]" || err != nil {
		t.Errorf("the journal is %q, %v", journal, err)
	}
	if err := e.Reopen(t.Context()); !errors.Is(err, host.ErrDiverged) {
		t.Errorf("Reopen: %v", err)
	}
	if r := dispatch(t, f, "stack:draw", nil); r.Sequence != 2 {
		t.Errorf("got %+v", r)
	}
	if s := h.Stats(); s.Restarts[host.RestartDied] != 1 || s.Engines[host.PlaceWorker] != 1 {
		t.Errorf("got %+v", s)
	}
}
