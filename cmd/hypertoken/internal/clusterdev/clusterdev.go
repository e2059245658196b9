// Package clusterdev runs a whole cluster on one machine: NATS servers and nodes, each in a process of
// its own. It is for trying a cluster, and for tests. Nothing has to be installed: all processes
// are this program.
package clusterdev

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Options configure [Start].
type Options struct {
	// Dir is where all files are: configurations, logs, and the data of the servers. It is made if it
	// does not exist, and stays. If it is "", a temporary directory is made, and Close removes it.
	Dir string
	// Servers is how many NATS servers there are: 1 or 3.
	Servers int
	// Nodes is how many nodes there are, 1 to MaxNodes. The last Absent of them are not started: a
	// restart starts them.
	Nodes, Absent int
	// FirstPort is the first of Ports() ports in a row; 0 for free ones.
	FirstPort int
	// Workers is how many worker processes each node has.
	Workers int
	// Links lets the processes reach each other through this one only, so that the ways between them can be
	// cut: see [Cluster.Cut].
	Links bool
	// SmallDisk puts the data of the last server on a disk of its own, in memory, which can be full: see
	// [Cluster.FillDisk]. It needs what [CanFill] needs.
	SmallDisk bool
	// NodeFlags are further flags of 'hypertoken serve' for all nodes.
	NodeFlags []string
	// Out gets a line for each thing that happens to a process.
	Out io.Writer
	// Ended, if it is not nil, is called when a process has ended. It must not wait for anything.
	Ended func(End)
}

// MaxNodes is the most nodes of a cluster here: they have the letters as names.
const MaxNodes = 26

// The ports of a process: for clients, and for the others of its kind.
const portsPerProcess = 2

// Ports returns how many ports the processes listen on.
func (o *Options) Ports() int { return portsPerProcess * (o.Servers + o.Nodes) }

// check fails if an option is out of bounds.
func (o *Options) check() error {
	const lastPort = 65535
	switch {
	case o.Servers != 1 && o.Servers != 3:
		return fmt.Errorf("--servers is %d, want 1 or 3", o.Servers)
	case o.Nodes < 1 || o.Nodes > MaxNodes:
		return fmt.Errorf("--nodes is %d, want 1 to %d", o.Nodes, MaxNodes)
	case o.Workers < 1:
		return fmt.Errorf("--workers is %d, want 1 or more", o.Workers)
	case o.FirstPort < 0 || o.FirstPort > 0 && (o.FirstPort < 1024 || o.FirstPort+o.Ports()-1 > lastPort):
		return fmt.Errorf("--listen-from is %d, want 1024 to %d, because %d ports in a row are needed", o.FirstPort,
			lastPort-o.Ports()+1, o.Ports())
	}
	return nil
}

// OptionError is an option that can't be used.
type OptionError struct{ error }

func (e OptionError) Unwrap() error { return e.error }

// Cluster is a cluster on this machine.
type Cluster struct {
	o           Options
	dir         string
	isTemporary bool
	unlock      func()
	guard       *guard
	servers     []*process
	nodes       []*process
	links       *links
	disk        string // where the disk of a server is mounted, "" if there is none

	writing sync.Mutex // guards o.Out
}

// Start starts a cluster, and waits until all its nodes listen. The caller closes it.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.check(); err != nil {
		return nil, OptionError{err}
	}
	ports, err := choosePorts(o.FirstPort, o.Ports())
	if err != nil {
		return nil, OptionError{err}
	}
	c := &Cluster{o: o, unlock: func() {}, links: newLinks()}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	var doors []int
	if o.Links {
		doors, err = chooseDoors(o.doors())
	}
	if err == nil {
		err = c.describe(ports, doors)
	}
	if err == nil {
		err = c.mountAll()
	}
	if err == nil {
		c.guard, err = startGuard(c.disk, c.temporary())
	}
	if err == nil {
		err = c.startAll(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	c.say("all are ready: open %s in a browser; 'help' lists what can be done to them, 'quit' ends them",
		c.nodes[0].address)
	return c, nil
}

// makeDir makes the directory, and makes sure that no other cluster has it.
func (c *Cluster) makeDir() (err error) {
	if c.o.Dir == "" {
		c.isTemporary = true
		c.dir, err = os.MkdirTemp("", "hypertoken-cluster-")
		return err
	}
	if c.dir, err = filepath.Abs(c.o.Dir); err != nil {
		return OptionError{fmt.Errorf("--dir: %w", err)}
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return OptionError{fmt.Errorf("--dir: %w", err)}
	}
	if c.unlock, err = lock(filepath.Join(c.dir, "lock")); err != nil {
		c.unlock = func() {}
		return OptionError{fmt.Errorf("--dir: another 'hypertoken cluster dev' has %s: end it, or name another "+
			"directory (%w)", c.dir, err)}
	}
	// Servers that were together know each other by number.
	for _, had := range []int{3, 1} {
		if _, err := os.Stat(filepath.Join(c.dir, serverName(had-1))); err != nil {
			continue
		}
		if had != c.o.Servers {
			c.unlock()
			return OptionError{fmt.Errorf("--dir: %s has the data of %d servers: use --servers %d, or name another "+
				"directory", c.dir, had, had)}
		}
		break
	}
	return nil
}

// temporary returns the directory that is removed at the end, or "".
func (c *Cluster) temporary() string {
	if c.isTemporary {
		return c.dir
	}
	return ""
}

func serverName(k int) string { return fmt.Sprint("n", k+1) }

func nodeName(k int) string { return string(rune('a' + k)) }

func loopback(port int) string { return fmt.Sprint("127.0.0.1:", port) }

// describe makes the processes, and writes the files that they read.
func (c *Cluster) describe(ports, doors []int) error {
	secret := filepath.Join(c.dir, "secret")
	if err := os.WriteFile(secret, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	// Each process has an address for clients, and one for the others of its kind.
	forClients, forOthers := map[*process]string{}, map[*process]string{}
	add := func(name, role string) *process {
		p := &process{cluster: c, name: name, role: role, log: filepath.Join(c.dir, name+".log")}
		forClients[p], forOthers[p] = loopback(ports[0]), loopback(ports[1])
		ports = ports[portsPerProcess:]
		return p
	}
	for k := range c.o.Nodes {
		c.nodes = append(c.nodes, add(nodeName(k), roleNode))
	}
	for k := range c.o.Servers {
		c.servers = append(c.servers, add(serverName(k), roleServer))
	}
	// way returns the address at which one process reaches another one: with links, that of a door.
	way := func(from, to *process, address string) string {
		if !c.o.Links {
			return address
		}
		public := loopback(doors[0])
		doors = doors[1:]
		to.doors = append(to.doors, &door{links: c.links, link: link{from.name, to.name}, public: public,
			private: address})
		return public
	}
	for _, p := range c.servers {
		var routes []string
		for _, other := range c.servers {
			if other != p {
				routes = append(routes, fmt.Sprintf("%q", "nats-route://"+way(p, other, forOthers[other])))
			}
		}
		file := filepath.Join(c.dir, p.name+".conf")
		config := c.serverConfig(p, forClients[p], forOthers[p], routes)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return err
		}
		p.address, p.args = "nats://"+forClients[p], []string{"cluster", "nats-server", file}
	}
	for _, p := range c.nodes {
		var urls []string
		for _, server := range c.servers {
			urls = append(urls, "nats://"+way(p, server, forClients[server]))
		}
		for _, other := range c.nodes {
			if other != p && c.o.Links {
				p.ways = append(p.ways, forOthers[other], way(p, other, forOthers[other]))
			}
		}
		p.address = "http://" + forClients[p]
		p.args = append([]string{"serve", "--demo", "--listen", forClients[p], "--workers", fmt.Sprint(c.o.Workers),
			"--cluster", strings.Join(urls, ","), "--cluster-replicas", fmt.Sprint(c.o.Servers),
			"--cluster-sync", "trusted",
			"--advertise", forOthers[p], "--advertise-client", p.address,
			"--cluster-secret-file", secret}, c.o.NodeFlags...)
	}
	return nil
}

// dataDir returns where a server has its data.
func (c *Cluster) dataDir(p *process) string { return filepath.Join(c.dir, p.name) }

// serverConfig returns the configuration of a NATS server.
func (c *Cluster) serverConfig(p *process, forClients, forOthers string, routes []string) string {
	config := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream { store_dir: %q, sync_interval: always }\n", p.name,
		forClients, c.dataDir(p))
	if c.o.Servers == 1 {
		return config
	}
	gossip := ""
	if c.o.Links {
		// Servers tell each other and their clients where servers listen. Nobody is to go there past the
		// doors, so what they tell others is a port at which nobody listens.
		gossip = `no_advertise: true, advertise: "127.0.0.1:1", `
	}
	return config + fmt.Sprintf("cluster { name: dev, listen: %q, %sroutes: [ %s ] }\n", forOthers, gossip,
		strings.Join(routes, ", "))
}

func (c *Cluster) all() []*process { return append(append([]*process(nil), c.servers...), c.nodes...) }

// startAll starts the servers, waits until they have a leader, and starts the nodes.
func (c *Cluster) startAll(ctx context.Context) error {
	c.say("starting %d NATS servers and %d nodes in %s", len(c.servers), len(c.nodes), c.dir)
	for _, list := range [][]*process{c.servers, c.nodes[:c.o.Nodes-c.o.Absent]} {
		for _, p := range list {
			if err := p.start(); err != nil {
				return err
			}
		}
		for _, p := range list {
			if err := p.waitReady(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// say writes a line.
func (c *Cluster) say(format string, args ...any) {
	c.writing.Lock()
	defer c.writing.Unlock()
	// If nobody reads it any more, standard input ends soon, too.
	_, _ = fmt.Fprintf(c.o.Out, format+"\n", args...)
}

// The times that processes have to end at SIGTERM before they are killed. When all of them end, a
// node may have lost its servers before, and would wait for them.
const (
	restartPatience = 15 * time.Second
	closePatience   = 5 * time.Second
)

// Close ends all processes, and removes the directory if it is a temporary one. When it returns,
// nothing is left.
func (c *Cluster) Close() {
	for _, list := range [][]*process{c.nodes, c.servers} {
		var ending sync.WaitGroup
		for _, p := range list {
			ending.Go(func() { p.close(closePatience) })
		}
		ending.Wait()
	}
	c.unmountAll()
	if c.isTemporary {
		_ = os.RemoveAll(c.dir) // the guard tries again
	}
	if c.guard != nil {
		c.guard.close()
	}
	c.unlock()
}

// find returns the process of a name.
func (c *Cluster) find(name string) (*process, error) {
	var names []string
	for _, p := range c.all() {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return nil, fmt.Errorf("%q is no server and no node: want one of %s", name, strings.Join(names, ", "))
}
