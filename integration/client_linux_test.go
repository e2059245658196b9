package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hypertoken/internal/leaks"
)

// counts are the numbers of actions in answers. A server counts them within a connection.
var counts = regexp.MustCompile(`"n":\d+,`)

// The example of a client plays the recorded game on a server that is killed three times in the
// middle of it, and gets the answers of a game that nothing has disturbed.
func TestTheClientGoesOn(t *testing.T) {
	program, client := build(t, "cmd/hypertoken"), build(t, "examples/client")
	const game = "../examples/blackjack.jsonl"
	undisturbed, err := exec.Command(program, "run", game).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(counts.ReplaceAllString(string(undisturbed), "")), "\n")
	leaks.Check(t)
	servers := newForwarder(t)
	data := t.TempDir()
	serve := func() *exec.Cmd {
		c := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--workers", "1", "--data", data)
		_, _, out := begin(t, c)
		servers.forwardTo(strings.TrimPrefix(line(t, out), "listening on http://"))
		return c
	}
	server := serve()
	c := exec.Command(client, "--servers", "http://"+servers.address(), "--engine", "table-1", "--patience", "10m",
		game)
	session(t, c)
	out, in := newPipe(t)
	// The client can't be far ahead of what is read here.
	if _, err := unix.FcntlInt(out.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	c.Stdout, c.Stderr = in, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	var got []string
	for answers := bufio.NewScanner(out); answers.Scan(); {
		got = append(got, counts.ReplaceAllString(answers.Text(), ""))
		if n := len(got); n%(len(want)/4) == 0 && n/(len(want)/4) <= 3 {
			servers.forwardTo("")
			signal(t, server.Process.Pid, syscall.SIGKILL)
			_ = server.Wait()
			server = serve()
		}
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, said.String())
	}
	if lost := strings.Count(said.String(), "\n"); lost < 3 {
		t.Errorf("the client has lost %d connections, want 3: %s", lost, said.String())
	}
	if !slices.Equal(got, want) {
		k := 0
		for k < min(len(got), len(want)) && got[k] == want[k] {
			k++
		}
		t.Errorf("%d answers, want %d; they differ from answer %d on", len(got), len(want), k+1)
	}
	signal(t, server.Process.Pid, syscall.SIGTERM)
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
}

// forwarder is an address that stays while the servers behind it come and go.
type forwarder struct {
	listener net.Listener
	mu       sync.Mutex
	to       string
}

func newForwarder(t *testing.T) *forwarder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{listener: l}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { f.forward(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return f
}

func (f *forwarder) address() string { return fmt.Sprint(f.listener.Addr()) }

func (f *forwarder) forwardTo(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = address
}

// forward forwards a connection until one of its ends closes it.
func (f *forwarder) forward(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	to := f.to
	f.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if to == "" || err != nil {
		return
	}
	defer server.Close()
	ended := make(chan struct{}, 2)
	for _, ends := range [][2]net.Conn{{c, server}, {server, c}} {
		go func() {
			// Not as connections: for these, io.Copy would keep pipes for the next ones.
			_, _ = io.Copy(struct{ io.Writer }{ends[0]}, struct{ io.Reader }{ends[1]})
			ended <- struct{}{}
		}()
	}
	<-ended
	_ = c.Close()
	_ = server.Close()
	<-ended
}
