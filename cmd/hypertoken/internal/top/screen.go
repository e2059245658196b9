package top

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
)

// view is all that a screen shows.
type view struct {
	frame         *Frame
	history       history
	sort          sorting
	width, height int  // height is 0 for as much as there is
	offset        int  // of the first worker that is shown
	isNodes       bool // the page of the nodes is shown, if the server is one
	nodeOffset    int
	every         time.Duration
	paused        bool
	gone          *gone
	plain         bool // no sparklines, and nothing about keys
	theme         theme
}

// gone is a server that does not answer any more.
type gone struct {
	since time.Time
	err   error
}

const (
	clock = "15:04:05"
	// If height is short, actions and errors have this many rows before workers have more.
	fewRows = 3
	// If there is no height, as in plain output, actions and errors have at most this many.
	plainRows = 10
)

// lines draws a screen: at most height lines of at most width characters.
func (v *view) lines() []string {
	if v.isNodes && v.frame.Cluster != nil {
		return v.nodePage()
	}
	lines := v.header()
	workers := v.sort.sorted(v.frame.Workers)
	actions, errorRows := v.actions(), v.errors()

	// A title each, and for workers two; a line between the parts if there are 24 lines; one for
	// the keys.
	between := []string{}
	if v.height == 0 || v.height >= 24 {
		between = append(between, "")
	}
	showWorkers, showActions, showErrors := len(workers), min(plainRows, len(actions)-1),
		min(plainRows, len(errorRows)-1)
	if v.height > 0 {
		showWorkers, showActions, showErrors = share(v.height-len(lines)-2-1-1-1-2*len(between), len(workers),
			len(actions)-1, len(errorRows)-1)
	}
	first := max(0, min(v.offset, len(workers)-showWorkers))
	lines = append(lines, v.workersTitle(first, showWorkers))
	lines = append(lines, workerTable(v, workers[first:first+showWorkers])...)
	lines = append(lines, between...)
	lines = append(lines, actions[:1+showActions]...)
	lines = append(lines, between...)
	lines = append(lines, errorRows[:1+showErrors]...)
	if v.plain && v.frame.Cluster != nil {
		lines = v.nodes(append(lines, ""))
	}
	return v.filled(lines, v.keys())
}

// filled fills a screen of a height with lines, and with the keys at its end.
func (v *view) filled(lines []string, keys string) []string {
	if v.height == 0 {
		return lines
	}
	lines = lines[:min(len(lines), v.height-1)]
	for len(lines) < v.height-1 {
		lines = append(lines, "")
	}
	return append(lines, keys)
}

// share divides the rows between workers, actions and errors. Actions and errors get a few rows
// each, then workers get all that they need, and then actions and errors share the remaining rows.
func share(rows, workers, actions, errors int) (int, int, int) {
	rows = max(0, rows)
	few := min(fewRows, rows/4)
	a, e := min(actions, few), min(errors, few)
	w := min(workers, rows-a-e)
	rows -= w + a + e
	moreE := min(errors-e, max(rows/2, rows-(actions-a)))
	moreA := min(actions-a, rows-moreE)
	return w, a + moreA, e + moreE
}

// title is the first line of each page.
func (v *view) title() string {
	f, t := v.frame, v.theme
	var plain lipgloss.Style
	say := func(format string, args ...any) cell { return cell{fmt.Sprintf(format, args...), plain} }
	var top []cell
	if v.paused {
		top = append(top, cell{"PAUSED", t.warn})
	}
	top = append(top, cell{f.URL, t.strong})
	if f.Version != "" {
		top = append(top, say("hypertoken %s", cut(f.Version, 20)))
	}
	if f.Uptime.known() {
		top = append(top, say("up %s", span(f.Uptime)))
	}
	return line(v.width, append(top, say("every %v", v.every))...)
}

// goneOrSpace is the end of a header: that the server is gone, or an empty line if there is room for it.
func (v *view) goneOrSpace() []string {
	switch {
	case v.gone != nil:
		// The error may be long. It comes last, so its end is cut.
		text := fmt.Sprintf("GONE since %s, figures are OLD: %s", v.gone.since.Format(clock), v.gone.err)
		return []string{cell{cut(text, v.width), v.theme.bad}.render()}
	case v.height == 0 || v.height >= 16:
		return []string{""}
	}
	return nil
}

func (v *view) header() []string {
	f, t := v.frame, v.theme
	var plain lipgloss.Style
	say := func(format string, args ...any) cell { return cell{fmt.Sprintf(format, args...), plain} }

	rates := []cell{say("actions %s/s", rate(f.Rate))}
	if !v.plain {
		if width := min(mostSpark, v.width-66); width >= leastSpark {
			rates = append(rates, cell{v.history.actions.spark(width), t.spark})
		}
	}
	errors := say("errors %s/s (%s)", rate(f.ErrorRate), percent(f.ErrorPart))
	if f.ErrorRate > 0 {
		errors.style = t.warn
	}
	rates = append(rates, say("p50 %s", seconds(f.P50)), say("p99 %s", seconds(f.P99)), errors)

	fallback := cell{"fallback -", plain}
	switch {
	case f.Fallback > 0:
		fallback = cell{"FALLBACK ACTIVE", t.bad}
	case f.Fallback == 0:
		fallback.text = "fallback off"
	}
	queue := []cell{fallback, say("in flight %s", count(f.InFlight)),
		say("queued %s of %s", count(f.Queue.Queued), whole(f.Queue.Capacity)),
		say("bytes %s of %s", bytesOf(f.Queue.InFlightBytes), bytesOf(f.Queue.CapacityBytes))}

	engines := []cell{say("engines %s: %s", count(f.Engines.sum()), byName(f.Engines, places)),
		say("exits %s", byName(f.Exits, reasons))}
	lines := []string{v.title(), line(v.width, rates...), line(v.width, queue...), line(v.width, engines...)}
	return append(lines, v.goneOrSpace()...)
}

var (
	places  = []string{"worker", "in_process", "placing", "out"}
	reasons = []string{"died", "deadline", "stalled", "memory", "shutdown"}
)

// byName writes figures above 0 as "worker 120, out 6", those of order first.
func byName(f figures, order []string) string {
	var parts []string
	said := map[string]bool{}
	for _, name := range slices.Concat(order, sortedKeys(f)) {
		if n, ok := f[name]; ok && !said[name] && n != 0 {
			said[name] = true
			parts = append(parts, strings.ReplaceAll(name, "_", " ")+" "+count(n))
		}
	}
	switch {
	case len(f) == 0:
		return none
	case len(parts) == 0:
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (v *view) workersTitle(first, n int) string {
	f := v.frame
	title := "WORKERS"
	cells := []cell{{title, v.theme.strong}, {byName(f.States, states), v.theme.faint},
		{v.sort.String(), v.theme.faint}}
	if n < len(f.Workers) {
		cells[0].text = fmt.Sprintf("WORKERS %d-%d of %d", min(first+1, first+n), first+n, len(f.Workers))
	}
	if f.Spares.sum() > 0 {
		cells = append(cells, cell{"spares: " + byName(f.Spares, states), v.theme.faint})
	}
	return line(v.width, cells...)
}

// actions draws a title, and a row for each action.
func (v *view) actions() []string {
	name := max(16, min(v.width-4*8, 40))
	row := func(style lipgloss.Style, a, b, c, d string) string {
		a = padded(cell{text: a}, name, true).text
		return cell{cut(fmt.Sprintf("%s %7s %7s %7s", a, b, c, d), v.width), style}.render()
	}
	lines := []string{row(v.theme.strong, "SLOWEST ACTIONS", "PER S", "P50", "P99")}
	for _, a := range v.frame.Actions {
		lines = append(lines, row(lipgloss.Style{}, a.Name, rate(a.Rate), seconds(a.P50), seconds(a.P99)))
	}
	if len(lines) == 1 {
		said := "none in the last interval"
		if !v.frame.Interval.known() {
			said = "known after the first interval"
		}
		lines = append(lines, cell{said, v.theme.faint}.render())
	}
	return lines
}

// times returns how often an error occurred, as a text; "" for once.
func (e *RepeatedError) times() string {
	if e.Count == 1 {
		return ""
	}
	return fmt.Sprintf("%d×", e.Count)
}

// errors draws a title, and a row for each recent error. If the server has no list of recent
// errors, there is a row for each code.
func (v *view) errors() []string {
	f, t := v.frame, v.theme
	var text lipgloss.Style
	var lines []string
	if f.HasErrors {
		lines = append(lines, cell{"RECENT ERRORS", t.strong}.render())
		code, action, engine, times := 0, 0, 0, 0
		for _, e := range f.Errors {
			if e.Count > 1 {
				times = max(times, cell{text: e.times()}.width())
			}
			code, action = max(code, min(14, cell{text: e.Code}.width())),
				max(action, min(20, cell{text: e.Action}.width()))
			engine = max(engine, min(16, cell{text: e.Engine}.width()))
		}
		for _, e := range f.Errors {
			row := []cell{{e.At.Local().Format(clock), t.faint}}
			if times > 0 {
				row = append(row, padded(cell{e.times(), t.strong}, times, false))
			}
			row = append(row, padded(cell{e.Code, t.warn}, code, true), padded(cell{e.Action, text}, action, true),
				padded(cell{e.Engine, t.faint}, engine, true), cell{e.Message, text})
			lines = append(lines, line(v.width, row...))
		}
	} else {
		title := []cell{{fmt.Sprintf("%-20s %7s %7s", "ERRORS BY CODE", "PER S", "TOTAL"), t.strong}}
		if f.StatusErr != "" {
			title = append(title, cell{"no status: " + f.StatusErr, t.warn})
		}
		lines = append(lines, line(v.width, title...))
		for _, e := range f.ErrorCodes {
			code := padded(cell{e.Code, text}, 20, true)
			lines = append(lines, line(v.width, cell{fmt.Sprintf("%s %7s %7s", code.text, rate(e.Rate),
				count(e.Total)), text}))
		}
	}
	if len(lines) == 1 {
		lines = append(lines, cell{"none", t.faint}.render())
	}
	return lines
}

func (v *view) keys() string {
	keys := []cell{{"q quit", v.theme.faint}, {"p pause", v.theme.faint}, {"s/S sort", v.theme.faint},
		{"r reverse", v.theme.faint}, {"↑/↓ scroll", v.theme.faint}, {"? help", v.theme.faint}}
	if v.frame.Cluster != nil {
		keys = slices.Insert(keys, 2, cell{"n nodes", v.theme.faint})
	}
	return line(v.width, keys...)
}

// help draws an explanation of the keys and the columns.
func (v *view) help() []string {
	lines := []string{}
	for _, text := range strings.Split(helpText, "\n") {
		lines = append(lines, cut(text, v.width))
	}
	lines = lines[:min(len(lines), max(0, v.height-1))]
	for len(lines) < v.height-1 {
		lines = append(lines, "")
	}
	return append(lines, cell{"any key goes back", v.theme.faint}.render())
}

var helpText = `s →  S ←   sort by the next column, by the previous one
r          reverse the order
p space    freeze the screen, and go on
↑ ↓        scroll the workers
n          the nodes of the server's cluster, and back to the workers
q ctrl-c   quit

Figures are over the last interval. ` + none + ` is one that is unknown.
UP UTIL    since its process started; the part that actions ran
RST        processes of the worker that ended, but for shutdown
P50 P99    from the pipe to the answer; up in the header and for
           actions, from dispatch to outcome
Q ENG      requests in its pipe; engines that are placed there
MEM CPU    resident memory; 100% is a core
FDS        open files
queued     of the requests, those that no worker has yet
fallback   engines run in the host's process, for want of a worker
exits      ends of worker processes, by reason
taken over slots of the cluster that another member had before
doubts     batches of which no answer came; refused: another node has
           the slot; failed: the servers have no room for them
5×         so many recent errors are the same; the time is that of the last
` + "sparklines go back " + strconv.Itoa(remembered) + " intervals at most, each to its own maximum"
