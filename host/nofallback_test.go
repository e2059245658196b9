package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
)

// gatedWorker returns a worker program that runs only while the file that it returns is there.
func gatedWorker(t *testing.T) (program, gate string) {
	if runtime.GOOS == "windows" {
		t.Skip("the program is a shell script")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, gate = filepath.Join(dir, "worker"), filepath.Join(dir, "gate")
	script := fmt.Sprintf("#!/bin/sh\nif [ -e '%s' ]; then exec '%s'; fi\necho 'the gate is closed' >&2\nexit 1\n",
		gate, self)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, gate
}

// A core that is not trusted never runs in the host's process: requests wait for a worker as long as their time lasts.
func TestNoFallback(t *testing.T) { t.Run(onWorkers, testNoFallback) }

func testNoFallback(t *testing.T) {
	program, gate := gatedWorker(t)
	h := newHost(t, host.Options{NoFallback: true, WorkerPath: program, Workers: 1, MaxRestarts: 1, Core: cores.Test})
	open := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := h.Open(ctx, "e", host.EngineOptions{Setup: deck(5)})
		return err
	}
	// A worker that is about to start again may yet run the engine: then its time is simply up.
	err := open()
	for errors.Is(err, host.ErrTimeout) {
		err = open()
	}
	if !errors.Is(err, host.ErrWorkerUnavailable) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "NoFallback") || !strings.Contains(err.Error(), "the gate is closed") {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := h.Actions(ctx); !errors.Is(err, host.ErrTimeout) {
		t.Errorf("the actions, without a worker: %v", err)
	}
	if s := h.Stats(); s.Fallbacks != 0 || s.Engines[host.PlaceInProcess] != 0 {
		t.Errorf("%+v", s)
	}

	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := h.Open(t.Context(), "e", host.EngineOptions{Setup: deck(5)})
	if err != nil {
		t.Fatal(err)
	}
	dispatch(t, e, "stack:draw", nil)
	if e.Place() != host.PlaceWorker {
		t.Errorf("the engine is at %v", e.Place())
	}
	got, err := h.Actions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, err := newHost(t, host.Options{}).Actions(t.Context())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("a worker tells %v, want %v, %v", got, want, err)
	}
	h.Measure()
	dispatch(t, e, "stack:peek", nil)
	if m := h.Measure(); len(m.ByAction) != 1 || m.ByAction[0].Action != "stack:peek" {
		t.Errorf("measured %+v", m.ByAction)
	}
}

func TestNoFallbackIsChecked(t *testing.T) {
	for name, o := range map[string]host.Options{
		"InProcess": {NoFallback: true, InProcess: true},
		"Cores":     {NoFallback: true, Cores: [][]byte{cores.Test}},
	} {
		h, err := host.New(t.Context(), o)
		if err == nil {
			_ = h.Shutdown(context.Background())
		}
		if !errors.Is(err, host.ErrBadInput) || !strings.Contains(err.Error(),
			"NoFallback") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// askedContext tells when somebody waits for its end.
type askedContext struct {
	context.Context
	once  sync.Once
	asked chan struct{}
}

func (c *askedContext) Done() <-chan struct{} {
	c.once.Do(func() { close(c.asked) })
	return c.Context.Done()
}

// A host that no worker has told the actions of its core ends all the same.
func TestShutdownWhileActionsAreAwaited(t *testing.T) {
	program, _ := gatedWorker(t)
	h, err := host.New(t.Context(), host.Options{NoFallback: true, WorkerPath: program, Workers: 1,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := &askedContext{Context: context.Background(), asked: make(chan struct{})}
	failed := make(chan error, 1)
	go func() {
		_, err := h.Actions(ctx)
		failed <- err
	}()
	<-ctx.asked
	if err := h.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, host.ErrShutdown) {
		t.Errorf("got %v", err)
	}
}
