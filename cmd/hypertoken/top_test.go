package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hypertoken/cmd/hypertoken/internal/top/toptest"
	"hypertoken/internal/require"
)

// topSteps is a hypertoken whose 'top' has the clock of toptest, and patience.
const topSteps = "hypertoken-steps"

// terminal is a terminal that tmux draws.
type terminal struct {
	t      *testing.T
	socket string
}

func (c *terminal) tmux(args ...string) string {
	c.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-f", os.DevNull, "-S", c.socket}, args...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("tmux %v: %v, %s", args, err, out)
	}
	return string(out)
}

// newTerminal starts a shell command in a terminal.
func newTerminal(t *testing.T, width, height int, command string) *terminal {
	require.Tool(t, "tmux")
	dir, err := os.MkdirTemp("", "tmux") // a short path: it is a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &terminal{t, filepath.Join(dir, "s")}
	c.tmux("new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), command)
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", c.socket, "kill-server").Run() })
	return c
}

func (c *terminal) press(keys ...string) {
	c.t.Helper()
	c.tmux(append([]string{"send-keys", "-t", ":"}, keys...)...)
}

var address = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// until waits until the screen has a text. If name is not empty, it also waits until the screen
// equals the file of that name in testdata/top.
func (c *terminal) until(text, name string) {
	c.t.Helper()
	file := filepath.Join("testdata", "top", name+".screen")
	want, err := os.ReadFile(file)
	if err != nil && name != "" && !*update {
		c.t.Fatal(err)
	}
	last, screen := "", ""
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); last = screen {
		<-looks.C
		screen = address.ReplaceAllString(c.tmux("capture-pane", "-p", "-t", ":"), "127.0.0.1:9464")
		switch {
		case !strings.Contains(screen, text):
		case name == "" || !*update && screen == string(want):
			return
		case *update && screen == last:
			if err := os.WriteFile(file, []byte(screen), 0o600); err != nil {
				c.t.Fatal(err)
			}
			return
		}
	}
	c.t.Fatalf("no %q, or not %s; -update writes it anew. The screen is:\n%s\nwant:\n%s", text, file, screen, want)
}

// The test watches a server, presses every key, and compares the screens.
func TestTopInATerminal(t *testing.T) {
	s := toptest.NewServer(t)
	c := newTerminal(t, 80, 24,
		"TZ=UTC "+topSteps+" top --interval 100ms http://"+s.Address+"; echo status $?; exec cat")
	c.until("known after the first interval", "first")
	s.Step(4)
	c.until("queued 4 of", "80x24")
	c.press("s", "s", "s", "s", "s", "s")
	c.until("by p99 ▼", "sorted")
	c.press("r")
	c.until("by p99 ▲", "reversed")
	c.press("r", "S", "Left")
	c.until("by actions/s ▼", "")
	c.press("Right")
	c.until("by p50 ▼", "")
	c.press("?")
	c.until("any key goes back", "help")
	c.press("x")
	c.until("by p50 ▼", "")

	c.press("p")
	c.until("PAUSED", "paused")
	s.Step(1)
	s.Asked() // and it is taken in: the next reading has been asked for
	c.until("queued 4 of", "paused")
	c.press("Space")
	c.until("queued 5 of", "fallback")

	c.tmux("resize-window", "-t", ":", "-x", "60", "-y", "20")
	c.until("queued 5 of", "60x20")
	c.tmux("resize-window", "-t", ":", "-x", "200", "-y", "50")
	c.until("and was withdrawn", "200x50")
	c.tmux("resize-window", "-t", ":", "-x", "80", "-y", "12")
	c.until("WORKERS 1-", "")
	c.press("Down")
	c.until("WORKERS 2-", "scrolled")
	c.press("Up")
	c.until("WORKERS 1-", "")
	c.tmux("resize-window", "-t", ":", "-x", "80", "-y", "24")
	c.until("RECENT ERRORS\n11:59:58", "fallback")

	s.Close()
	c.until("connection refused", "gone")
	s.Listen(t)
	s.Step(1)
	c.until("known after the first interval", "")
	s.Step(1)
	c.until("queued 7 of", "back")

	if styled := c.tmux("capture-pane", "-p", "-e", "-t", ":"); !strings.Contains(styled, "\x1b[") {
		t.Error("nothing has a style")
	}
	c.press("q")
	c.until("status 0", "quit")
}

// The server is a node of a cluster: a key shows the nodes, and the workers again.
func TestTopOfANode(t *testing.T) {
	for _, prefix := range []string{"", "NO_COLOR=1 "} {
		s := toptest.NewNode(t)
		c := newTerminal(t, 80, 24,
			prefix+"TZ=UTC "+topSteps+" top --interval 100ms http://"+s.Address+"; echo status $?; exec cat")
		s.Step(4)
		c.until("queued 4 of", "")
		c.press("n")
		c.until("NODES", "nodes")
		c.press("n")
		c.until("queued 4 of", "")
		s.Step(2)
		c.until("queued 6 of", "")
		c.press("n")
		c.until("NO LEASE", "nodes-nolease")
		c.press("q")
		c.until("status 0", "")
	}
}

// NO_COLOR is respected, and everything that a colour shows is also written in words. An interrupt
// ends top.
func TestTopWithoutColours(t *testing.T) {
	s := toptest.NewServer(t)
	c := newTerminal(t, 80, 24,
		"NO_COLOR=1 TZ=UTC "+topSteps+" top --interval 100ms http://"+s.Address+"; echo status $?; exec cat")
	s.Step(5)
	c.until("FALLBACK ACTIVE", "")
	if styled := c.tmux("capture-pane", "-p", "-e", "-t",
		":"); regexp.MustCompile("\x1b\\[[0-9;]*[34][0-8]").MatchString(styled) {
		t.Errorf("it has colours: %q", styled)
	}
	c.press("C-c")
	c.until("status 0", "")
}

// If the input is no terminal, top writes blocks of text, because no key could end a live screen.
func TestTopWithoutKeys(t *testing.T) {
	for _, from := range []string{"</dev/null %s", "printf x | %s"} {
		s := toptest.NewServer(t)
		c := newTerminal(t, 80, 24, fmt.Sprintf(from, topSteps+" top --interval 100ms http://"+s.Address))
		s.Step(1)
		c.until("RECENT ERRORS", "")
		if screen := c.tmux("capture-pane", "-p", "-t", ":"); strings.Contains(screen, "q quit") {
			t.Errorf("%s wants keys:\n%s", from, screen)
		}
	}
}
