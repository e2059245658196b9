// Command write writes the files that are generated from the description of the built-in core: the
// types and the ACTIONS.md of the npm package, the types of Go that the tests use, and
// docs/state.md. `make types` runs it, at the root of the repository.
package main

import (
	"fmt"
	"os"

	"hypertoken/cmd/hypertoken/internal/describe"
)

func main() {
	files, err := describe.Files()
	if err == nil {
		for name, text := range files {
			if err = os.WriteFile(name, text, 0o644); err != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "write:", err)
		os.Exit(1)
	}
}
