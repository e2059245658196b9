package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"hypertoken/internal/printable"
)

// guideRows are the rows of the guide's table, for a worker and in process.
var guideRows = []struct{ name, worker, inProcess string }{
	{"ping, p50", pingWorker + ".p50", pingInProcess + ".p50"},
	{"dispatch, p50", drawWorker + ".p50", drawInProcess + ".p50"},
	{"dispatch, mean", drawWorker + ".mean", drawInProcess + ".mean"},
	{"dispatch, p95", drawWorker + ".p95", drawInProcess + ".p95"},
	{"five at once, per action", fiveWorker + ".p50", fiveInProcess + ".p50"},
	{"memory per worker", workerMemory + ".worker", ""},
}

// Table is rows of cells under headings.
type Table struct {
	Headings []string
	Rows     [][]string
}

// GuideTable has the guide's figures, medians over the rounds.
func (r *Report) GuideTable() Table {
	t := Table{Headings: []string{"", "worker", "in process"}}
	for _, row := range guideRows {
		cells := []string{row.name, "-", "-"}
		for k, id := range []string{row.worker, row.inProcess} {
			if f := r.Figure(id); f != nil {
				cells[k+1] = Amount(f.Median, f.Unit)
			}
		}
		if cells[1] != "-" || cells[2] != "-" {
			t.Rows = append(t.Rows, cells)
		}
	}
	return t
}

// RatioNote explains the values in a table of targets.
const RatioNote = "The value of a target is its figure, or a ratio (x). A ratio is taken in each round, " +
	"from the figure and the baseline of that round; the value is the median of these ratios. The figure " +
	"and the baseline in the table are medians over the rounds, each by itself."

// notable is a factor. If the quotient of two medians differs from the median of the ratios by
// more, a reader would notice, so the report explains it.
const notable = 1.05

// RatioNotes returns a note for each ratio that differs notably from the quotient of the two
// figures in its row. The note explains the ratio.
func (r *Report) RatioNotes() (list []string) {
	for _, j := range r.Targets {
		f, b := r.Figure(j.Figure), r.Figure(j.Baseline)
		if j.Value == nil || j.Relation == absolute || f == nil || b == nil {
			continue
		}
		quotient, of := f.Median/b.Median, "figure over baseline"
		if j.Relation == under {
			quotient, of = b.Median/f.Median, "baseline over figure"
		}
		if quotient > j.Value.Median*notable || j.Value.Median > quotient*notable {
			list = append(list, fmt.Sprintf("%s: %s is %s to %s in the rounds, of which %s is the median; the quotient of the medians is %s",
				j.Text, of, ratio(j.Value.Min), ratio(j.Value.Max), ratio(j.Value.Median), ratio(quotient)))
		}
	}
	return list
}

// hasRatio reports whether the value of a target is a ratio.
func (r *Report) hasRatio() bool {
	return slices.ContainsFunc(r.Targets, func(j Judged) bool { return j.Value != nil && j.Relation != absolute })
}

// TargetTable has the targets with their values.
func (r *Report) TargetTable() Table {
	t := Table{Headings: []string{"target", "figure", "baseline", "value", ""}}
	for _, j := range r.Targets {
		row := []string{j.Text, "-", "-", "-", string(j.Verdict)}
		unit := ""
		if f := r.Figure(j.Figure); f != nil {
			row[1], unit = Amount(f.Median, f.Unit), f.Unit
		}
		if b := r.Figure(j.Baseline); b != nil {
			row[2] = Amount(b.Median, b.Unit)
		}
		if j.Value != nil && j.Relation != absolute {
			row[3] = ratio(j.Value.Median)
		} else if j.Value != nil {
			row[3] = Amount(j.Value.Median, unit)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// FigureTable has all figures over the rounds.
func (r *Report) FigureTable() Table {
	t := Table{Headings: []string{"figure", "min", "median", "max"}}
	for _, f := range r.Figures {
		t.Rows = append(t.Rows, []string{f.ID, Amount(f.Min, f.Unit), Amount(f.Median, f.Unit), Amount(f.Max, f.Unit)})
	}
	return t
}

// ratio writes a ratio with two decimals, so that a value just below a limit does not look as if
// it reached the limit.
func ratio(v float64) string { return fmt.Sprintf("%.2fx", v) }

// digits writes a number with three significant digits.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return humanize.Comma(int64(math.Round(v)))
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a == 0:
		return "0"
	case a < 0.01:
		return fmt.Sprintf("%.4f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Amount writes a value with its unit for people.
func Amount(v float64, unit string) string {
	switch unit {
	case "us":
		if v >= 10_000 {
			return digits(v/1000) + " ms"
		}
		return digits(v) + " µs"
	case "per_s":
		return humanize.Comma(int64(math.Round(v))) + "/s"
	case "bytes":
		if math.Abs(v) >= mebibyte {
			return digits(v/mebibyte) + " MiB"
		}
		if math.Abs(v) >= kibibyte {
			return digits(v/kibibyte) + " KiB"
		}
		return digits(v) + " B"
	case "ratio":
		return ratio(v)
	case "percent":
		return digits(v) + " %"
	}
	return digits(v)
}

// WriteTo writes the report for people, at most 100 columns wide.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	m := &r.Machine
	fmt.Fprintf(&b, "machine        %s, %d cores, %s, kernel %s, load %s\n", m.CPU, m.Cores, m.System, m.Kernel,
		digits(m.Load))
	fmt.Fprintf(&b, "versions       hypertoken %s, %s, node %s\n", m.Version, m.Go, or(m.Node, "not there"))
	fmt.Fprintf(&b, "core           sha256:%s\n", m.Core)
	fmt.Fprintf(&b, "time           %.1fs of %gs\n", r.Elapsed, r.For)
	for _, t := range []Table{r.GuideTable(), r.FigureTable(), r.measured().TargetTable()} {
		if len(t.Rows) > 0 {
			b.WriteString("\n")
			t.write(&b)
		}
	}
	if r.hasRatio() {
		b.WriteString("\n" + wrapped(RatioNote, 100))
	}
	for _, note := range r.RatioNotes() {
		b.WriteString(wrapped(note, 100))
	}
	if len(r.Skipped) > 0 {
		b.WriteString("\nnot measured\n")
		for _, s := range r.Skipped {
			fmt.Fprintf(&b, "  %s: %s\n", s.Name, s.Why)
		}
	}
	n, err := io.WriteString(w, printable.Text(b.String())) // an error may contain any text of a core
	return int64(n), err
}

// wrapped is an item of a list, in lines of at most some columns.
func wrapped(text string, columns int) string {
	lines, line := "", " "
	for word := range strings.FieldsSeq(text) {
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
			lines, line = lines+line+"\n", "   "
		}
		line += " " + word
	}
	return lines + line + "\n"
}

// measured is the report with the targets that were measured.
func (r *Report) measured() *Report {
	some := *r
	some.Targets = nil
	for _, j := range r.Targets {
		if j.Verdict != NotMeasured {
			some.Targets = append(some.Targets, j)
		}
	}
	return &some
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// write writes the table, its first column to the left and the others to the right.
func (t Table) write(b *strings.Builder) {
	widths := make([]int, len(t.Headings))
	rows := append([][]string{t.Headings}, t.Rows...)
	for _, row := range rows {
		for k, cell := range row {
			widths[k] = max(widths[k], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		line := ""
		for k, cell := range row {
			pad := strings.Repeat(" ", widths[k]-utf8.RuneCountInString(cell))
			if k == 0 {
				line = cell + pad
			} else {
				line += "  " + pad + cell
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
