package top

import (
	"context"
	"errors"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// live shows a server in a terminal until its user quits.
func live(ctx context.Context, c Config, w *watch) error {
	m := &liveModel{ctx: ctx, watch: w, view: view{every: c.Interval, width: 80, height: 24, theme: colored()}}
	m.show()
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithoutSignalHandler(), tea.WithInput(c.In),
		tea.WithOutput(c.Out)).Run()
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
		return nil
	}
	return err
}

// liveModel is the model of the screen in a terminal. Bubble Tea calls it from one goroutine, and
// runs its commands in others. At most one command is under way, a wait or a reading.
type liveModel struct {
	ctx   context.Context
	watch *watch
	view  view
	help  bool
}

type readMsg struct{}

// redraw makes Bubble Tea draw the whole screen. If it draws the differences only, it scrolls
// lines that have moved. That leaves old lines behind
// (https://github.com/charmbracelet/ultraviolet/issues/137), and some versions of tmux do not
// understand it.
var redraw tea.Cmd = tea.ClearScreen

// Init implements [tea.Model].
func (m *liveModel) Init() tea.Cmd { return m.wait(m.view.every) }

func (m *liveModel) wait(d time.Duration) tea.Cmd {
	return tea.Tick(d, func(time.Time) tea.Msg { return readMsg{} })
}

// show puts the figures of the watch on the screen, unless the screen is frozen.
func (m *liveModel) show() {
	if !m.view.paused {
		m.view.frame, m.view.history, m.view.gone = m.watch.frame, m.watch.history, m.watch.gone
	}
}

// Update implements [tea.Model].
func (m *liveModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.view.width, m.view.height = msg.Width, msg.Height
		return m, redraw
	case readMsg:
		start := time.Now()
		return m, func() tea.Msg { return timed{m.watch.client.read(m.ctx), start} }
	case timed:
		m.watch.take(msg.reading)
		m.show()
		return m, tea.Batch(redraw, m.wait(max(0, m.view.every-time.Since(msg.start))))
	case tea.KeyPressMsg:
		return m, tea.Batch(redraw, m.key(msg))
	}
	return m, nil
}

// timed is a reading, and when it was begun.
type timed struct {
	reading
	start time.Time
}

func (m *liveModel) key(key tea.KeyPressMsg) tea.Cmd {
	v := &m.view
	switch name := key.String(); {
	case name == "q" || name == "ctrl+c":
		return tea.Quit
	case name == "ctrl+z":
		return tea.Suspend
	case m.help:
		m.help = false
	case name == "?" || name == "h":
		m.help = true
	case name == "s" || name == "right":
		v.sort.column = (v.sort.column + 1) % len(columns)
	case name == "S" || name == "left":
		v.sort.column = (v.sort.column + len(columns) - 1) % len(columns)
	case name == "r":
		v.sort.reverse = !v.sort.reverse
	case name == "p" || name == "space":
		v.paused = !v.paused
		m.show()
	case name == "n":
		v.isNodes = !v.isNodes && v.frame.Cluster != nil
	case name == "up" && v.isNodes:
		v.nodeOffset = max(0, v.nodeOffset-1)
	case name == "down" && v.isNodes:
		if c := v.frame.Cluster; c != nil {
			v.nodeOffset = min(v.nodeOffset+1, max(0, len(c.Nodes)-1))
		}
	case name == "up":
		v.offset = max(0, v.offset-1)
	case name == "down":
		v.offset = min(v.offset+1, max(0, len(v.frame.Workers)-1))
	}
	return nil
}

// View implements [tea.Model].
func (m *liveModel) View() tea.View {
	lines := m.view.lines()
	if m.help {
		lines = m.view.help()
	}
	screen := tea.NewView(strings.Join(lines, "\n"))
	screen.AltScreen = true
	screen.WindowTitle = "hypertoken top"
	return screen
}
