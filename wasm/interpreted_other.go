//go:build !unix

package wasm

// tryExecutable has nothing to try: no policy here is known that forbids executable memory.
func tryExecutable() error { return nil }
