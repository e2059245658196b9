package top

import (
	"strings"

	"charm.land/lipgloss/v2"
)

// theme has the styles of a screen; the zero theme has no styles. Everything that a style shows is
// also written as text.
type theme struct{ strong, faint, good, warn, bad, spark lipgloss.Style }

// colored returns a theme of the 16 colours that users choose in their terminals. Bubble Tea
// leaves out colours that the terminal does not have.
func colored() theme {
	plain := lipgloss.NewStyle()
	return theme{
		strong: plain.Bold(true),
		faint:  plain.Faint(true),
		good:   plain.Foreground(lipgloss.Green),
		warn:   plain.Foreground(lipgloss.Yellow),
		bad:    plain.Foreground(lipgloss.Red).Bold(true),
		spark:  plain.Foreground(lipgloss.Cyan),
	}
}

// state returns the style of a worker's state.
func (t theme) state(s string) lipgloss.Style {
	switch s {
	case "ready":
		return t.good
	case "starting", "probing":
		return t.warn
	case "backoff", "given_up":
		return t.bad
	}
	return t.faint
}

// cell is a piece of a line.
type cell struct {
	text  string
	style lipgloss.Style
}

func (c cell) width() int     { return lipgloss.Width(c.text) }
func (c cell) render() string { return c.style.Render(c.text) }

// cut shortens a text to a width, in whole characters.
func cut(s string, width int) string {
	if lipgloss.Width(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return lipgloss.NewStyle().Inline(true).MaxWidth(width-1).Render(s) + "…"
}

// padded returns a cell of a width, with its text at the left or at the right.
func padded(c cell, width int, left bool) cell {
	c.text = cut(c.text, width)
	space := strings.Repeat(" ", width-c.width())
	if left {
		c.text += space
	} else {
		c.text = space + c.text
	}
	return c
}

// leastCut is the least width to which a text is cut. With less room, the text is left out.
const leastCut = 10

// line joins cells with two spaces, as many from the left as there is room for. The first cell is
// always there, and the last one may be cut.
func line(width int, cells ...cell) string {
	var b strings.Builder
	used := 0
	for i, c := range cells {
		room := width - used
		if i > 0 {
			room -= 2
		}
		if c.width() > room && i > 0 && (i < len(cells)-1 || room < leastCut) {
			break
		}
		c.text = cut(c.text, room)
		if i > 0 {
			b.WriteString("  ")
			used += 2
		}
		b.WriteString(c.render())
		used += c.width()
	}
	return b.String()
}
