// Package cores holds the cores that tests run beside the built-in one.
package cores

import _ "embed"

// Test has actions that no host should meet (core-rs/testcore): test:spin, test:trap, test:grow,
// test:huge, test:differ, test:lie, and test:work, which only takes its time.
//
//go:embed testcore.wasm
var Test []byte

// Example is the worked example of a core of one's own (core-rs/example), with the actions that the guide uses.
//
//go:embed example.wasm
var Example []byte
