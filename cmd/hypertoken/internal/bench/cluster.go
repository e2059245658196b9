package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"hypertoken/cmd/hypertoken/internal/clusterdev"
	"hypertoken/internal/storeload"
)

// clusterSize is how many NATS servers a cluster has, and how many nodes.
const clusterSize = 3

// testCluster is a cluster on this machine: NATS servers that sync each write, and nodes. Each is a process
// of this program.
type testCluster struct {
	*clusterdev.Cluster
	client *http.Client
}

// cluster returns the cluster that the probes of the group share. No node runs at first.
func (r *room) cluster(ctx context.Context) (*testCluster, error) {
	if r.nodes != nil {
		return r.nodes, nil
	}
	if r.config.Program == "" {
		return nil, unavailable{"the program whose nodes are measured is not named"}
	}
	if runtime.GOOS == "windows" {
		return nil, unavailable{"nothing asks a node to end there"}
	}
	if r.config.Core != nil {
		return nil, unavailable{"another program can't have this core"}
	}
	parent, err := r.dir()
	if err != nil {
		return nil, err
	}
	flags := []string{"--rate", "0", "--max-connections", "100000", "--max-connections-per-address", "100000"}
	if r.config.CorePath != "" {
		flags = append(flags, "--core", r.config.CorePath)
	}
	started, err := clusterdev.Start(ctx, clusterdev.Options{Dir: filepath.Join(parent, "cluster"),
		Servers: clusterSize, Nodes: clusterSize, Absent: clusterSize, Workers: 1, NodeFlags: flags, Out: io.Discard})
	if err != nil {
		return nil, fmt.Errorf("the cluster can't be started: %w", err)
	}
	c := &testCluster{started, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: stoppedEngines}}}
	r.closing(func() {
		c.client.CloseIdleConnections()
		c.Close()
	})
	r.nodes = c
	return c, nil
}

// urls returns the addresses of the servers.
func (c *testCluster) urls() (list []string) {
	for _, name := range c.Servers() {
		list = append(list, c.Address(name))
	}
	return list
}

// lookAgain is the pause between two looks at a process, and patience is for how long something is
// waited for that has to come.
const (
	lookAgain = 10 * time.Millisecond
	patience  = 2 * time.Minute
)

// startNodes starts those nodes that do not run, and waits until each of them is ready and knows all the
// others. On a busy machine a node may be declared dead at any time, and ends then.
func (c *testCluster) startNodes(ctx context.Context) error {
	for until := time.Now().Add(patience); ; {
		missing := ""
		for _, name := range c.Nodes() {
			if c.PID(name) == 0 {
				if err := c.Run(name); err != nil {
					return err
				}
			}
			if !c.IsReady(name) {
				missing = name + " does not listen"
			} else if n, err := c.members(ctx, name); err != nil || n != clusterSize {
				missing = fmt.Sprintf("%s knows %d nodes (%v)", name, n, err)
			}
		}
		if missing == "" {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("the nodes are not ready within %v: %s", patience, missing)
		}
		if err := sleep(ctx, lookAgain); err != nil {
			return err
		}
	}
}

// stopNodes ends all nodes in order.
func (c *testCluster) stopNodes() {
	var ending sync.WaitGroup
	for _, name := range c.Nodes() {
		ending.Go(func() { _ = c.Shut(name, patience) })
	}
	ending.Wait()
}

// clusterView is what this package reads of GET /v1/cluster.
type clusterView struct {
	Self    string
	Lease   bool
	Members []struct {
		Address  string
		Draining bool
	}
	AskedAt time.Time `json:"asked_at"`
	Owners  []struct {
		Slot    int
		Address string
	} `json:"slot_owners"`
}

// members returns how many nodes a node knows, itself included, that live and do not end. It is 0 as long
// as the node has no lease.
func (c *testCluster) members(ctx context.Context, node string) (n int, err error) {
	var v clusterView
	if err := c.get(ctx, node, "/v1/cluster", &v); err != nil || !v.Lease {
		return 0, err
	}
	for _, m := range v.Members {
		if !m.Draining {
			n++
		}
	}
	return n, nil
}

// slotsOf returns which slots a node has now. The servers are asked again for that.
func (c *testCluster) slotsOf(ctx context.Context, node string) (map[int]bool, error) {
	for began := time.Now(); ; {
		var v clusterView
		if err := c.get(ctx, node, "/v1/cluster?slots=1", &v); err != nil {
			return nil, err
		}
		if v.AskedAt.After(began) {
			slots := map[int]bool{}
			for _, o := range v.Owners {
				if o.Address == v.Self {
					slots[o.Slot] = true
				}
			}
			return slots, nil
		}
		if err := sleep(ctx, 10*lookAgain); err != nil {
			return nil, err
		}
	}
}

// openAt returns the names of the engines that are open at a node: the first 256.
func (c *testCluster) openAt(ctx context.Context, node string) (map[string]bool, error) {
	var status struct{ Engines []struct{ Name string } }
	err := c.get(ctx, node, "/v1/status", &status)
	names := map[string]bool{}
	for _, e := range status.Engines {
		names[e.Name] = true
	}
	return names, err
}

// get reads an answer of a node.
func (c *testCluster) get(ctx context.Context, node, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Address(node)+path, nil)
	if err != nil {
		return err
	}
	a, err := c.client.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }()
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, a.Status)
	}
	return json.NewDecoder(a.Body).Decode(answer)
}

// clusterGame is an engine of a cluster, and its only caller.
type clusterGame struct {
	name   string
	played int
}

// newGames returns games that are not stored yet.
func (r *room) newGames(n int) []*clusterGame {
	list := make([]*clusterGame, n)
	for k := range list {
		r.engines++
		list[k] = &clusterGame{name: fmt.Sprint("bench-", r.engines)}
	}
	return list
}

// line returns the line of the game's next action.
func (g *clusterGame) line() []byte {
	return fmt.Appendf(nil, `{"type":%q,"key":"k%d"}`, storeload.Next(g.played), g.played)
}

// setupLine is the line that begins a game.
var setupLine = sync.OnceValue(func() []byte {
	b, err := json.Marshal(map[string]any{"setup": storeload.Setup()})
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
})

// errUnreached says that a node took no connection, so nothing was sent.
var errUnreached = errors.New("the node was not reached")

// lineError is the answer to a line that failed.
type lineError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *lineError) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// passes reports whether a line may be sent again with its key after an error, as docs/clients.md says.
func passes(err error) bool {
	var told *lineError
	return !errors.As(err, &told) ||
		slices.Contains([]string{"outcome_unknown", "shutdown", "timeout", "moved", "unavailable"}, told.Code)
}

// send sends a line to a node as a request of its own, and waits for the answer. isLeaving says that the
// node asks for another connection, because it ends soon.
func (c *testCluster) send(ctx context.Context, node, engine string, line []byte) (isLeaving bool, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Address(node)+"/v1/engines/"+engine,
		bytes.NewReader(line))
	if err != nil {
		return false, err
	}
	a, err := c.client.Do(q)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return false, fmt.Errorf("%w: %w", errUnreached, err)
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", engine, a.Status, b)
	}
	if err != nil {
		return a.Close, err
	}
	// A second line says that the node is ending.
	first, _, _ := bytes.Cut(b, []byte("\n"))
	var told struct{ Error *lineError }
	if err := json.Unmarshal(first, &told); err != nil {
		return a.Close, fmt.Errorf("%s answered %q: %w", engine, b, err)
	}
	if told.Error != nil {
		return a.Close, told.Error
	}
	return a.Close, nil
}

// sendUntilAnswered sends a line to one node after the other until it is answered.
func (c *testCluster) sendUntilAnswered(ctx context.Context, nodes []string, engine string, line []byte) error {
	for until, k := time.Now().Add(patience), 0; ; k++ {
		_, err := c.send(ctx, nodes[k%len(nodes)], engine, line)
		if err == nil || !passes(err) || time.Now().After(until) {
			return err
		}
		if err := sleep(ctx, lookAgain); err != nil {
			return err
		}
	}
}

// begin begins a game.
func (c *testCluster) begin(ctx context.Context, g *clusterGame, nodes []string) error {
	err := c.sendUntilAnswered(ctx, nodes, g.name, setupLine())
	var told *lineError
	if errors.As(err, &told) && told.Code == "exists" { // the answer to an earlier try was lost
		err = nil
	}
	return err
}

// play plays the next action of a game.
func (c *testCluster) play(ctx context.Context, g *clusterGame, nodes []string) error {
	err := c.sendUntilAnswered(ctx, nodes, g.name, g.line())
	g.played++
	return err
}

// helpers is how many goroutines make calls that are not measured.
const helpers = 64

// forEach calls f for each element, from several goroutines at once, and returns the first error.
func forEach[T any](list []T, f func(T) error) error {
	failed := make([]error, min(helpers, len(list)))
	var calling sync.WaitGroup
	for k := range failed {
		calling.Go(func() {
			for n := k; n < len(list) && failed[k] == nil; n += len(failed) {
				failed[k] = f(list[n])
			}
		})
	}
	calling.Wait()
	return firstOf(failed)
}

// firstOf returns the first error. Those of many callers have the same cause most often.
func firstOf(failed []error) error {
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// rotated returns a list that begins with its element k, and ends with the one before that.
func rotated[T any](list []T, k int) []T {
	k %= len(list)
	return slices.Concat(list[k:], list[:k])
}
