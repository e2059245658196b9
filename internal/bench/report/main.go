// Command report writes docs/performance.md and its figures from the JSON of a run of hypertoken bench, and of the core's own
// benchmark where that is there too.
//
//	report RUN.json [CORE.json [DIRECTORY]]
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hypertoken/internal/bench"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 4 {
		fmt.Fprintln(os.Stderr, "report RUN.json [CORE.json [DIRECTORY]]: write performance.md and performance/*.svg to the directory, default docs")
		os.Exit(2)
	}
	core, directory := "", "docs"
	if len(os.Args) > 2 {
		core = os.Args[2]
	}
	if len(os.Args) > 3 {
		directory = os.Args[3]
	}
	if err := write(os.Args[1], core, directory); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// coreFigure is how long an action of the core takes natively and under wazero, on a state of so many tokens.
type coreFigure struct {
	Family string  `json:"family"`
	Tokens int     `json:"tokens"`
	Native float64 `json:"native_ns"`
	Wasm   float64 `json:"wasm_ns"`
}

// write reads a run, and the core's figures where there is such a file, and writes the document.
func write(run, core, directory string) error {
	var r bench.Report
	if err := read(run, &r); err != nil {
		return err
	}
	var figures []coreFigure
	if core != "" {
		if err := read(core, &figures); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	into := filepath.Join(directory, "performance")
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	drawn, err := pictures(&r, into)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "performance.md"), document(&r, figures, drawn), 0o644)
}

func read(name string, v any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
