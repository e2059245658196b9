// Package licenses has the notices and licences of the software that the program hypertoken
// contains.
package licenses

import _ "embed"

// Text lists every module that is linked into cmd/hypertoken on any system: its licence, the
// address of its source, and the notices that the licence asks to pass on. `make notice` writes
// it.
//
//go:embed THIRD_PARTY.txt
var Text string
