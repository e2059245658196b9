// Package corers holds what `hypertoken core` needs of the Rust sources beside it. The crate is
// described in src/lib.rs.
package corers

import _ "embed"

// BuildScript builds a core for WebAssembly: a script for bash. `make core` runs it too.
//
//go:embed build.sh
var BuildScript []byte

// Lock pins the crates that hypertoken-core depends on. A new crate begins with it, so that it is
// built with what the core was tested with.
//
//go:embed Cargo.lock
var Lock []byte
