// Command corebench runs the cases of core-rs/benches natively and in WebAssembly, and writes what
// one step of each takes to core-rs/target/bench/core.json, and to its standard output with their
// ratio. It runs in the root of the repository.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

const (
	criterion = "core-rs/target/criterion/core"
	output    = "core-rs/target/bench/core.json"
)

// figure is how long one step of a case takes.
type figure struct {
	Family string  `json:"family"`
	Tokens int     `json:"tokens"`
	Native float64 `json:"native_ns"`
	Wasm   float64 `json:"wasm_ns"`
}

func (f figure) ratio() float64 { return f.Wasm / f.Native }

// id names a case as the Go benchmark does.
func (f figure) id() string {
	return fmt.Sprintf("%s/%d", strings.ReplaceAll(f.Family, " ", "_"), f.Tokens)
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("corebench: ")
	only := flag.Int("tokens", 0, "run the cases of this many tokens only")
	flag.Parse()
	tokens := "[0-9]+"
	if *only > 0 {
		tokens = strconv.Itoa(*only)
	}
	if err := run(tokens); err != nil {
		log.Fatal(err)
	}
}

func run(tokens string) error {
	if err := os.RemoveAll(criterion); err != nil {
		return err
	}
	log.Print("natively ...")
	native := exec.Command("cargo", "bench", "--quiet", "--locked", "--bench", "core", "--", "--quiet", "/"+tokens+"$")
	native.Dir = "core-rs"
	if _, err := outputOf(native); err != nil {
		return err
	}
	figures, err := nativeFigures()
	if err != nil {
		return err
	}
	log.Print("in WebAssembly ...")
	wasm, err := outputOf(exec.Command("go", "test", "./wasm", "-run", "^$", "-timeout", "0", "-count", "3",
		"-benchtime", "30ms",
		"-bench", "^BenchmarkAction$/^plain$/^tokens="+tokens+"$"))
	if err != nil {
		return err
	}
	times := wasmTimes(wasm)
	for i := range figures {
		if figures[i].Wasm = times[figures[i].id()]; figures[i].Wasm == 0 {
			return fmt.Errorf("BenchmarkAction has no figure of %s", figures[i].id())
		}
	}
	slices.SortFunc(figures, func(a, b figure) int {
		if a.Tokens != b.Tokens {
			return a.Tokens - b.Tokens
		}
		return strings.Compare(a.Family, b.Family)
	})
	if err := write(figures); err != nil {
		return err
	}
	return show(os.Stdout, figures)
}

// outputOf runs a command, and returns its output.
func outputOf(c *exec.Cmd) ([]byte, error) {
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, out)
	}
	return out, nil
}

// nativeFigures reads criterion's estimates: the median of what a step takes.
func nativeFigures() ([]figure, error) {
	var figures []figure
	err := filepath.WalkDir(criterion, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "benchmark.json" || filepath.Base(filepath.Dir(path)) != "new" {
			return err
		}
		var id struct {
			Family string `json:"function_id"`
			Tokens string `json:"value_str"`
		}
		var estimates struct {
			Median struct {
				Estimate float64 `json:"point_estimate"`
			} `json:"median"`
		}
		if err := read(path, &id); err != nil {
			return err
		}
		if err := read(filepath.Join(filepath.Dir(path), "estimates.json"), &estimates); err != nil {
			return err
		}
		tokens, err := strconv.Atoi(id.Tokens)
		figures = append(figures, figure{Family: id.Family, Tokens: tokens, Native: estimates.Median.Estimate})
		return err
	})
	return figures, err
}

func read(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

var benchLine = regexp.MustCompile(`^BenchmarkAction/plain/tokens=(\d+)/(\S+?)(?:-\d+)?\s+\d+\s+(\S+) ns/op`)

// wasmTimes reads what the Go benchmark prints: nanoseconds a step, the median of its runs, by the case's id.
func wasmTimes(out []byte) map[string]float64 {
	runs, times := map[string][]float64{}, map[string]float64{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if m := benchLine.FindStringSubmatch(s.Text()); m != nil {
			ns, _ := strconv.ParseFloat(m[3], 64)
			id := m[2] + "/" + m[1]
			runs[id] = append(runs[id], ns)
		}
	}
	for id, ns := range runs {
		slices.Sort(ns)
		times[id] = ns[len(ns)/2]
	}
	return times
}

func write(figures []figure) error {
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return err
	}
	return os.WriteFile(output, append(text, '\n'), 0o644)
}

// show prints the figures, and for each number of tokens the geometric mean of the ratios.
func show(to io.Writer, figures []figure) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "tokens\tnative µs\twasm µs\tratio\t family")
	for i := 0; i < len(figures); {
		first, logs := i, 0.0
		for ; i < len(figures) && figures[i].Tokens == figures[first].Tokens; i++ {
			f := figures[i]
			logs += math.Log(f.ratio())
			fmt.Fprintf(w, "%d\t%.2f\t%.2f\t%.2f\t %s\n", f.Tokens, f.Native/1e3, f.Wasm/1e3, f.ratio(), f.Family)
		}
		fmt.Fprintf(w, "%d\t\t\t%.2f\t geometric mean\n", figures[first].Tokens, math.Exp(logs/float64(i-first)))
	}
	return w.Flush()
}
