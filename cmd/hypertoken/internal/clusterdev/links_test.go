package clusterdev

import (
	"bufio"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a test waits for something that comes at once.
const patience = time.Minute

// echo is what stands for a process behind doors: it sends each line back.
type echo struct {
	listener net.Listener
	mayHear  atomic.Bool // whether a line that says "held" may arrive
	tooEarly atomic.Bool
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go e.answer(c)
		}
	}()
	return e
}

func (e *echo) answer(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if line == "held\n" && !e.mayHear.Load() {
			e.tooEarly.Store(true)
		}
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, line); err != nil {
			return
		}
	}
}

// doorTo opens a door to a process that is an echo.
func doorTo(t *testing.T, l *links, from, to string, e *echo) *door {
	t.Helper()
	ports, err := chooseDoors(1)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{links: l, link: link{from, to}, public: loopback(ports[0]), private: e.listener.Addr().String()}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// caller is a connection through a door.
type caller struct {
	net.Conn
	lines *bufio.Reader
}

func call(t *testing.T, d *door) *caller {
	t.Helper()
	c, err := net.DialTimeout("tcp", d.public, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &caller{c, bufio.NewReader(c)}
}

func (c *caller) send(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (c *caller) expect(t *testing.T, line string) {
	t.Helper()
	if got, err := c.lines.ReadString('\n'); got != line+"\n" {
		t.Fatalf("got %q (%v), want %q", got, err, line)
	}
}

// Bytes that are sent during a cut arrive after it, on old connections and on new ones. Other links go on.
func TestHeldCut(t *testing.T) {
	for _, row := range []struct {
		name string
		cut  link
	}{
		{"the way there", link{"a", "n1"}},
		{"the way back", link{"n1", "a"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, e := newLinks(), startEcho(t)
			cutDoor, otherDoor := doorTo(t, l, "a", "n1", e), doorTo(t, l, "b", "n1", e)
			old, other := call(t, cutDoor), call(t, otherDoor)
			old.send(t, "before")
			old.expect(t, "before")
			e.mayHear.Store(row.cut.from == "n1")
			l.begin([]link{row.cut}, false)
			fresh := call(t, cutDoor)
			old.send(t, "held")
			fresh.send(t, "held")
			for range 100 { // so long that what is not held would have arrived
				other.send(t, "passes")
				other.expect(t, "passes")
			}
			e.mayHear.Store(true)
			l.heal()
			old.expect(t, "held")
			fresh.expect(t, "held")
			if e.tooEarly.Load() {
				t.Error("a line arrived while the link was cut")
			}
		})
	}
}

// A cut that resets ends the connections between two processes, whoever has made them, and new ones.
func TestResetCut(t *testing.T) {
	l, e := newLinks(), startEcho(t)
	there, back, other := doorTo(t, l, "a", "b", e), doorTo(t, l, "b", "a", e), doorTo(t, l, "a", "c", e)
	kept := call(t, other)
	olds := []*caller{call(t, there), call(t, back)}
	for _, c := range olds {
		c.send(t, "before")
		c.expect(t, "before")
	}
	l.begin([]link{{"a", "b"}}, true)
	for _, c := range olds {
		if line, err := c.lines.ReadString('\n'); err == nil {
			t.Errorf("a connection that was to be reset gives %q", line)
		}
	}
	for _, d := range []*door{there, back} {
		c, err := net.DialTimeout("tcp", d.public, patience)
		if err != nil {
			continue // it was reset before it was complete
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("a new connection that was to be reset gives %d bytes", n)
		}
		_ = c.Close()
	}
	kept.send(t, "kept")
	kept.expect(t, "kept")
	l.heal()
	for _, d := range []*door{there, back} {
		c := call(t, d)
		c.send(t, "after")
		c.expect(t, "after")
	}
}

// The end of a process ends its connections, even those that a cut holds.
func TestDoorOfEndedProcess(t *testing.T) {
	l, e := newLinks(), startEcho(t)
	d := doorTo(t, l, "a", "n1", e)
	old := call(t, d)
	old.send(t, "before")
	old.expect(t, "before")
	l.begin([]link{{"a", "n1"}, {"n1", "a"}}, false)
	old.send(t, "lost")
	fresh := call(t, d)
	d.close()
	for _, c := range []*caller{old, fresh} {
		if line, err := c.lines.ReadString('\n'); err == nil {
			t.Errorf("a connection to a process that has ended gives %q", line)
		}
	}
	if err := d.open(); err != nil { // it is started again
		t.Fatal(err)
	}
}

// Only a process that a cluster with links has started reaches others elsewhere.
func TestWay(t *testing.T) {
	t.Cleanup(func() { clear(ways) })
	if got := Way("127.0.0.1:1"); got != "127.0.0.1:1" {
		t.Errorf("got %s", got)
	}
	readWays("")
	readWays("127.0.0.1:1,127.0.0.1:2,127.0.0.1:3,127.0.0.1:4")
	if got := Way("127.0.0.1:1") + " " + Way("127.0.0.1:3") + " " + Way("127.0.0.1:5"); got !=
		"127.0.0.1:2 127.0.0.1:4 127.0.0.1:5" {
		t.Errorf("got %s", got)
	}
}
