package inproc

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"hypertoken/internal/fault"
	"hypertoken/wasm"
)

// A core that could not be compiled is compiled again when it is needed, but not at once.
func TestACoreIsCompiledAgain(t *testing.T) {
	code := wasm.Builtin()
	life, end := context.WithCancel(context.Background())
	c := NewCore(life, CoreConfig{Name: "the core", MemoryLimit: 64 << 20, StartTimeout: time.Minute,
		Code: code[:len(code)/2], // what is in the way of the first attempt
		Log:  slog.New(slog.DiscardHandler)})
	defer func() {
		end()
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := c.Wait(t.Context()); !errors.Is(err, fault.ErrBadInput) || !errors.Is(err, wasm.ErrCore) {
		t.Fatalf("got %v", err)
	}
	failed := c.newest
	failed.ended = time.Now()
	c.config.Code = code
	if c.compilation() != failed {
		t.Error("it is compiled again at once")
	}
	failed.ended = time.Now().Add(-compileAgainAfter)
	i, err := c.Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = i.Close(t.Context()) }()
	list, err := c.Ask(t.Context(), "Actions", (*wasm.Instance).Actions)
	if err != nil || len(list) == 0 {
		t.Errorf("a list of %d bytes, %v", len(list), err)
	}
}
