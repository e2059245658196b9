package top

import "strings"

// remembered is the most intervals that a sparkline shows.
const remembered = 120

// trail is a rate, interval by interval, the newest last.
type trail []Figure

func (t trail) with(f Figure) trail {
	t = append(t, f)
	if len(t) > 2*remembered {
		t = append(trail(nil), t[len(t)-remembered:]...)
	}
	return t
}

// history has the past rates of the server and of each of its workers. A paused frame keeps its
// own history: values are only appended to a trail, never changed.
type history struct {
	actions trail
	workers map[string]trail
}

// with returns the history with a frame added. It forgets workers that are not in the frame.
func (h history) with(f *Frame) history {
	if !f.Interval.known() {
		return h
	}
	next := history{actions: h.actions.with(f.Rate), workers: make(map[string]trail, len(f.Workers))}
	for i := range f.Workers {
		w := &f.Workers[i]
		next.workers[w.ID] = h.workers[w.ID].with(w.Rate)
	}
	return next
}

var bars = []rune("▁▂▃▄▅▆▇█")

// spark draws the end of a trail in width characters. The lowest bar is 0, the highest one the
// greatest value shown. An unknown value is a space.
func (t trail) spark(width int) string {
	t = t[max(0, len(t)-max(0, width)):]
	var most Figure
	for _, f := range t {
		if f.known() {
			most = max(most, f)
		}
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", max(0, width-len(t))))
	for _, f := range t {
		switch {
		case !f.known():
			b.WriteByte(' ')
		case !(f > 0):
			b.WriteRune(bars[0])
		default:
			// Every value above 0 has more than the lowest bar.
			b.WriteRune(bars[min(len(bars)-1, 1+int(float64(f/most)*float64(len(bars)-2)+0.5))])
		}
	}
	return b.String()
}
