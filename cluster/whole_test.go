package cluster

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal"
)

// An engine is created, loaded, copied and deleted on the node that has it, from any node, with
// the errors of a host alone.
func TestOpenForkAndDelete(t *testing.T) {
	a, b := pair(t)
	ctx := t.Context()
	for where, h := range map[string]*Host{"here": a, "elsewhere": b} {
		t.Run(where, func(t *testing.T) {
			name := nameAt(t, h, setup)
			if _, err := a.Open(ctx, name, host.EngineOptions{Mode: host.OpenNew}); !errors.Is(err,
				host.ErrEngineExists) {
				t.Errorf("a second creation: %v", err)
			}
			e, err := a.Open(ctx, name, host.EngineOptions{Mode: host.OpenExisting})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Open(ctx, name, host.EngineOptions{}); !errors.Is(err, host.ErrBadInput) {
				t.Errorf("it is open: %v", err)
			}
			if a.Get(name) != e || e.Name() != name || e.Host() != a.present() {
				t.Error("the engine is another one")
			}
			if _, err := e.Dispatch(ctx, "stack:draw", nil); err != nil {
				t.Fatal(err)
			}
			before, err := e.Position(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []*Host{a, b} {
				copied := nameAt(t, at, nil) + "-copy"
				p, err := a.Fork(ctx, name, before.Sequence, copied)
				if err != nil || p.Digest != before.Digest || p.Sequence != 0 {
					t.Errorf("a copy: %+v, %v, want the digest %v", p, err, before.Digest)
				}
				if _, err := a.Fork(ctx, name, 0, copied); !errors.Is(err, host.ErrEngineExists) {
					t.Errorf("a second copy: %v", err)
				}
				if _, err := a.Fork(ctx, "none", 0, copied+"-2"); !errors.Is(err, host.ErrEngineNotFound) {
					t.Errorf("a copy of nothing: %v", err)
				}
			}
			if err := a.Delete(ctx, name); !errors.Is(err, host.ErrBadInput) {
				t.Errorf("deleting an open engine: %v", err)
			}
			other, err := b.Open(ctx, name, host.EngineOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Delete(ctx); err != nil {
				t.Error(err)
			}
			if _, err := other.Dispatch(ctx, "stack:draw", nil); !errors.Is(err, host.ErrEngineNotFound) {
				t.Errorf("a call of an engine that was deleted elsewhere: %v", err)
			}
			if _, err := a.Open(ctx, name, host.EngineOptions{Mode: host.OpenExisting}); !errors.Is(err,
				host.ErrEngineNotFound) {
				t.Errorf("opening a deleted engine: %v", err)
			}
			if err := a.Delete(ctx, name); err != nil {
				t.Errorf("deleting what is not there: %v", err)
			}
			var refused *host.ActionError
			bad := host.EngineOptions{Setup: map[string]any{"stack": 1}}
			if _, err := a.Open(ctx, name, bad); !errors.As(err, &refused) {
				t.Errorf("a setup that the core refuses: %v", err)
			}
			if stored, err := a.Stored(ctx, name, "", 10); err != nil || slices.ContainsFunc(stored,
				func(s host.StoredEngine) bool { return s.Name == name }) {
				t.Errorf("stored: %+v, %v", stored, err)
			}
		})
	}
}

// The events of an engine of another node come as those of one that is here: once each, in order.
// They go on when the engine goes to another node.
func TestEventsOfAnotherNode(t *testing.T) {
	a, b := pair(t)
	name := nameAt(t, a, setup)
	e, err := b.Open(t.Context(), name, host.EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, stop := e.Events("")
	defer stop()
	next := func() host.Event {
		select {
		case ev := <-events:
			return ev
		case <-t.Context().Done():
			return host.Event{}
		}
	}
	act := func() host.Result {
		r, err := e.Dispatch(t.Context(), "stack:shuffle", nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for range 3 {
		r := act()
		for _, want := range []string{host.EventAction, host.EventStateUpdated} {
			if ev := next(); ev.Name != want || ev.Action != "stack:shuffle" || ev.Engine != name ||
				!isSame(r, ev.Result) {
				t.Fatalf("%+v, want %s with %+v", ev, want, r)
			}
		}
	}
	if _, err := e.Dispatch(t.Context(), "no:such", nil); !errors.Is(err, host.ErrUnknownAction) {
		if host.CodeOf(err) != host.ErrUnknownAction.Code {
			t.Fatal(err)
		}
	}
	if ev := next(); ev.Name != host.EventError || host.CodeOf(ev.Err) != host.ErrUnknownAction.Code {
		t.Fatalf("%+v, want an error", ev)
	}
	if err := a.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	act() // it opens the engine at b, which the listener may notice later
	until(t, "an event after the engine has moved", func() bool {
		act()
		select {
		case ev := <-events:
			return ev.Name == host.EventAction || ev.Name == host.EventStateUpdated
		default:
			return false
		}
	})
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := host.Event{}
	for ev := range events {
		last = ev
	}
	if last.Name != host.EventShutdown || last.Engine != name {
		t.Errorf("the last event is %+v", last)
	}
	if _, isOpen := <-events; isOpen {
		t.Error("the channel is open")
	}
	if late, _ := e.Events(""); late != nil {
		if ev, isOpen := <-late; isOpen {
			t.Errorf("an event of a closed engine: %+v", ev)
		}
	}
}

// A call that runs on another node is withdrawn with its context, and has no effect.
func TestWithdrawingElsewhere(t *testing.T) {
	servers := startServer(t)
	withTestCore := func(o *Options) { o.Host.Core = cores.Test }
	a, b := join(t, servers, withTestCore), join(t, servers, withTestCore)
	twoMembers(t, a, b)
	e, err := b.Open(t.Context(), nameAt(t, a, nil), host.EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := e.Dispatch(ctx, "test:spin", nil)
		ended <- err
	}()
	until(t, "the call to run", func() bool { return a.Stats().InFlight > 0 })
	cancel()
	if err := <-ended; !errors.Is(err, host.ErrCanceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled call: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Dispatch(short, "test:spin", nil); !errors.Is(err, host.ErrTimeout) {
		t.Errorf("a call that takes too long: %v", err)
	}
	future := e.DispatchAsync(ctx, "test:spin", nil)
	if _, err := future.Wait(t.Context()); !errors.Is(err, host.ErrCanceled) {
		t.Errorf("a call whose context had ended: %v", err)
	}
	if p, err := e.Position(t.Context()); err != nil || p.Sequence != 0 {
		t.Errorf("%+v, %v, want nothing done", p, err)
	}
}

// A server of a cluster has lines and requests of its clients answered by an application that has
// the engine.
func TestApplicationsAnswerLinesOfServers(t *testing.T) {
	a, b := pair(t)
	name := nameAt(t, a, setup)
	server := httptest.NewServer(b.server)
	defer server.Close()
	ask := func(method, path, body string, want ...string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/v1/engines/"+path,
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		w, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Body.Close()
		got, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(string(got), text) {
				t.Errorf("%s %s: %s: %s, want %s", method, path, w.Status, got, text)
			}
		}
	}
	ask("POST", name, `{"type":"stack:draw","want":["sequence"]}`+"\n"+`{"digest":true}`, `"n":1`, `"sequence":1`, `"digest"`)
	ask("GET", name+"/state", "", `"sequence":1`)
	ask("GET", name+"/journal?from=0", "", `"type":"stack:draw"`)
	e, err := b.Open(t.Context(), name, host.EngineOptions{Mode: host.OpenExisting})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := e.Position(t.Context()); err != nil || p.Sequence != 1 || a.present().Get(name) == nil {
		t.Errorf("%+v, %v", p, err)
	}
	ask("DELETE", name, "")
	if _, err := e.Position(t.Context()); !errors.Is(err, host.ErrEngineNotFound) {
		t.Errorf("after the deletion: %v", err)
	}
}

// Options that can't be meant are refused before anything is started.
func TestOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"Store is set":      func(o *Options) { o.Host.Store = journal.NewMemory() },
		"needs Servers":     func(o *Options) { o.Store.Servers = nil },
		"and the Address":   func(o *Options) { o.Store.Address = "" },
		"want 16 or more":   func(o *Options) { o.Secret = "short" },
		"Cert, Key and CA":  func(o *Options) { o.PeerTLS.Cert = "cert.pem" },
		"Options.PeerTLS: ": func(o *Options) { o.PeerTLS = PeerTLS{Cert: "no", Key: "no", CA: "no"} },
		"MaxEngines is -1":  func(o *Options) { o.MaxEngines = -1 },
	} {
		o := options("nats://127.0.0.1:1")
		change(&o)
		h, err := Join(t.Context(), o)
		if !errors.Is(err, host.ErrBadInput) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if h != nil {
			_ = h.Shutdown(t.Context())
		}
	}
}

// A shutdown whose context has ended frees everything all the same, and says so. Another one finds
// nothing to do.
func TestShutdownInAHurry(t *testing.T) {
	a, b := pair(t)
	name := nameAt(t, a, setup)
	e, err := a.Open(t.Context(), name, host.EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Shutdown(canceled); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := e.Dispatch(t.Context(), "stack:draw", nil); !errors.Is(err, host.ErrShutdown) {
		t.Errorf("a call after the end: %v", err)
	}
	if _, err := a.Open(t.Context(), name, host.EngineOptions{}); !errors.Is(err, host.ErrShutdown) {
		t.Errorf("opening after the end: %v", err)
	}
	if err := a.Shutdown(t.Context()); err != nil {
		t.Errorf("a second shutdown: %v", err)
	}
	other, err := b.Open(t.Context(), name, host.EngineOptions{Mode: host.OpenExisting})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Dispatch(t.Context(), "stack:draw", nil); err != nil {
		t.Error(err)
	}
}

// Names are any bytes that a host takes.
func TestNames(t *testing.T) {
	a, b := pair(t)
	for _, name := range []string{".", "..", "a/b", "/", "=", "%2F", "a?b#c", "ä \xff", strings.Repeat("x", 500)} {
		for n, h := range []*Host{a, b} {
			e, err := h.Open(t.Context(), name, host.EngineOptions{Setup: setup})
			if err != nil {
				t.Fatalf("%q: %v", name, err)
			}
			if r, err := e.Dispatch(t.Context(), "stack:shuffle", nil); err != nil || r.Sequence != uint64(n+1) {
				t.Errorf("%q: %+v, %v", name, r, err)
			}
		}
	}
}
