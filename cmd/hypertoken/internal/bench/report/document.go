package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"hypertoken/cmd/hypertoken/internal/bench"
)

// mostOfNative is how many times longer than natively an action of the core may take as WebAssembly.
const mostOfNative = 2

// document writes performance.md.
func document(r *bench.Report, core []coreFigure, browsers []browserFigures, drawn []picture) []byte {
	var b bytes.Buffer
	m := &r.Machine
	b.WriteString("# Performance\n\n")
	b.WriteString("`make bench` writes this page and what it shows, from one run of `hypertoken bench`: edits are lost. Every figure is\n" +
		"warmed up and taken over several rounds, in turn with its baselines. Figures of two runs, or of two machines, do not\n" +
		"compare. [profiles.md](performance/profiles.md) has what profiles of one machine showed of the targets that were missed there.\n\n")
	fmt.Fprintf(&b, "%s, %d cores, %s of memory, %s, kernel %s, load %.2f before the run. HyperToken %s, %s, node %s. %s, %.0f s.\n",
		m.CPU, m.Cores, humanize.IBytes(m.Memory), m.System, m.Kernel, m.Load, m.Version, m.Go, or(m.Node, "not there"), m.Time, r.Elapsed)

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

	section("As the guide has it")
	b.WriteString("Medians over the rounds, of p50, p95 and mean. The guide's own: ping 97 µs, dispatch 194 µs, p95 292 µs, five at once 109 µs an\naction, 2-3 MB a worker.\n\n")
	markdown(&b, r.GuideTable(), 1)

	section("The core")
	if len(core) == 0 {
		b.WriteString("Not measured: there was no `core-rs/target/bench/core.json`.\n")
	} else {
		b.WriteString("An action of each family on a state of so many tokens, as WebAssembly under wazero and natively.\n\n")
		markdown(&b, coreTable(core), 1)
	}

	section("Browsers")
	if len(browsers) == 0 {
		b.WriteString("Not measured: there was no `docs/performance/browser.json`.\n")
	} else {
		b.WriteString("The npm package on a worker, beside a bare message of 32 bytes there and back, in turn in the same run (`make bench-browser`): medians over\n" +
			"three rounds. Pipelined is with a thousand in flight. Targets: a dispatch within 1.3 times the bare message; five times as many actions\n" +
			"a second as bare messages.\n\n")
		markdown(&b, browserTable(browsers), 1)
	}

	section("All figures")
	figures := r.FigureTable()
	figures.Headings = append(figures.Headings, "of")
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
		t.Rows = append(t.Rows, []string{"`" + f.Family + "`", humanize.Comma(int64(f.Tokens)), nanoseconds(f.Wasm), nanoseconds(f.Native), fmt.Sprintf("%.2f", ratio(f))})
	}
	return t
}

func browserTable(all []browserFigures) bench.Table {
	t := bench.Table{Headings: []string{""}}
	rows := []struct {
		title string
		value func(f *browserFigures) string
	}{
		{"bare message, p50 (p95)", func(f *browserFigures) string { return f.Bare.String() }},
		{"ping: `debug:log`", func(f *browserFigures) string { return f.Log.String() }},
		{"dispatch: `stack:draw` of 52", func(f *browserFigures) string { return f.Dispatch.String() }},
		{"... to the bare message", func(f *browserFigures) string { return fmt.Sprintf("%.2fx", f.Dispatch.P50/f.Bare.P50) }},
		{"five at once, together", func(f *browserFigures) string { return f.Five.String() }},
		{"dispatch on the main thread", func(f *browserFigures) string { return f.Here.String() }},
		{"pipelined, actions a second", func(f *browserFigures) string { return humanize.Comma(int64(f.Rate)) }},
		{"pipelined, bare messages a second", func(f *browserFigures) string { return humanize.Comma(int64(f.BareRate)) }},
		{"... actions to messages", func(f *browserFigures) string { return fmt.Sprintf("%.2fx", f.Rate/f.BareRate) }},
		{"new Engine to ready", func(f *browserFigures) string { return bench.Amount(1000*f.Start, "us") }},
	}
	for _, row := range rows {
		t.Rows = append(t.Rows, []string{row.title})
	}
	for k := range all {
		t.Headings = append(t.Headings, all[k].Environment+" "+all[k].Version)
		for n, row := range rows {
			t.Rows[n] = append(t.Rows[n], row.value(&all[k]))
		}
	}
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
