package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/wasm"
)

func TestACoreIsPinned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "core.wasm")
	if err := os.WriteFile(path, cores.Test, 0o600); err != nil {
		t.Fatal(err)
	}
	builtin, test := wasm.Hash(wasm.Builtin()), wasm.Hash(cores.Test)
	for _, c := range []struct {
		name       string
		o          host.Options
		has, other string
	}{
		{"built-in", host.Options{}, builtin, test},
		{"Core", host.Options{Core: cores.Test}, test, builtin},
		{"CorePath", host.Options{CorePath: path}, test, builtin},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.InProcess = true
			for _, pin := range []string{c.has, strings.ToUpper(c.has)} {
				c.o.CoreSHA256 = pin
				h, err := host.New(t.Context(), c.o)
				if err != nil {
					t.Fatal(err)
				}
				if h.CoreHash() != c.has {
					t.Errorf("it runs %s", h.CoreHash())
				}
				if err := h.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}
			c.o.CoreSHA256 = c.other
			refused(t, c.o, "Options.CoreSHA256", c.has, c.other)
		})
	}
}

func TestAWorkerProgramIsPinned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	empty, other := wasm.Hash(nil), wasm.Hash([]byte("other"))
	refused(t, host.Options{WorkerPath: path, WorkerSHA256: other}, "Options.WorkerSHA256", path, empty, other)
	refused(t, host.Options{WorkerSHA256: other}, "Options.WorkerSHA256", "this program", other)
	// One that is not there yet is not wrong, and in process there is none.
	for _, o := range []host.Options{{WorkerPath: path + "-no", Workers: 1}, {WorkerPath: path, InProcess: true}} {
		o.WorkerSHA256 = other
		h, err := host.New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func refused(t *testing.T, o host.Options, says ...string) {
	t.Helper()
	_, err := host.New(t.Context(), o)
	if !errors.Is(err, host.ErrBadInput) {
		t.Fatalf("got %v", err)
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v lacks %q", err, part)
		}
	}
}
