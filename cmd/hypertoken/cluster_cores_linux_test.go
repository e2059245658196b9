package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hypertoken/internal/cores"
	"hypertoken/internal/peers"
	"hypertoken/wasm"
)

// hypertoken returns a command that runs this program beside the cluster.
func (c *devCluster) hypertoken(args ...string) *exec.Cmd {
	command := exec.Command(c.command.Path, args...)
	command.Env = c.command.Env
	return command
}

// servers returns the value of --cluster for the cluster.
func (c *devCluster) servers() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for name, address := range c.address {
		if strings.HasPrefix(name, "n") {
			list = append(list, address)
		}
	}
	return strings.Join(list, ",")
}

// fourthNode is a node that is no child of the cluster.
type fourthNode struct {
	address string // at which the others know it
	command *exec.Cmd
	ended   chan struct{}
}

// end ends it.
func (n *fourthNode) end() {
	_ = n.command.Process.Kill()
	<-n.ended
}

// hasEnded reports whether it has ended.
func (n *fourthNode) hasEnded() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// startFourth starts a fourth node, and waits until all others see it and it has some cores, first the
// one that it runs. On a busy machine it may be declared dead before: then it is started again.
func (c *devCluster) startFourth(dir string, cores []string, flags ...string) *fourthNode {
	c.t.Helper()
	for {
		n := c.tryFourth(dir, flags...)
		isThere := true
		for _, node := range []string{"a", "b", "c"} {
			isThere = isThere && c.awaitMember(node, n, cores)
		}
		if isThere {
			return n
		}
		n.end()
	}
}

// tryFourth starts a fourth node, and waits until it listens.
func (c *devCluster) tryFourth(dir string, flags ...string) *fourthNode {
	c.t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			c.t.Fatal(err)
		}
		address := l.Addr().String()
		_ = l.Close()
		command := c.hypertoken(append([]string{"serve", "--listen", "127.0.0.1:0", "--workers", "1",
			"--cluster", c.servers(), "--cluster-sync", "trusted", "--advertise", address,
			"--cluster-secret-file", filepath.Join(dir, "secret")}, flags...)...)
		var log strings.Builder
		command.Stderr = &log
		out, err := command.StdoutPipe()
		if err != nil {
			c.t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			c.t.Fatal(err)
		}
		n := &fourthNode{address, command, make(chan struct{})}
		lines := bufio.NewScanner(out)
		isListening := lines.Scan()
		go func() {
			_ = command.Wait()
			close(n.ended)
		}()
		c.t.Cleanup(n.end)
		if isListening {
			return n
		}
		n.end()
		if !strings.Contains(log.String(), "address already in use") { // somebody else has the port since
			c.t.Fatalf("the node does not start: %s", log.String())
		}
	}
}

// awaitMember waits until a node sees the fourth one, and it has some cores. It returns false if the
// fourth one has ended.
func (c *devCluster) awaitMember(node string, fourth *fourthNode, cores []string) bool {
	c.t.Helper()
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for until := time.Now().Add(3 * time.Minute); !fourth.hasEnded(); <-looks.C {
		var o peers.Overview
		if err := c.get(node, "/v1/cluster", &o); err != nil {
			c.revive(node)
		}
		for k := range o.Members {
			if o.Members[k].Address == fourth.address && slices.Equal(o.Members[k].Cores, cores) {
				return true
			}
		}
		if time.Now().After(until) {
			c.t.Fatalf("%s sees %+v", node, o)
		}
	}
	return false
}

// Games are played while all nodes go over to another core and back. They become what they would have
// become without that. A node with a newer core of its own runs the target; one that may not have the
// target holds it up.
func TestAClusterGoesOverToAnotherCore(t *testing.T) {
	dir := t.TempDir()
	c := startDevCluster(t, "--dir", dir)
	file := filepath.Join(dir, "example.wasm")
	if err := os.WriteFile(file, cores.Example, 0o600); err != nil {
		t.Fatal(err)
	}
	former, newer := wasm.Hash(wasm.Builtin()), wasm.Hash(cores.Example)
	var players []*devPlayer
	for k, node := range []string{"a", "b", "c"} {
		p := &devPlayer{cluster: c, node: node, engine: fmt.Sprint("game-", k)}
		p.play(devSetup)
		players = append(players, p)
	}
	all := func() {
		for _, p := range players {
			p.some()
		}
	}
	// goOver makes a core the target, by what names it, and plays until all games are with it.
	goOver := func(what, hash string) {
		t.Helper()
		set := make(chan error, 1)
		go func() {
			command := c.hypertoken("cluster", "core", "set", what, "--cluster", c.servers(), "--wait", "5m")
			out, err := command.CombinedOutput()
			if err != nil || !strings.Contains(string(out), hash+" is in force") {
				err = fmt.Errorf("core set: %w: %s", err, out)
			}
			set <- err
		}()
		for isSet := false; ; {
			all()
			select {
			case err := <-set:
				if isSet = true; err != nil {
					t.Fatal(err)
				}
			default:
			}
			with := 0
			for _, p := range players {
				var info struct{ Core string }
				if err := c.get(p.node, "/v1/engines/"+p.engine, &info); err == nil && info.Core == hash {
					with++
				}
			}
			if isSet && with == len(players) {
				return
			}
		}
	}
	goOver(file, newer)
	goOver(former, former)

	// A node whose own core is not the target runs the target all the same, and holds its own.
	fourth := c.startFourth(dir, []string{former, newer}, "--core", file)
	all()
	for _, p := range players {
		var info struct{ Core string }
		if err := c.get("a", "/v1/engines/"+p.engine, &info); err == nil && info.Core != former {
			t.Errorf("the game %s is with the core %s, and %s is in force", p.engine, info.Core, former)
		}
	}
	fourth.end()
	// One that may not run the target does not start.
	refused := c.hypertoken("serve", "--listen", "127.0.0.1:0", "--cluster", c.servers(), "--cluster-sync", "trusted",
		"--advertise", "127.0.0.1:0", "--cluster-secret-file", filepath.Join(dir, "secret"), "--core", file,
		"--core-sha256", newer)
	if out, err := refused.CombinedOutput(); err == nil || refused.ProcessState.ExitCode() != 1 ||
		!strings.Contains(string(out), "--core-sha256 does not allow the core "+former) {
		t.Errorf("a node that is not allowed the target: %v, %s", err, out)
	}
	// One that may not run what is announced holds it up, until it has ended.
	for {
		fourth = c.startFourth(dir, []string{former}, "--core-sha256", former)
		set := c.hypertoken("cluster", "core", "set", newer, "--cluster", c.servers(), "--wait", "1s")
		out, err := set.CombinedOutput()
		if err != nil {
			if set.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), fourth.address) {
				t.Errorf("a member that is not allowed the core: %v, %s", err, out)
			}
			break
		}
		// It is in force. That is right only if the member was declared dead, on a busy machine.
		select {
		case <-fourth.ended:
		case <-time.After(time.Minute):
			t.Fatalf("a core is in force that a member is not allowed: %s", out)
		}
		goOver(former, former)
	}
	all()
	fourth.end()
	goOver(newer, newer)
	for until := time.Now().Add(3 * time.Minute); ; all() {
		show := c.hypertoken("cluster", "core", "show", "--cluster", c.servers())
		out, err := show.CombinedOutput()
		if err == nil && strings.Count(string(out), " runs it\n") == 3 && strings.Contains(string(out),
			": the core "+newer+" is in force\n") {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("core show: %v, %s", err, out)
		}
	}
	for _, p := range players {
		p.check()
	}
	// Nothing writes to the directory any more when it is removed.
	c.tell("quit")
	<-c.read
	if err := c.command.Wait(); err != nil {
		t.Error(err)
	}
}
