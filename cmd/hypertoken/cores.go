package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"hypertoken/internal/node"
	"hypertoken/wasm"
)

// cores says which cores a node of a cluster runs.
func (f *hostFlags) cores() (o node.CoreOptions, err error) {
	o.Compile, o.Open = f.compile, f.openCore
	if o.Pins, err = f.corePins(); err == nil {
		o.Own, err = f.readCore()
	}
	return o, err
}

// compile compiles a core, as a host does. With a cache, the host need not do it again.
func (f *hostFlags) compile(ctx context.Context, code []byte) error {
	cache := openCache(f.cacheDir, standardError)
	core, err := wasm.Compile(ctx, code, wasm.Options{MemoryLimit: uint64(f.maxMemory), Cache: cache,
		CompileOnly: f.noFallback, Interruptible: !f.noFallback, FirstInstance: time.Minute})
	if err == nil {
		err = core.Close(context.WithoutCancel(ctx))
	}
	return errors.Join(err, cache.Close(context.WithoutCancel(ctx)))
}

// corePins returns the hashes of --core-sha256.
func (f *hostFlags) corePins() (pins []string, err error) {
	if f.coreSHA256 == "" {
		return nil, nil
	}
	for _, pin := range strings.Split(strings.ToLower(f.coreSHA256), ",") {
		if b, err := hex.DecodeString(pin); err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("--core-sha256: %q is no SHA-256, which has 64 hexadecimal digits", pin)
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// readCore returns the code of the core of --core, or of the built-in one.
func (f *hostFlags) readCore() ([]byte, error) {
	if f.core == "" {
		return wasm.Builtin(), nil
	}
	code, err := os.ReadFile(f.core)
	if err != nil {
		return nil, fmt.Errorf("--core: %w", err)
	}
	return code, nil
}
