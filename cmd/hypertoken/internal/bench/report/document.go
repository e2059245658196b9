package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"hypertoken/cmd/hypertoken/internal/bench"
)

// mostOfNative is how many times longer than natively an action of the core may take as WebAssembly.
const mostOfNative = 2

// document writes performance.md. cluster is the report of a run that has measured a cluster alone, or nil.
func document(r, cluster *bench.Report, core []coreFigure, browsers []browserFigures, drawn []picture) []byte {
	var b bytes.Buffer
	m := &r.Machine
	b.WriteString("# Performance\n\n")
	b.WriteString("This page shows one run of `hypertoken bench`. `make bench` writes it, so do not edit it. Every\n" +
		"figure is warmed up, and taken over several rounds, in turn with its baselines. Do not compare\n" +
		"figures of two runs, or of two machines. [profiles.md](performance/profiles.md) has findings from\n" +
		"profiles of one machine, which explain targets that were missed there.\n" +
		"\n")
	fmt.Fprintf(&b, "The machine: %s, %d cores, %s of memory, %s, kernel %s, load %.2f before the run.\n"+
		"The versions: HyperToken %s, %s, node %s. The run began at %s and took %.0f s.\n",
		m.CPU, m.Cores, humanize.IBytes(m.Memory), m.System, m.Kernel, m.Load, m.Version, m.Go,
		or(m.Node, "not there"), m.Time, r.Elapsed)
	if cluster != nil {
		c := &cluster.Machine
		fmt.Fprintf(&b, "\nThe targets 10, and the figures of a cluster, are of a run of their own (`make bench-cluster`): HyperToken %s,\n"+
			"%s, load %.2f before the run. It began at %s and took %.0f s.\n", c.Version, c.Go, c.Load, c.Time,
			cluster.Elapsed)
		r = r.WithCluster(cluster)
	}

	section := func(title string) { fmt.Fprintf(&b, "\n## %s\n\n", title) }
	section("Targets")
	targets := r.TargetTable()
	for k, j := range r.Targets {
		targets.Rows[k] = append([]string{strings.SplitN(j.ID, ".", 2)[0]}, targets.Rows[k]...)
	}
	targets.Headings = append([]string{""}, targets.Headings...)
	if len(core) > 0 {
		targets = withCore(targets, core)
	}
	markdown(&b, targets, 2)
	fmt.Fprintf(&b, "\n%s\n", bench.RatioNote)
	for k, note := range r.RatioNotes() {
		if k == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "- %s\n", note)
	}
	for k, s := range r.Skipped {
		if k == 0 {
			b.WriteString("\nNot measured:\n\n")
		}
		fmt.Fprintf(&b, "- `%s`: %s\n", s.Name, s.Why)
	}

	if len(drawn) > 0 {
		section("Pictures")
		for _, p := range drawn {
			fmt.Fprintf(&b, "%s\n\n![%s](performance/%s)\n\n", p.text, p.title, p.file)
		}
		b.Truncate(b.Len() - 1)
	}

	section("The figures of the guide")
	b.WriteString("The guide of the original gives these figures of its own: ping 97 µs, dispatch 194 µs, p95 292 µs,\n" +
		"five at once 109 µs an action, 2-3 MB a worker. Here are the same figures of this run: medians over\n" +
		"the rounds.\n" +
		"\n")
	markdown(&b, r.GuideTable(), 1)

	section("The core")
	if len(core) == 0 {
		b.WriteString("Not measured: there was no `core-rs/target/bench/core.json`.\n")
	} else {
		b.WriteString("The table has one or more actions of each family, on a state with the given number of tokens. Each\n" +
			"ran as WebAssembly under wazero, and as native code.\n" +
			"\n")
		markdown(&b, coreTable(core), 1)
	}

	section("Browsers")
	if len(browsers) == 0 {
		b.WriteString("Not measured: there was no `docs/performance/browser.json`.\n")
	} else {
		b.WriteString("The npm package on a worker, compared with a bare message of 32 bytes there and back. Both are\n" +
			"measured in turn, in the same run (`make bench-browser`). The figures are medians over three rounds.\n" +
			"\"Pipelined\" means a thousand in flight. There are two targets: a dispatch takes at most 1.3 times as\n" +
			"long as the bare message; and five times as many actions as bare messages run in a second.\n" +
			"\n")
		markdown(&b, browserTable(browsers), 1)
		if slices.ContainsFunc(browsers, func(f browserFigures) bool { return f.EngineMemory != nil }) {
			b.WriteString("\n\"Memory\" is what the process of Node, or all processes of the browser, grow by for an engine. A browser's\n" +
				"garbage is in it, because a page can't have it collected.\n")
		}
		if slices.ContainsFunc(browsers, func(f browserFigures) bool { return f.Stores != nil }) {
			b.WriteString("\n\"The store alone\" is without an engine: records of 64 bytes, in a transaction of IndexedDB as a kept game has\n" +
				"it, and in a file of the origin that a worker appends to.\n")
		}
	}

	section("All figures")
	figures := r.FigureTable()
	figures.Headings = append(figures.Headings, "what is measured")
	last := ""
	for k, f := range r.Figures {
		about := f.About
		if about == last {
			about = ""
		}
		last = f.About
		figures.Rows[k] = append(figures.Rows[k], about)
	}
	markdown(&b, figures, 1, 4)
	return b.Bytes()
}

// withCore puts the target of the core among the others.
func withCore(t bench.Table, core []coreFigure) bench.Table {
	within, worst := 0, coreFigure{}
	for _, f := range core {
		if ratio(f) <= mostOfNative {
			within++
		}
		if worst.Native == 0 || ratio(f) > ratio(worst) {
			worst = f
		}
	}
	verdict := bench.Met
	if within < len(core) {
		verdict = bench.Missed
	}
	row := []string{"4", fmt.Sprintf("the core as WebAssembly: at most %d times native, for each family and size (%d of %d are; the worst is shown)", mostOfNative, within, len(core)),
		nanoseconds(worst.Wasm), nanoseconds(worst.Native), fmt.Sprintf("%.2fx", ratio(worst)), string(verdict)}
	at := 0
	for at < len(t.Rows) && t.Rows[at][0] < row[0] {
		at++
	}
	t.Rows = append(t.Rows[:at:at], append([][]string{row}, t.Rows[at:]...)...)
	return t
}

func ratio(f coreFigure) float64 { return f.Wasm / max(f.Native, 1e-9) }

func nanoseconds(v float64) string {
	if v < 1000 {
		return strconv.Itoa(int(v)) + " ns"
	}
	return bench.Amount(v/1000, "us")
}

func coreTable(core []coreFigure) bench.Table {
	t := bench.Table{Headings: []string{"action", "tokens", "WebAssembly", "native", "ratio"}}
	for _, f := range core {
		t.Rows = append(t.Rows, []string{"`" + f.Family + "`", humanize.Comma(int64(f.Tokens)), nanoseconds(f.Wasm),
			nanoseconds(f.Native), fmt.Sprintf("%.2f", ratio(f))})
	}
	return t
}

// browserTable has a row for each figure that an environment has, and a column for each environment.
func browserTable(all []browserFigures) bench.Table {
	t := bench.Table{Headings: []string{""}}
	for k := range all {
		t.Headings = append(t.Headings, all[k].Environment+" "+all[k].Version)
	}
	row := func(title string, value func(f *browserFigures) string) {
		cells, isMeasured := []string{title}, false
		for k := range all {
			cell := value(&all[k])
			isMeasured = isMeasured || cell != ""
			cells = append(cells, or(cell, "not measured"))
		}
		if isMeasured {
			t.Rows = append(t.Rows, cells)
		}
	}
	// perhaps adds a row of a figure that not every environment has.
	perhaps := func(title string, text func(float64) string, value func(f *browserFigures) *float64) {
		row(title, func(f *browserFigures) string {
			if v := value(f); v != nil {
				return text(*v)
			}
			return ""
		})
	}
	count := func(v float64) string { return humanize.Comma(int64(v)) }
	us := func(v float64) string { return bench.Amount(v, "us") }
	ms := func(v float64) string { return bench.Amount(1000*v, "us") }
	size := func(v float64) string { return bench.Amount(v, "bytes") }
	row("bare message, p50 (p95)", func(f *browserFigures) string { return f.Bare.String() })
	row("ping: `debug:log`", func(f *browserFigures) string { return f.Log.String() })
	row("dispatch: `stack:draw` of 52", func(f *browserFigures) string { return f.Dispatch.String() })
	row("... to the bare message", func(f *browserFigures) string {
		return fmt.Sprintf("%.2fx", f.Dispatch.P50/f.Bare.P50)
	})
	row("five at once, together", func(f *browserFigures) string { return f.Five.String() })
	row("dispatch on the main thread", func(f *browserFigures) string { return f.Here.String() })
	row("pipelined, actions a second", func(f *browserFigures) string { return count(f.Rate) })
	row("pipelined, bare messages a second", func(f *browserFigures) string { return count(f.BareRate) })
	row("... actions to messages", func(f *browserFigures) string { return fmt.Sprintf("%.2fx", f.Rate/f.BareRate) })
	perhaps("104,000 actions at once, actions a second", count,
		func(f *browserFigures) *float64 { return f.Queued })
	perhaps("16,000 actions aborted by one signal", ms, func(f *browserFigures) *float64 { return f.Abort })
	for _, durability := range []string{"strict", "relaxed"} {
		kept := func(title string, value func(f savedFigures) string) {
			row(title, func(f *browserFigures) string {
				if saved, ok := f.Saved[durability]; ok {
					return value(saved)
				}
				return ""
			})
		}
		kept("kept with `"+durability+"`, one in flight", func(f savedFigures) string { return f.One.String() })
		kept("... kept, actions a second", func(f savedFigures) string { return count(f.Rate) })
		kept("... of another tab, one in flight", func(f savedFigures) string {
			if f.Tab == nil {
				return ""
			}
			return f.Tab.String()
		})
		kept("... of another tab, actions a second", func(f savedFigures) string {
			if f.TabRate == nil {
				return ""
			}
			return count(*f.TabRate)
		})
		kept("... opened again, with so many actions", func(f savedFigures) string {
			if f.Open == nil || f.Actions == nil {
				return ""
			}
			return fmt.Sprintf("%s (%s)", ms(*f.Open), count(*f.Actions))
		})
	}
	for _, store := range []struct{ name, title string }{
		{"strict", "the store alone, a `strict` transaction"}, {"flushed", "a file (OPFS), written and flushed"},
		{"relaxed", "the store alone, a `relaxed` transaction"}, {"written", "a file (OPFS), written"},
	} {
		alone := func(title string, value func(f storeFigures) string) {
			row(title, func(f *browserFigures) string {
				if figures, ok := f.Stores[store.name]; ok {
					return value(figures)
				}
				return ""
			})
		}
		alone(store.title, func(f storeFigures) string { return f.One.String() })
		alone("... records a second, 64 in flight", func(f storeFigures) string { return count(f.Rate) })
	}
	row("new Engine to ready", func(f *browserFigures) string { return ms(f.Start) })
	perhaps("... if the core has to be compiled", ms, func(f *browserFigures) *float64 { return f.StartAlone })
	perhaps("memory of an engine that has an instance", size,
		func(f *browserFigures) *float64 { return f.PlacedMemory })
	perhaps("engines of one host, at most 64 of which have an instance", count,
		func(f *browserFigures) *float64 { return f.Engines })
	perhaps("... start of one of them", us, func(f *browserFigures) *float64 { return f.Engine })
	perhaps("... memory of one of them", size, func(f *browserFigures) *float64 { return f.EngineMemory })
	perhaps("... an action of one that has no instance", us, func(f *browserFigures) *float64 { return f.Again })
	return t
}

func (s spread) String() string {
	return fmt.Sprintf("%s (%s)", bench.Amount(s.P50, "us"), bench.Amount(s.P95, "us"))
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// markdown writes a table. The first columns are text, and those of the numbers in texts; the others are aligned to the
// right.
func markdown(b *bytes.Buffer, t bench.Table, first int, texts ...int) {
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	rule := make([]string, len(t.Headings))
	for k := range rule {
		if rule[k] = "---:"; k < first {
			rule[k] = "---"
		}
	}
	for _, k := range texts {
		rule[k] = "---"
	}
	line(t.Headings)
	line(rule)
	for _, row := range t.Rows {
		line(row)
	}
}
