package host

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"hypertoken/wasm"
)

// A core that could not be compiled is compiled again when somebody needs it, but not at once.
func TestACoreIsCompiledAgain(t *testing.T) {
	o := Options{InProcess: true, StartTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}
	o.setDefaults()
	h := newHost(o)
	if err := h.readCore(); err != nil {
		t.Fatal(err)
	}
	code := h.code
	h.code = code[:len(code)/2] // what is in the way of the first attempt
	h.run()
	defer func() { _ = h.Shutdown(context.Background()) }()
	if _, err := h.Actions(t.Context()); !errors.Is(err, ErrBadInput) || !errors.Is(err, wasm.ErrCore) {
		t.Fatalf("got %v", err)
	}
	failed := h.local.newest
	failed.ended = time.Now()
	h.code = code
	if h.compilation() != failed {
		t.Error("it is compiled again at once")
	}
	failed.ended = time.Now().Add(-compileAgainAfter)
	e, err := h.Open(t.Context(), "e", EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dispatch(t.Context(), "debug:log", nil); err != nil {
		t.Error(err)
	}
	if list, err := h.Actions(t.Context()); err != nil || len(list) == 0 || h.CoreToolchain() == "" {
		t.Errorf("%d actions, %q, %v", len(list), h.CoreToolchain(), err)
	}
}
