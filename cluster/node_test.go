package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"hypertoken/host"
)

// nodeVariable has the NATS servers. A process of this test binary that has it is a node, and runs
// no test.
const nodeVariable = "HYPERTOKEN_TEST_CLUSTER_NODE"

// runNode is a node until its standard input ends. It writes names of engines that it has.
func runNode(servers string) {
	ctx := context.Background()
	h, err := Join(ctx, options(servers))
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	fmt.Println("joined")
	in := bufio.NewScanner(os.Stdin)
	for n := 0; in.Scan(); n++ {
		for ; ; n++ {
			name := fmt.Sprintf("%s-%d", in.Text(), n)
			if _, err := h.Open(ctx, name, host.EngineOptions{Setup: setup, Mode: host.OpenNew}); err != nil {
				fmt.Println("failed", err)
				os.Exit(1)
			}
			if h.present().Get(name) != nil {
				fmt.Println(name)
				break
			}
		}
	}
	if err := h.Shutdown(ctx); err != nil {
		fmt.Println("failed", err)
	}
}

// process is a node that is a process of its own.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startNode starts a node in a process of its own, which ends with the test.
func startNode(t *testing.T, servers string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), nodeVariable+"="+servers), os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	if line := p.read(); line != "joined" {
		t.Fatal(line)
	}
	return p
}

// read returns the next line of the process.
func (p *process) read() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatal("the node has ended: ", p.out.Err())
	}
	return p.out.Text()
}

// engine has the node make an engine, and returns its name.
func (p *process) engine() string {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, strings.ReplaceAll(p.t.Name(), "/", "-")); err != nil {
		p.t.Fatal(err)
	}
	return p.read()
}

// A node that has an engine dies while another one calls it, with one call at a time and with many
// that do not wait: no call fails, each has run once, and in its order.
func TestTheDeathOfANodeIsInvisible(t *testing.T) {
	servers := startServer(t)
	node := startNode(t, servers)
	h := join(t, servers, nil)
	name := node.engine()
	e, err := h.Open(t.Context(), name, host.EngineOptions{Mode: host.OpenExisting})
	if err != nil {
		t.Fatal(err)
	}
	const before, after = 20, 20
	count := func(k int) map[string]any { return map[string]any{"state": map[string]any{"n": k}} }
	var futures []*host.Future
	for k := range before + after {
		if k == before {
			if h.present().Get(name) != nil {
				t.Fatal("the engine was here before its node died")
			}
			if err := node.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		r, err := e.Dispatch(t.Context(), "game:mergeState", count(2*k))
		if err != nil || r.Sequence != uint64(2*k+1) {
			t.Fatalf("call %d: sequence %d, %v", k, r.Sequence, err)
		}
		f := e.DispatchAsync(t.Context(), "game:mergeState", count(2*k+1))
		futures = append(futures, f)
	}
	results, err := host.All(t.Context(), futures...)
	if err != nil {
		t.Fatal(err)
	}
	for k, r := range results {
		if r.Sequence != uint64(2*k+2) {
			t.Errorf("the call %d without waiting has the sequence %d", k, r.Sequence)
		}
	}
	n := uint64(0)
	for entry, err := range e.History(t.Context(), 1, 0) {
		if n++; err != nil || entry.Sequence != n {
			t.Fatal(n, entry.Sequence, err)
		}
	}
	if n != 2*(before+after) || h.present().Get(name) == nil {
		t.Errorf("%d actions, and the engine is here: %t", n, h.present().Get(name) != nil)
	}
}

// A host that is shut down gives its engines to another node, while that one calls them.
func TestShutdownGivesEnginesAway(t *testing.T) {
	a, b := pair(t)
	name := nameAt(t, a, setup)
	e, err := b.Open(t.Context(), name, host.EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	begun := make(chan struct{})
	stop := make(chan struct{})
	calls := 0
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			r, err := e.Dispatch(context.Background(), "game:mergeState",
				map[string]any{"state": map[string]any{"n": calls}})
			if calls++; err != nil || r.Sequence != uint64(calls) {
				done <- fmt.Errorf("call %d: sequence %d, %w", calls, r.Sequence, err)
				return
			}
			if calls == 5 {
				close(begun)
			}
		}
	}()
	select {
	case <-begun:
	case err := <-done:
		t.Fatal(err)
	}
	if err := a.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if p, err := e.Position(t.Context()); err != nil || p.Sequence != uint64(calls) || b.present().Get(name) == nil {
		t.Errorf("after %d calls: %+v, %v", calls, p, err)
	}
}
