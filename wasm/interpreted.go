package wasm

import (
	"fmt"
	"runtime"
)

// interpreted returns why a core has to be interpreted in this process, or nil if it can be
// compiled. wazero's compiler would panic. The answer may change while a process runs: it may
// forbid itself executable memory at any time.
func interpreted() error {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return fmt.Errorf("there is no compiler for %s", runtime.GOARCH)
	}
	if err := tryExecutable(); err != nil {
		return fmt.Errorf("memory can't be made executable: %w", err)
	}
	return nil
}

// guard makes a panic of wazero's an error. The goroutine that compiles a core is the host's own:
// no caller could recover a panic there.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("wazero: %v", p)
	}
}
