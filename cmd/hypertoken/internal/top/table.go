package top

import (
	"cmp"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
)

// column is a column of the table of workers.
type column struct {
	title, name string // title is the heading, name is used in sentences
	width       int
	left        bool
	rank        int // if there is too little room, the column with the greatest rank is left out first
	text        func(*Worker) string
	value       func(*Worker) Figure // the value by which workers are sorted
}

// columns are the columns of the table, in order. After the rate comes a sparkline of the history,
// which takes the remaining room.
var columns = []column{
	{"#", "worker", 3, false, 0, func(w *Worker) string { return w.ID }, nil},
	{"STATE", "state", 8, true, 0, func(w *Worker) string { return cmp.Or(w.State, none) },
		func(w *Worker) Figure { return Figure(slices.Index(states, w.State)) }},
	{"UP", "uptime", 6, false, 5, func(w *Worker) string { return span(w.Uptime) }, func(w *Worker) Figure { return w.Uptime }},
	{"RST", "restarts", 4, false, 1, func(w *Worker) string { return count(w.Restarts) }, func(w *Worker) Figure { return w.Restarts }},
	{"ACT/S", "actions/s", 5, false, 0, func(w *Worker) string { return rate(w.Rate) }, func(w *Worker) Figure { return w.Rate }},
	{"P50", "p50", 5, false, 7, func(w *Worker) string { return seconds(w.P50) }, func(w *Worker) Figure { return w.P50 }},
	{"P99", "p99", 5, false, 0, func(w *Worker) string { return seconds(w.P99) }, func(w *Worker) Figure { return w.P99 }},
	{"UTIL", "utilization", 4, false, 2, func(w *Worker) string { return percent(w.Utilization) }, func(w *Worker) Figure { return w.Utilization }},
	{"Q", "queue", 4, false, 3, func(w *Worker) string { return count(w.Pending) }, func(w *Worker) Figure { return w.Pending }},
	{"ENG", "engines", 4, false, 4, func(w *Worker) string { return count(w.Engines) }, func(w *Worker) Figure { return w.Engines }},
	{"MEM", "memory", 4, false, 1, func(w *Worker) string { return bytesOf(w.Memory) }, func(w *Worker) Figure { return w.Memory }},
	{"CPU", "CPU", 4, false, 6, func(w *Worker) string { return percent(w.CPU) }, func(w *Worker) Figure { return w.CPU }},
	{"FDS", "descriptors", 4, false, 8, func(w *Worker) string { return count(w.FDs) }, func(w *Worker) Figure { return w.FDs }},
}

const (
	rateColumn = 4
	leastSpark = 5 // a narrower sparkline shows too little
	mostSpark  = 60
)

// sorting is the column by which workers are sorted, and the direction.
type sorting struct {
	column  int
	reverse bool
}

// descends reports whether the greatest values come first. If the order is not reversed, numbers
// of workers and states begin with the least, and all other columns with the greatest.
func (s sorting) descends() bool { return (s.column > 1) != s.reverse }

func (s sorting) String() string {
	if s.descends() {
		return "by " + columns[s.column].name + " ▼"
	}
	return "by " + columns[s.column].name + " ▲"
}

// sorted returns workers in order; the unknown are last, whichever way.
func (s sorting) sorted(workers []Worker) []Worker {
	workers = slices.Clone(workers)
	value := columns[s.column].value
	slices.SortStableFunc(workers, func(a, b Worker) int {
		if value == nil {
			if s.descends() {
				return cmp.Compare(b.number(), a.number())
			}
			return cmp.Compare(a.number(), b.number())
		}
		x, y := value(&a), value(&b)
		if !s.descends() && x.known() && y.known() {
			x, y = y, x
		}
		return descending(x, y)
	})
	return workers
}

// fitting returns the columns that fit a width, by their index, and the width that is left for
// sparklines.
func fitting(width int, sparks bool) (shown []int, spark int) {
	for i := range columns {
		shown = append(shown, i)
	}
	used := func() int {
		n := -1
		for _, i := range shown {
			n += columns[i].width + 1
		}
		return n
	}
	for used() > width {
		last := 0
		for at, i := range shown {
			if columns[i].rank > columns[shown[last]].rank {
				last = at
			}
		}
		if columns[shown[last]].rank == 0 {
			break
		}
		shown = slices.Delete(shown, last, last+1)
	}
	if spark = min(mostSpark, width-used()-1); spark < leastSpark || !sparks {
		spark = 0
	}
	return shown, spark
}

// workerTable draws the titles and a row for each worker.
func workerTable(v *view, workers []Worker) []string {
	shown, spark := fitting(v.width, !v.plain)
	lines := make([]string, 0, len(workers)+1)
	row := func(text func(i int) cell, sparkline cell) {
		var b strings.Builder
		for at, i := range shown {
			if at > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(padded(text(i), columns[i].width, columns[i].left).render())
			if i == rateColumn && spark > 0 {
				b.WriteByte(' ')
				b.WriteString(padded(sparkline, spark, true).render())
			}
		}
		lines = append(lines, b.String())
	}
	row(func(i int) cell {
		if i == v.sort.column {
			return cell{columns[i].title, v.theme.strong.Underline(!v.plain)}
		}
		return cell{columns[i].title, v.theme.strong}
	}, cell{})
	for i := range workers {
		w := &workers[i]
		row(func(i int) cell {
			var style lipgloss.Style
			if columns[i].title == "STATE" {
				style = v.theme.state(w.State)
			}
			return cell{columns[i].text(w), style}
		}, cell{v.history.workers[w.ID].spark(spark), v.theme.spark})
	}
	return lines
}
