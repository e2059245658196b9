// Package licenses has the notices and licences of the software that the program hypertoken
// contains.
package licenses

import _ "embed"

// Text names every module that is linked into cmd/hypertoken, on any system, with its licence, where its source is and
// what its licence wants to be handed on. `make notice` writes it.
//
//go:embed THIRD_PARTY.txt
var Text string
