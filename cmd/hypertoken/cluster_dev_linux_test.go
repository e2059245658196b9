package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hypertoken/internal/peers"
)

// devCluster is a running 'hypertoken cluster dev'.
type devCluster struct {
	t       *testing.T
	command *exec.Cmd
	in      io.WriteCloser
	tmp     string // where it makes temporary directories
	read    chan struct{}

	mu      sync.Mutex // guards the fields below
	changed *sync.Cond
	output  []string
	ready   map[string]bool // by name, as the newest line about it says
	address map[string]string
	isOver  bool
}

var (
	readyLine = regexp.MustCompile(`^(\w+) is ready: (.*)`)
	endedLine = regexp.MustCompile(`^(\w+) has ended`)
)

// startDevCluster starts one, and waits until it is ready.
func startDevCluster(t *testing.T, args ...string) *devCluster {
	t.Helper()
	program, err := exec.LookPath("hypertoken")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(t.TempDir(), "cache")
	}
	warm(t, filepath.Join(cache, "hypertoken"))
	// The name is short: the name of a worker's socket has to fit into 108 bytes.
	tmp, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	c := &devCluster{t: t, command: exec.Command(program, append([]string{"cluster", "dev"}, args...)...), tmp: tmp,
		read: make(chan struct{}), ready: map[string]bool{}, address: map[string]string{}}
	c.changed = sync.NewCond(&c.mu)
	c.command.Env = append(os.Environ(), "TMPDIR="+tmp, "XDG_CACHE_HOME="+cache)
	c.command.Stderr = os.Stderr
	if c.in, err = c.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.command.Process.Kill() })
	go c.follow(out)
	c.await(func() bool { return strings.HasPrefix(c.newestLocked(), "all are ready") })
	return c
}

// follow reads what it prints.
func (c *devCluster) follow(out io.Reader) {
	defer close(c.read)
	for s := bufio.NewScanner(out); s.Scan(); {
		line := s.Text()
		c.mu.Lock()
		c.output = append(c.output, line)
		if m := readyLine.FindStringSubmatch(line); m != nil {
			c.ready[m[1]], c.address[m[1]] = true, m[2]
		} else if m := endedLine.FindStringSubmatch(line); m != nil {
			c.ready[m[1]] = false
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	}
	c.mu.Lock()
	c.isOver = true
	c.changed.Broadcast()
	c.mu.Unlock()
}

// newestLocked returns the newest line. The lock mu is held.
func (c *devCluster) newestLocked() string {
	if len(c.output) == 0 {
		return ""
	}
	return c.output[len(c.output)-1]
}

// await waits until the output fulfils a condition, which is called with the lock held.
func (c *devCluster) await(condition func() bool) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !condition() {
		if c.isOver {
			c.t.Fatalf("it has ended: %s", strings.Join(c.output, "\n"))
		}
		c.changed.Wait()
	}
}

// tell writes a line to it.
func (c *devCluster) tell(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// ask writes a line about a process to it, and returns what it says of this process next.
func (c *devCluster) ask(what, name string) (said string) {
	c.t.Helper()
	c.mu.Lock()
	from := len(c.output)
	c.mu.Unlock()
	c.tell(what + " " + name)
	c.await(func() bool {
		for _, l := range c.output[from:] {
			if said = l; strings.HasPrefix(l, name+" ") {
				return true
			}
		}
		return false
	})
	return said
}

// revive starts a node if it is not ready. On a busy machine, a node may be declared dead at any time.
func (c *devCluster) revive(name string) {
	c.t.Helper()
	for {
		c.mu.Lock()
		isReady := c.ready[name]
		c.mu.Unlock()
		if isReady {
			return
		}
		c.ask("restart", name)
	}
}

// hit does something to a process that runs.
func (c *devCluster) hit(what, name, want string) {
	c.t.Helper()
	for {
		said := c.ask(what, name)
		if strings.Contains(said, want) {
			return
		}
		c.t.Logf("%s %s: %s", what, name, said)
		c.revive(name)
	}
}

// member returns the address by which the other nodes know a node.
func (c *devCluster) member(name string) string {
	for {
		var cluster struct{ Self string }
		err := c.get(name, "/v1/cluster", &cluster)
		if err == nil {
			return cluster.Self
		}
		c.t.Logf("%s does not answer: %v", name, err)
		c.revive(name)
	}
}

// awaitVerdict waits until a node no longer has an address among those of living members.
func (c *devCluster) awaitVerdict(node, member string) {
	c.t.Helper()
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for ; ; <-looks.C {
		var cluster struct{ Members []struct{ Address string } }
		if err := c.get(node, "/v1/cluster", &cluster); err != nil {
			c.revive(node)
			continue
		}
		lives := false
		for _, m := range cluster.Members {
			lives = lives || m.Address == member
		}
		if !lives && len(cluster.Members) > 0 {
			return
		}
	}
}

// awaitOverview waits until a node has seen the whole cluster.
func (c *devCluster) awaitOverview(node string) {
	c.t.Helper()
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for until := time.Now().Add(3 * time.Minute); ; <-looks.C {
		var o peers.Overview
		err := c.get(node, "/v1/cluster?slots=1", &o)
		if err == nil {
			err = checkOverview(&o)
		}
		if err == nil {
			return
		}
		if time.Now().After(until) {
			c.t.Fatalf("%s sees %+v: %v", node, o, err)
		}
		for _, name := range []string{"a", "b", "c"} {
			c.revive(name)
		}
	}
}

// checkOverview fails unless three nodes live, some of which have slots, and all streams are well. A node
// that had died on a busy machine, and was started again, leaves slots that nobody has yet.
func checkOverview(o *peers.Overview) error {
	slots, busy := 0, 0
	for _, m := range o.Members {
		if slots += m.Slots; m.Slots > 0 {
			busy++
		}
		if m.Version == "" || (m.Node == o.Node) != (m.Address == o.Self) {
			return fmt.Errorf("a member is %+v", m)
		}
	}
	if len(o.Members) != 3 || busy == 0 || slots > len(o.Owners) || o.AskedAt.IsZero() {
		return fmt.Errorf("%d members, %d with slots, that have %d slots of %d", len(o.Members), busy, slots,
			len(o.Owners))
	}
	for _, s := range o.Streams {
		if s.Leader == "" || len(s.Replicas) != 2 || s.Messages == 0 && s.Name == "hypertoken-journals-0" {
			return fmt.Errorf("a stream is %+v", s)
		}
	}
	if len(o.Streams) != 3 || !o.Lease || o.LeaseAge == nil || *o.LeaseAge > 1 {
		return fmt.Errorf("%d streams, lease %t", len(o.Streams), o.Lease)
	}
	return nil
}

// get asks a node, and returns what it answers, or an error.
func (c *devCluster) get(name, path string, to any) error {
	c.mu.Lock()
	address := c.address[name]
	c.mu.Unlock()
	r, err := http.Get(address + path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return json.NewDecoder(r.Body).Decode(to)
}

// has reports whether a node has an engine open.
func (c *devCluster) has(node, engine string) bool {
	var status struct{ Engines []struct{ Name string } }
	if c.get(node, "/v1/status", &status) != nil {
		return false
	}
	for _, e := range status.Engines {
		if e.Name == engine {
			return true
		}
	}
	return false
}

// processes returns the numbers of all processes that it has started, and of theirs.
func (c *devCluster) processes() []int {
	var all []int
	for parents := []int{c.command.Process.Pid}; len(parents) > 0; parents = parents[1:] {
		all = append(all, parents[0])
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parents[0]))
		for _, list := range lists {
			b, _ := os.ReadFile(list)
			for _, child := range strings.Fields(string(b)) {
				pid, _ := strconv.Atoi(child)
				parents = append(parents, pid)
			}
		}
	}
	return all
}

// expectNothing waits until none of the processes runs any more, and nothing is in TMPDIR.
func (c *devCluster) expectNothing(processes []int) {
	c.t.Helper()
	looks := time.NewTicker(10 * time.Millisecond)
	defer looks.Stop()
	until := time.Now().Add(time.Minute)
	for ; ; <-looks.C {
		var left []string
		for _, pid := range processes {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			// What has ended and is not waited for by its new parent does not count.
			if _, state, found := strings.Cut(string(b), ") "); found && state[0] != 'Z' {
				left = append(left, string(b))
			}
		}
		files, err := os.ReadDir(c.tmp)
		if err != nil {
			c.t.Fatal(err)
		}
		if len(left) == 0 && len(files) == 0 {
			return
		}
		if time.Now().After(until) {
			c.t.Fatalf("left: %q, %v", left, files)
		}
	}
}

// devPlayer plays a game through one node, over a WebSocket. It repeats a line that was not answered,
// with its key.
type devPlayer struct {
	cluster      *devCluster
	node, engine string
	conn         *websocket.Conn
	lines        []string // all that were played
}

// play sends a line until it is answered without an error, and returns the answer.
func (p *devPlayer) play(line string) map[string]any {
	p.cluster.t.Helper()
	p.lines = append(p.lines, line)
	tries := time.NewTicker(50 * time.Millisecond)
	defer tries.Stop()
	for until := time.Now().Add(3 * time.Minute); ; <-tries.C {
		answer, err := p.try(line)
		if err == nil {
			return answer
		}
		if time.Now().After(until) {
			p.cluster.t.Fatalf("the line %s of %s is not answered: %v", line, p.engine, err)
		}
		p.cluster.t.Logf("%s: %v", p.engine, err)
		p.cluster.revive(p.node)
	}
}

// try sends a line once.
func (p *devPlayer) try(line string) (answer map[string]any, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	defer func() {
		if err != nil && p.conn != nil {
			_ = p.conn.CloseNow()
			p.conn = nil
		}
	}()
	if p.conn == nil {
		p.cluster.mu.Lock()
		address := p.cluster.address[p.node]
		p.cluster.mu.Unlock()
		url := "ws" + strings.TrimPrefix(address, "http") + "/v1/engines/" + p.engine
		if p.conn, _, err = websocket.Dial(ctx, url, nil); err != nil {
			p.conn = nil
			return nil, err
		}
	}
	if err := p.conn.Write(ctx, websocket.MessageText, []byte(line)); err != nil {
		return nil, err
	}
	_, b, err := p.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return nil, err
	}
	// A setup has no key: if its answer was lost, its engine exists.
	if answer["error"] != nil && !(line == devSetup && strings.Contains(string(b), `"exists"`)) {
		return nil, fmt.Errorf("%s", b)
	}
	return answer, nil
}

const devSetup = `{"setup":{"stack":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"},{"id":"e"},{"id":"f"},{"id":"g"}]}}`

// some plays a few actions.
func (p *devPlayer) some() {
	for range 5 {
		n := len(p.lines)
		p.play(fmt.Sprintf(`{"type":"stack:shuffle","now":%d,"entropy":"%032x","key":"k%d"}`, n, n, n))
	}
}

// check compares the game with the same lines in one process.
func (p *devPlayer) check() {
	p.cluster.t.Helper()
	got := p.play(`{"digest":true}`)["digest"]
	run := exec.Command(p.cluster.command.Path, "run", "--in-process")
	run.Stdin = strings.NewReader(strings.Join(p.lines, "\n") + "\n")
	out, err := run.Output()
	if err != nil {
		p.cluster.t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), fmt.Sprintf(`{"digest":"%v"`, got)) || got == nil {
		p.cluster.t.Errorf("the game %s has the digest %v, want that of %s", p.engine, got, out)
	}
}

// Games that are played through one node go on while the nodes that have them are killed, stopped and
// started again, and become what they would have become without that.
func TestClusterDevPlaysOnWhileNodesDie(t *testing.T) {
	c := startDevCluster(t)
	playerAt := func(node string) *devPlayer {
		for k := range 100 {
			p := &devPlayer{cluster: c, node: "a", engine: fmt.Sprintf("game-%s-%d", node, k)}
			p.play(devSetup)
			if c.has(node, p.engine) {
				return p
			}
			_ = p.conn.CloseNow()
		}
		t.Fatalf("the node %s gets no engine", node)
		return nil
	}
	onB, onC := playerAt("b"), playerAt("c")
	both := func() { onB.some(); onC.some() }
	both()
	c.awaitOverview("a")
	c.hit("kill", "c", "has ended: signal: killed")
	both()
	c.revive("c")
	b := c.member("b")
	c.hit("stop", "b", "is stopped")
	both()
	c.awaitVerdict("a", b)
	c.hit("resume", "b", "goes on")
	c.await(func() bool { return !c.ready["b"] })
	both()
	c.revive("b")
	c.ask("restart", "c")
	both()
	onB.check()
	onC.check()
	all := c.processes()
	c.tell("quit")
	<-c.read
	if err := c.command.Wait(); err != nil {
		t.Error(err)
	}
	c.expectNothing(all)
}

// Nothing is left if the command itself is killed, even if one of its processes is stopped.
func TestClusterDevLeavesNothingIfItIsKilled(t *testing.T) {
	c := startDevCluster(t, "--servers", "1", "--nodes", "2")
	c.hit("stop", "b", "is stopped")
	c.hit("stop", "n1", "is stopped")
	all := c.processes()
	if len(all) < 6 {
		t.Errorf("processes: %v", all)
	}
	if err := c.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.expectNothing(all)
}
