package wasm

import (
	"context"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// A panic of the compiler is an error of the call that compiles, and leaves nothing locked.
func TestAPanicOfTheCompilerIsAnError(t *testing.T) {
	build := builder{limit: DefaultMemoryLimit, code: builtin}.build(t.Context())
	for range 2 {
		_, err := build(panics{})
		if err == nil || !strings.Contains(err.Error(), "wazero:") {
			t.Fatalf("got %v", err)
		}
	}
	c, err := build(nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close(context.Background())
}

// panics is a cache that wazero does not know, at which it panics.
type panics struct{ wazero.CompilationCache }
