package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/journal/disk"
)

// movedGames is how many games are moved.
const movedGames = 200

// makeGames makes a directory with games that have actions, keys, batches and markers.
func makeGames(t *testing.T, dir string) {
	t.Helper()
	store, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	h, err := host.New(ctx, host.Options{InProcess: true, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	type card map[string]any
	setup := map[string]any{"stack": []card{{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"}, {"id": "e"}}}
	for k := range movedGames {
		e, err := h.Open(ctx, fmt.Sprintf("Game-%03d.x", k), host.EngineOptions{Setup: setup, Mode: host.OpenNew})
		must(err)
		for n := range k % 5 {
			_, err := e.Dispatch(ctx, "stack:shuffle", nil, host.Key(fmt.Sprint("key", n)))
			must(err)
		}
		if k%3 == 0 {
			batch := []host.Action{{Type: "stack:draw"}, {Type: "stack:draw"}}
			_, err := e.DispatchBatch(ctx, host.BatchAtomic, batch, host.Key("batch"))
			must(err)
		}
		if k%4 == 0 {
			_, err := e.Revert(ctx, 0)
			must(err)
		}
		must(e.Close(ctx))
	}
	must(h.Shutdown(ctx))
	must(store.Close())
}

// jsonlFiles returns the contents of a folder's files, by name.
func jsonlFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = string(b)
	}
	return files
}

// sameFiles fails the test unless two folders have the same files.
func sameFiles(t *testing.T, want, got map[string]string) {
	t.Helper()
	for name := range want {
		if want[name] != got[name] {
			t.Errorf("%s is\n%s\nwant\n%s", name, got[name], want[name])
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

// commandRunner runs 'hypertoken journal'.
type commandRunner struct {
	t       *testing.T
	program string
	env     []string
}

func (m commandRunner) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	c, out := exec.Command(m.program, append([]string{"journal"}, args...)...), &bytes.Buffer{}
	c.Env, c.Stdout, c.Stderr = m.env, out, os.Stderr
	return c, out
}

// killOnce starts a command and kills it once hasBegun returns true. On a busy machine, the command may
// end before that is seen.
func (m commandRunner) killOnce(hasBegun func() bool, args ...string) {
	m.t.Helper()
	c, out := m.command(args...)
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				m.t.Fatalf("%v: %v, %s", args, err, out)
			}
			m.t.Logf("%v has ended before it was killed", args)
			return
		case <-looks.C:
			if hasBegun() {
				_ = c.Process.Kill()
				<-ended
				return
			}
		}
	}
}

// finish runs a command until no game is missing, and returns how many games it found moved. On a busy
// machine, a node may be declared dead at any time.
func (m commandRunner) finish(done string, args ...string) (kept int) {
	m.t.Helper()
	for until := time.Now().Add(5 * time.Minute); ; {
		c, out := m.command(append(args, "--json")...)
		err := c.Run()
		said := map[string]int{}
		jsonErr := json.Unmarshal(out.Bytes(), &said)
		if err == nil && jsonErr == nil && said[done]+said["kept"] == movedGames && said["failed"] == 0 {
			return said["kept"]
		}
		if time.Now().After(until) {
			m.t.Fatalf("%v: %v, %v: %s", args, err, jsonErr, out)
		}
		m.t.Logf("%v: %v: %s", args, err, out)
	}
}

// keepAlive starts nodes again that have died, until stop is called.
func (c *devCluster) keepAlive() (stop func()) {
	isOver, ended := false, make(chan struct{})
	go func() {
		defer close(ended)
		c.mu.Lock()
		defer c.mu.Unlock()
		for told := map[string]int{}; !isOver && !c.isOver; c.changed.Wait() {
			for name, isReady := range c.ready {
				deaths := 0
				for _, line := range c.output {
					if strings.HasPrefix(line, name+" has ended") {
						deaths++
					}
				}
				if !isReady && told[name] < deaths {
					told[name] = deaths
					_, _ = io.WriteString(c.in, "restart "+name+"\n") // if it is gone, the test finds that
				}
			}
		}
	}()
	return func() {
		c.mu.Lock()
		isOver = true
		c.changed.Broadcast()
		c.mu.Unlock()
		<-ended
	}
}

// All games of a directory move to a cluster and back, and are the same afterwards, with their history.
// Each command is killed in the middle, and goes on where it was.
func TestGamesMoveToAClusterAndBack(t *testing.T) {
	cluster := startDevCluster(t, "--servers", "1", "--nodes", "2")
	defer cluster.keepAlive()()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	makeGames(t, in("games"))
	m := commandRunner{t, cluster.command.Path, cluster.command.Env}
	const some = movedGames / 4
	hasFiles := func(folder string) func() bool {
		return func() bool {
			list, _ := filepath.Glob(filepath.Join(in(folder), "*.jsonl"))
			return len(list) >= some
		}
	}
	exported := []string{"export", "--data", in("games"), "--all", "--from", "0", "--output", in("folder")}
	m.killOnce(hasFiles("folder"), exported...)
	if kept := m.finish("exported", exported...); kept < some {
		t.Errorf("%d games were exported before the command was killed, and %d were kept", some, kept)
	}
	want := jsonlFiles(t, in("folder"))
	if len(want) != movedGames {
		t.Fatalf("%d files", len(want))
	}

	imported := []string{"import", "--server", cluster.address["a"], "--all", in("folder")}
	m.killOnce(func() bool {
		var page struct{ Engines []struct{ Name string } }
		err := cluster.get("b", "/v1/engines?limit=1000", &page)
		return err == nil && len(page.Engines) >= some
	}, imported...)
	if kept := m.finish("imported", imported...); kept < some {
		t.Errorf("%d games were imported before the command was killed, and %d were kept", some, kept)
	}
	m.finish("exported", "export", "--server", cluster.address["b"], "--all", "--from", "0", "--output",
		in("from cluster"))
	sameFiles(t, want, jsonlFiles(t, in("from cluster")))
	forkAcross(t, cluster)

	back := []string{"import", "--data", in("back"), "--all", in("from cluster")}
	m.killOnce(func() bool { return hasFile(in("back")) }, back...)
	m.finish("imported", back...)
	m.finish("exported", "export", "--data", in("back"), "--all", "--from", "0", "--output", in("again"))
	sameFiles(t, want, jsonlFiles(t, in("again")))

	// A game that has another end is not taken for the one of the file.
	other := want["%47ame-004.x.jsonl"]
	if err := os.WriteFile(filepath.Join(in("from cluster"), "%47ame-001.x.jsonl"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	c, out := m.command(back...)
	c.Stderr = out
	if err := c.Run(); err == nil || !strings.Contains(out.String(), "another game of that name") {
		t.Errorf("%v: %s", err, out)
	}
}

// hasFile reports whether there is a directory that is not empty.
func hasFile(dir string) bool {
	list, err := os.ReadDir(dir)
	return err == nil && len(list) > 0
}

// forkAcross copies a game to names that belong to each of the nodes, and expects its digest everywhere.
func forkAcross(t *testing.T, c *devCluster) {
	t.Helper()
	type position struct{ Digest string }
	at, want := map[string]int{}, position{}
	looks := time.NewTicker(50 * time.Millisecond)
	defer looks.Stop()
	until := time.Now().Add(3 * time.Minute)
	for k := 0; at["a"] == 0 || at["b"] == 0; k++ {
		if time.Now().After(until) {
			t.Fatalf("of %d copies, the nodes have %v", k, at)
		}
		name := fmt.Sprint("copy", k)
		copied, there, err := position{}, position{}, c.get("a", "/v1/engines/Game-004.x/state", &want)
		if err == nil {
			err = c.fork("a", name, http.StatusOK)
		}
		if err == nil {
			err = errors.Join(c.get("a", "/v1/engines/"+name+"/state", &copied),
				c.get("b", "/v1/engines/"+name+"/state", &there))
		}
		if err == nil {
			err = c.fork("b", name, http.StatusConflict)
		}
		if err != nil {
			t.Logf("%s: %v", name, err) // a node has died: the next name tells
			<-looks.C
			continue
		}
		if copied != want || there != want {
			t.Errorf("%s: %+v at a, %+v at b, want %+v", name, copied, there, want)
		}
		for _, node := range []string{"a", "b"} {
			if c.has(node, name) {
				at[node]++
			}
		}
	}
}

// fork asks a node for a copy. It fails unless the node answers with a status.
func (c *devCluster) fork(node, name string, status int) error {
	c.mu.Lock()
	address := c.address[node]
	c.mu.Unlock()
	w, err := http.Post(address+"/v1/engines/Game-004.x/fork", "application/json",
		strings.NewReader(fmt.Sprintf(`{"name":%q}`, name)))
	if err != nil {
		return err
	}
	defer func() { _ = w.Body.Close() }()
	if w.StatusCode != status {
		body, _ := io.ReadAll(w.Body)
		return fmt.Errorf("%s: %s", w.Status, body)
	}
	return nil
}
