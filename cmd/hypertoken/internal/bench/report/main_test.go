package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hypertoken/cmd/hypertoken/internal/bench"
)

const docs = "../../../../../docs"

// docs/performance.md is the report of the run in docs/performance.
func TestTheDocumentIsGenerated(t *testing.T) {
	into := t.TempDir()
	if err := os.CopyFS(filepath.Join(into, "performance"), os.DirFS(filepath.Join(docs, "performance"))); err != nil {
		t.Fatal(err)
	}
	if err := write(into); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(into, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(filepath.Join(docs, "performance.md"))
	if err != nil || !bytes.Equal(have, want) {
		t.Errorf("docs/performance.md is not what docs/performance/run.json gives: make bench writes both (%v)", err)
	}
	for _, name := range []string{"latency.svg", "scaling.svg"} {
		svg, err := os.ReadFile(filepath.Join(docs, "performance", name))
		if err != nil || !bytes.Contains(svg, []byte("<text")) {
			t.Errorf("%s has no text that is text: %v", name, err)
		}
		if !bytes.Contains(want, []byte("(performance/"+name+")")) {
			t.Errorf("%s is not shown", name)
		}
	}
}

// run returns a directory with the report of a run that has measured little.
func run(t *testing.T) string {
	t.Helper()
	into := t.TempDir()
	if err := os.Mkdir(filepath.Join(into, "performance"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := bench.Report{Machine: bench.Machine{CPU: "A processor", Cores: 2},
		Figures: []*bench.Figure{{ID: "pipe.p50", Group: "roundtrip", About: "a pipe", Unit: "us",
			Spread: bench.Spread{Min: 1, Median: 2, Max: 3}}},
		Targets: []bench.Judged{
			{Target: bench.Target{ID: "1.a", Text: "the first", Figure: "pipe.p50", Limit: 1}, Verdict: bench.Missed},
			{Target: bench.Target{ID: "5.b", Text: "the last", Figure: "none", Limit: 1}, Verdict: bench.NotMeasured},
		},
		Skipped: []bench.Skipped{{Name: "idle", Why: "there was no time"}}}
	b, err := json.Marshal(&r)
	if err != nil {
		t.Fatal(err)
	}
	put(t, into, "run.json", string(b))
	return into
}

func put(t *testing.T, directory, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, "performance", name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheDocument(t *testing.T) {
	for _, c := range []struct{ name, core, want, not string }{
		{"no core", "", "there was no `core-rs/target/bench/core.json`", "| 4 |"},
		{"a core within the limit", `[{"family":"stack:draw","tokens":52,"native_ns":100,"wasm_ns":200}]`, "(1 of 1 are; the worst is shown) | 200 ns | 100 ns | 2.00x | met |", "there was no `core-rs"},
		{"a core above it", `[{"family":"stack:draw","tokens":52,"native_ns":100,"wasm_ns":200},{"family":"stack:shuffle","tokens":10000,"native_ns":1000,"wasm_ns":2001}]`,
			"(1 of 2 are; the worst is shown) | 2.00 µs | 1.00 µs | 2.00x | missed |\n| 5 |", "there was no `core-rs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			into := run(t)
			if c.core != "" {
				put(t, into, "core.json", c.core)
			}
			if err := write(into); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(into, "performance.md"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{c.want, "A processor, 2 cores", "| 1 | the first | 2.00 µs |",
				bench.RatioNote, "- `idle`: there was no time\n",
				"| pipe.p50 | 1.00 µs | 2.00 µs | 3.00 µs | a pipe |"} {
				if !strings.Contains(string(b), want) {
					t.Errorf("%q is not in the document:\n%s", want, b)
				}
			}
			if strings.Contains(string(b), c.not) {
				t.Errorf("%q is in the document:\n%s", c.not, b)
			}
		})
	}
}

func TestBrowsers(t *testing.T) {
	into := run(t)
	put(t, into, "browser.json", `[
		{"environment":"Chromium","version":"1","bare":{"p50":10,"p95":20},"dispatch":{"p50":12.5,"p95":30},
			"rate":200000,"bareRate":100000,"start":25,"startAlone":40,"queued":123456.7,"abort":8.5,
			"engines":10000,"engine":90,"again":1500,"engineMemory":2048,"placedMemory":307200,
			"saved":{"strict":{"one":{"p50":900,"p95":2000},"rate":30000,"tab":{"p50":1200,"p95":2500},"tabRate":20000,
				"actions":40000,"open":120}},
			"stores":{"strict":{"one":{"p50":700,"p95":1500},"rate":40000},
				"written":{"one":{"p50":60,"p95":90},"rate":500000}}},
		{"environment":"Firefox","version":"2","bare":{"p50":10,"p95":20},"dispatch":{"p50":12.5,"p95":30},
			"rate":200000,"bareRate":100000,"start":25}]`)
	if err := write(into); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(into, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| kept with `strict`, one in flight | 900 µs (2,000 µs) | not measured |",
		"| ... kept, actions a second | 30,000 | not measured |",
		"| ... of another tab, one in flight | 1,200 µs (2,500 µs) | not measured |",
		"| ... of another tab, actions a second | 20,000 | not measured |",
		"| ... opened again, with so many actions | 120 ms (40,000) | not measured |",
		"| the store alone, a `strict` transaction | 700 µs (1,500 µs) | not measured |",
		"| ... records a second, 64 in flight | 40,000 | not measured |",
		"| a file (OPFS), written | 60.0 µs (90.0 µs) | not measured |",
		"| ... records a second, 64 in flight | 500,000 | not measured |", "|  | Chromium 1 | Firefox 2 |\n",
		"| bare message, p50 (p95) | 10.0 µs (20.0 µs) |",
		"| ... to the bare message | 1.25x |",
		"| pipelined, actions a second | 200,000 |", "| ... actions to messages | 2.00x |",
		"| new Engine to ready | 25.0 ms |",
		"| ... if the core has to be compiled | 40.0 ms | not measured |",
		"| 104,000 actions at once, actions a second | 123,456 |",
		"| 16,000 actions aborted by one signal | 8,500 µs |",
		"| memory of an engine that has an instance | 300 KiB | not measured |",
		"| engines of one host, at most 64 of which have an instance | 10,000 |",
		"| ... start of one of them | 90.0 µs |", "| ... memory of one of them | 2.00 KiB |",
		"| ... an action of one that has no instance | 1,500 µs |",
		"A browser's\ngarbage is in it", "\"The store alone\" is without an engine"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is not in the document:\n%s", want, b)
		}
	}
}

// The figures of a cluster come from a run of their own, if there is one, and all others from the whole run.
func TestAClusterOfARunOfItsOwn(t *testing.T) {
	into := run(t)
	figure := func(id, group string, v float64) *bench.Figure {
		return &bench.Figure{ID: id, Group: group, About: id, Unit: "us",
			Spread: bench.Spread{Min: v, Median: v, Max: v}}
	}
	alone := bench.Report{Elapsed: 240,
		Machine: bench.Machine{Time: "the day after", Load: 0.25, Version: "1.2.3", Go: "go9"},
		Figures: []*bench.Figure{figure("wrong_node.added", "cluster_nodes", 321),
			figure("pipe.p50", "roundtrip", 999)},
		Targets: []bench.Judged{
			{Target: bench.Target{ID: "1.a", Text: "not of this run", Figure: "pipe.p50"}, Verdict: bench.NotMeasured},
			{Target: bench.Target{ID: "10.wrong", Text: "the wrong node", Relation: "figure", Figure: "wrong_node.added", Baseline: "pipe.p50"},
				Value: &bench.Spread{Median: 321}, Verdict: bench.Met}},
		Skipped: []bench.Skipped{{Name: "cluster_log", Why: "no time"}, {Name: "roundtrip", Why: "not chosen"}}}
	b, err := json.Marshal(&alone)
	if err != nil {
		t.Fatal(err)
	}
	put(t, into, "cluster.json", string(b))
	if err := write(into); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(filepath.Join(into, "performance.md")); err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{"HyperToken 1.2.3,\ngo9, load 0.25 before the run. It began at the day after and took 240 s.",
		"| 1 | the first | 2.00 µs |", "| 10 | the wrong node | 321 µs | 2.00 µs | 321 µs | met |",
		"| wrong_node.added | 321 µs |", "- `cluster_log`: no time\n", "- `idle`: there was no time\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the document:\n%s", want, text)
		}
	}
	for _, not := range []string{"not of this run", "999 µs", "`roundtrip`"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is in the document:\n%s", not, text)
		}
	}
}

// A figure that no environment has gets no row.
func TestBrowsersWithoutAFigure(t *testing.T) {
	into := run(t)
	put(t, into, "browser.json", `[{"environment":"Chromium","version":"1","start":25}]`)
	if err := write(into); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(into, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "has to be compiled") || strings.Contains(string(b), "garbage") ||
		strings.Contains(string(b), "OPFS") {
		t.Errorf("the document has rows without figures:\n%s", b)
	}
}

func TestNoRun(t *testing.T) {
	if err := write(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no run: %v", err)
	}
	for _, name := range []string{"run.json", "core.json", "browser.json", "cluster.json"} {
		into := run(t)
		put(t, into, name, "{")
		if err := write(into); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a broken %s: %v", name, err)
		}
	}
}
