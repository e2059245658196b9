package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clusterProcess is a NATS server or a node of a cluster. Its supervisor starts it again whenever it
// ends, until shut.
type clusterProcess struct {
	name    string
	command func() *exec.Cmd
	log     *os.File
	// mayExit are the exit statuses that are no fault of the process.
	mayExit []int

	mu       sync.Mutex // guards what follows
	running  *exec.Cmd
	isShut   bool
	restarts int
	unwanted []string // ends that nobody caused

	supervisor sync.WaitGroup
}

// startProcess starts a process and its supervisor.
func startProcess(t *testing.T, p *clusterProcess) {
	t.Helper()
	started := make(chan error)
	p.supervisor.Go(func() {
		for k := 0; ; k++ {
			p.mu.Lock()
			if p.isShut {
				p.mu.Unlock()
				return
			}
			c := p.command()
			c.Stdout, c.Stderr = p.log, p.log
			session(t, c)
			err := c.Start()
			p.running = c
			p.mu.Unlock()
			if k == 0 {
				started <- err
			}
			if err != nil {
				return
			}
			_ = c.Wait()
			p.noteEnd(c.ProcessState)
		}
	})
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

// noteEnd takes in how a process ended.
func (p *clusterProcess) noteEnd(s *os.ProcessState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restarts++
	if s.Sys().(syscall.WaitStatus).Signaled() && s.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return
	}
	for _, status := range p.mayExit {
		if s.ExitCode() == status {
			return
		}
	}
	p.unwanted = append(p.unwanted, s.String())
}

// signal sends a signal to the process that runs at the moment.
func (p *clusterProcess) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.running.Process.Signal(s) // it may have ended: then it starts again
}

// shut ends the process for good.
func (p *clusterProcess) shut(s syscall.Signal) {
	p.mu.Lock()
	p.isShut = true
	if p.running != nil && p.running.Process != nil {
		_ = p.running.Process.Signal(syscall.SIGCONT)
		_ = p.running.Process.Signal(s)
	}
	p.mu.Unlock()
	p.supervisor.Wait()
}

// clusterUnderTest are three NATS servers and three nodes on loopback.
type clusterUnderTest struct {
	servers, nodes []*clusterProcess
	natsURLs       []string
	urls           []string // of the nodes, for clients
	dir            string
}

// start starts the cluster. The caller stops it before its test ends, even if start has failed.
func (c *clusterUnderTest) start(t *testing.T) {
	t.Helper()
	const size = 3
	program, nats := build(t, "cmd/hypertoken"), buildNATS(t)
	dir := t.TempDir()
	c.dir = dir
	ports := freeClusterPorts(t, 4*size)
	client, route, listen, advertise := ports[:size], ports[size:2*size], ports[2*size:3*size], ports[3*size:]
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	logOf := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	var routes, servers []string
	for k := range size {
		routes = append(routes, fmt.Sprint("nats-route://127.0.0.1:", route[k]))
		servers = append(servers, fmt.Sprint("nats://127.0.0.1:", client[k]))
	}
	for k := range size {
		name := fmt.Sprint("nats", k)
		config := file(name+".conf", fmt.Sprintf("server_name: %s\nlisten: 127.0.0.1:%d\n"+
			"jetstream { store_dir: %q, sync_interval: always }\n"+
			"cluster { name: test, listen: 127.0.0.1:%d, routes: [ %s ] }\n",
			name, client[k], filepath.Join(dir, name), route[k], strings.Join(routes, ", ")))
		p := &clusterProcess{name: name, log: logOf(name), mayExit: []int{0, 1}, command: func() *exec.Cmd {
			return exec.Command(nats, "-c", config)
		}}
		c.servers = append(c.servers, p)
		startProcess(t, p)
	}
	c.natsURLs = servers
	secret := file("secret", "the secret of this test\n")
	for k := range size {
		name := fmt.Sprint("node", k)
		temporary := filepath.Join(dir, name)
		if err := os.Mkdir(temporary, 0o700); err != nil {
			t.Fatal(err)
		}
		// Status 3: the others have declared it dead. 1: the servers were not there when it started. 143: it was
		// terminated before it served.
		p := &clusterProcess{name: name, log: logOf(name), mayExit: []int{0, 1, 3, 143}, command: func() *exec.Cmd {
			return exec.Command(program, "serve", "--workers", "1", "--listen", fmt.Sprint("127.0.0.1:", listen[k]),
				"--cluster", strings.Join(servers, ","), "--cluster-sync", "trusted",
				"--advertise", fmt.Sprint("127.0.0.1:", advertise[k]), "--cluster-secret-file", secret,
				"--debug", "--rate", "0")
		}}
		c.nodes = append(c.nodes, p)
		c.urls = append(c.urls, fmt.Sprint("http://127.0.0.1:", listen[k]))
		startProcess(t, p)
	}
	c.untilReady(t, 2*time.Minute)
}

// stop ends all processes. If the test has failed, it copies what they wrote to the directory that the
// variable HYPERTOKEN_TEST_LOGS names.
func (c *clusterUnderTest) stop(t *testing.T) {
	for _, p := range c.nodes {
		p.shut(syscall.SIGTERM)
	}
	for _, p := range c.servers {
		p.shut(syscall.SIGKILL)
	}
	for _, p := range append(c.nodes, c.servers...) {
		for _, end := range p.unwanted {
			t.Errorf("%s ended: %s", p.name, end)
		}
	}
	if !t.Failed() {
		return
	}
	if keep := os.Getenv("HYPERTOKEN_TEST_LOGS"); keep != "" {
		if err := os.CopyFS(filepath.Join(keep, filepath.Base(t.Name())), os.DirFS(c.dir)); err != nil {
			t.Log(err)
		}
	}
}

// untilReady waits until each node says that it is ready.
func (c *clusterUnderTest) untilReady(t *testing.T, most time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	for k, url := range c.urls {
		for {
			why := readiness(ctx, url)
			if why == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s is not ready after %v: %v", c.nodes[k].name, most, why)
			}
			betweenLooks()
		}
	}
}

// readiness returns why a node is not ready, or nil.
func readiness(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	if w.StatusCode != http.StatusOK {
		return errors.New(w.Status)
	}
	return nil
}

// buildNATS returns the NATS server that the module journal/jetstream names.
func buildNATS(t *testing.T) string {
	t.Helper()
	path := filepath.Join(programs, "nats-server")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	c := exec.Command("go", "build", "-C", filepath.Join("..", "journal", "jetstream"), "-o", path,
		"github.com/nats-io/nats-server/v2")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// freeClusterPorts returns ports of loopback that nobody listens on at the moment. They are below the
// range that the system gives to connections, because each is used again after a process has died.
func freeClusterPorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for port := 20000 + os.Getpid()%10000; len(ports) < n; port++ {
		if port >= 32768 {
			port = 20000
		}
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		ports = append(ports, port)
	}
	return ports
}
