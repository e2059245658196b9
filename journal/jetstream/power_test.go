//go:build !windows

package jetstream

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
)

// All servers lose power, each at a moment of its own, under load. What was acknowledged before the
// first of them did is there when all of them start again. A server that is stopped has on its disk what
// it has written so far, and its copy is what a restart finds.
func TestAllServersLosePower(t *testing.T) {
	for round := range deep(2, 1) * *kills {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) { losePower(t, uint64(round)) })
	}
}

func losePower(t *testing.T, seed uint64) {
	c := startServers(t, deep(1, 3), nil)
	s := openStore(t, c.options(newName()))
	cl := client{t, s}
	var progress atomic.Int64
	var players []*player
	for k, name := range append(namesIn(6, false), "same1", "same2") {
		cl.must(cl.install(name, ownerOf(byte(k), 1), setup()))
		players = append(players, &player{c: cl, name: name, host: byte(k), owner: 1, unknown: map[int]bool{}})
	}
	ended := make(chan error, len(players))
	var isOver atomic.Bool
	for k, p := range players {
		go func() { ended <- p.play(&isOver, rand.New(rand.NewPCG(seed, uint64(k))), &progress) }()
	}
	waitForProgress(t, &progress, 60+40*int64(seed))
	known := make([]int, len(players))
	for k, p := range players {
		known[k] = int(p.known.Load())
	}
	signal := func(how syscall.Signal) {
		for _, server := range c.list {
			if err := server.cmd.Process.Signal(how); err != nil {
				t.Fatal(err)
			}
		}
	}
	awaitStopped := func() {
		for _, server := range c.list {
			var status syscall.WaitStatus
			_, err := syscall.Wait4(server.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
			if err != nil || !status.Stopped() {
				t.Fatalf("the server %s does not stop: %v, %v", server.name, status, err)
			}
		}
	}
	after := *c
	after.dir, after.list = t.TempDir(), nil
	signal(syscall.SIGSTOP)
	awaitStopped()
	for _, server := range c.list {
		disk := os.DirFS(filepath.Join(c.dir, server.name))
		if err := os.CopyFS(filepath.Join(after.dir, server.name), disk); err != nil {
			t.Fatal(err)
		}
		after.list = append(after.list, &serverProcess{name: server.name, client: server.client, route: server.route})
	}
	signal(syscall.SIGCONT) // so that the players come to their end
	isOver.Store(true)
	for range players {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	_ = s.Close()
	for _, server := range c.list {
		c.kill(server)
	}
	t.Cleanup(after.stop)
	if err := after.startAll(); err != nil {
		t.Fatal(err)
	}
	again := client{t, openStore(t, after.options(s.o.Name))}
	lost := 0
	for k, p := range players {
		stored, err := again.load(p.name, ownerOf(p.host, 1_000_000))
		again.must(err)
		if stored == nil {
			t.Fatalf("the engine %s is gone", p.name)
		}
		got := numbersOf(t, stored.Entries)
		for _, n := range p.acknowledged[:known[k]] {
			if !slices.Contains(got, n) {
				lost++
			}
		}
		for j := 1; j < len(got); j++ {
			if got[j] <= got[j-1] {
				t.Errorf("%s: the action %d follows %d", p.name, got[j], got[j-1])
			}
		}
		again.must(again.append(p.name, ownerOf(p.host, 1_000_000), stored.Sequence+stored.Count, action(1<<20)))
		checkChain(t, again.s, p.name)
	}
	if lost > 0 {
		t.Errorf("%d acknowledged actions are lost", lost)
	}
}
