// Command report writes docs/performance.md and its pictures. It reads docs/performance/run.json,
// the JSON of a run of hypertoken bench. If they exist, it also reads core.json and browser.json
// in the same directory, with the benchmarks of the core and of the npm package, and cluster.json: the
// JSON of a run that has measured a cluster alone.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hypertoken/cmd/hypertoken/internal/bench"
)

func main() {
	directory := "docs"
	switch len(os.Args) {
	case 1:
	case 2:
		directory = os.Args[1]
	default:
		fmt.Fprintln(os.Stderr, "report [DIRECTORY]: write performance.md, and performance/*.svg, of performance/*.json; the directory is docs by default")
		os.Exit(2)
	}
	if err := write(directory); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// coreFigure is how long an action of the core takes natively and under wazero, on a state of so
// many tokens.
type coreFigure struct {
	Family string  `json:"family"`
	Tokens int     `json:"tokens"`
	Native float64 `json:"native_ns"`
	Wasm   float64 `json:"wasm_ns"`
}

// browserFigures are of an environment: a browser, or Node. Times are in µs, except those of starts
// and of the abort, which are in ms. Rates are per second, memory is in bytes. A figure that an
// environment does not have is nil.
type browserFigures struct {
	Environment string  `json:"environment"`
	Version     string  `json:"version"`
	Bare        spread  `json:"bare"`
	Log         spread  `json:"log"`
	Dispatch    spread  `json:"dispatch"`
	Five        spread  `json:"five"`
	Here        spread  `json:"here"`
	Rate        float64 `json:"rate"`
	BareRate    float64 `json:"bareRate"`
	Start       float64 `json:"start"`
	// StartAlone is the start of an engine whose core has to be compiled.
	StartAlone *float64 `json:"startAlone"`
	// Queued is the rate of actions with 104,000 queued.
	Queued *float64 `json:"queued"`
	// Abort is how long it takes to abort 16,000 actions that have one signal.
	Abort *float64 `json:"abort"`
	// Engines is the number of engines of one host, of which the next figures are.
	Engines *float64 `json:"engines"`
	// Engine is how long one of the engines takes to start, if all of them start at once.
	Engine *float64 `json:"engine"`
	// Again is an action of an engine that was taken out.
	Again *float64 `json:"again"`
	// EngineMemory is what one of the engines takes, most of which are out.
	EngineMemory *float64 `json:"engineMemory"`
	// PlacedMemory is what an engine that has an instance takes.
	PlacedMemory *float64 `json:"placedMemory"`
	// Saved are the figures of games that the browser keeps, by their durability. Node keeps none.
	Saved map[string]savedFigures `json:"saved"`
	// Stores are the figures of stores without an engine: strict and relaxed transactions, and a file
	// of the origin, whose records are flushed to the disk, or only written.
	Stores map[string]storeFigures `json:"stores"`
}

// savedFigures are an action with one in flight, and how many run in a second with a thousand in
// flight: in the tab that runs the game, and in another one. Actions is how many actions the game
// then had, and Open how long it takes to open it, in ms.
type savedFigures struct {
	One     spread   `json:"one"`
	Rate    float64  `json:"rate"`
	Tab     *spread  `json:"tab"`
	TabRate *float64 `json:"tabRate"`
	Actions *float64 `json:"actions"`
	Open    *float64 `json:"open"`
}

// storeFigures are a record with one in flight, and how many are stored in a second with 64 in
// flight.
type storeFigures struct {
	One  spread  `json:"one"`
	Rate float64 `json:"rate"`
}

type spread struct{ P50, P95 float64 }

// write reads a run, and the figures of a cluster, of the core and of browsers if there are such files, and
// writes the document.
func write(directory string) error {
	into := filepath.Join(directory, "performance")
	var r bench.Report
	if err := read(filepath.Join(into, "run.json"), &r); err != nil {
		return err
	}
	var core []coreFigure
	var browsers []browserFigures
	var cluster *bench.Report
	for name, v := range map[string]any{"core.json": &core, "browser.json": &browsers, "cluster.json": &cluster} {
		if err := read(filepath.Join(into, name), v); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	drawn, err := pictures(&r, into)
	if err != nil {
		return err
	}
	text := document(&r, cluster, core, browsers, drawn)
	return os.WriteFile(filepath.Join(directory, "performance.md"), text, 0o644)
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
