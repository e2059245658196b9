package jetstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// serverVariable has the configuration file of a NATS server. A process of this test binary that has
// it runs the server and no test.
const serverVariable = "HYPERTOKEN_TEST_NATS"

func TestMain(m *testing.M) {
	if file := os.Getenv(serverVariable); file != "" {
		runServer(file)
		return
	}
	code := m.Run()
	sharedServers.stop()
	os.Exit(code)
}

// runServer runs a NATS server until its standard input ends, which it does when the test's process
// does.
func runServer(file string) {
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	o.NoSigs = true
	s, err := server.NewServer(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if log := os.Getenv("HYPERTOKEN_TEST_NATS_LOG"); log != "" {
		o.LogFile, o.NoLog, o.Debug = log+"."+o.ServerName, false, false
		s.ConfigureLogger()
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		fmt.Fprintln(os.Stderr, "the server does not listen")
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
}

// servers are NATS servers in processes of their own.
type servers struct {
	dir     string
	list    []*serverProcess
	sync    string // sync_interval
	payload int
}

type serverProcess struct {
	name          string
	client, route int // ports
	cmd           *exec.Cmd
	stdin         io.Closer
}

// newServers describes servers and starts none.
func newServers(dir string, n int) (*servers, error) {
	c := &servers{dir: dir, sync: "always", payload: 1 << 20}
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	for k := range n {
		c.list = append(c.list, &serverProcess{name: fmt.Sprint("n", k), client: ports[2*k], route: ports[2*k+1]})
	}
	return c, nil
}

// startServers starts servers that end with the test.
func startServers(t testing.TB, n int, change func(*servers)) *servers {
	t.Helper()
	c, err := newServers(t.TempDir(), n)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(c)
	}
	t.Cleanup(c.stop)
	if err := c.startAll(); err != nil {
		t.Fatal(err)
	}
	return c
}

// freePorts returns ports of the loopback interface that nobody listens on at the moment.
func freePorts(n int) (ports []int, err error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (c *servers) startAll() error {
	var errs []error
	ended := make(chan error)
	for _, s := range c.list {
		go func() { ended <- c.start(s) }()
	}
	for range c.list {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// start starts a server and waits until it listens.
func (c *servers) start(s *serverProcess) error {
	file := filepath.Join(c.dir, s.name+".conf")
	if err := os.WriteFile(file, []byte(c.config(s)), 0o600); err != nil {
		return err
	}
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), serverVariable+"="+file, "GOMAXPROCS=2")
	s.cmd.Stderr = os.Stderr
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.stdin = stdin
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "ready\n" {
		return fmt.Errorf("the server %s says %q, %w", s.name, line, err)
	}
	return nil
}

func (c *servers) config(s *serverProcess) string {
	text := fmt.Sprintf(`
server_name: %s
listen: 127.0.0.1:%d
max_payload: %d
jetstream { store_dir: %q, sync_interval: %s, max_file_store: 10GB }
accounts {
  APP: { jetstream: enabled, users: [
    { user: app, password: app }
    { user: reader, password: reader, permissions: { publish: [ "$JS.API.>", "_INBOX.>" ] } }
    { user: writer, password: writer, permissions: { publish: { deny: [ "$JS.API.STREAM.PURGE.>" ] } } }
  ] }
  SYS: { users: [ { user: system, password: system } ] }
}
system_account: SYS
`, s.name, s.client, c.payload, filepath.Join(c.dir, s.name), c.sync)
	if len(c.list) == 1 {
		return text
	}
	var routes []string
	for _, other := range c.list {
		routes = append(routes, fmt.Sprintf("nats-route://127.0.0.1:%d", other.route))
	}
	return text + fmt.Sprintf("cluster { name: test, listen: 127.0.0.1:%d, routes: [ %s ] }\n", s.route,
		strings.Join(routes, ", "))
}

// kill ends a server by SIGKILL and waits for its end.
func (c *servers) kill(s *serverProcess) {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (c *servers) stop() {
	if c == nil {
		return
	}
	for _, s := range c.list {
		c.kill(s)
	}
	if c == sharedServers {
		_ = os.RemoveAll(c.dir)
	}
}

// options are those of a store on the servers. They do sync always; the test of that asks them.
func (c *servers) options(name string) Options {
	o := Options{
		Connect: []nats.Option{nats.UserInfo("app", "app")}, System: []nats.Option{nats.UserInfo("system", "system")},
		Name: name, Replicas: len(c.list), Sync: SyncTrusted,
	}
	for _, s := range c.list {
		o.Servers = append(o.Servers, fmt.Sprintf("nats://127.0.0.1:%d", s.client))
	}
	return o
}

// openStore opens a store, and closes it when the test ends.
func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// dropStreams removes the streams of a store.
func dropStreams(t testing.TB, s *Store) {
	js, err := jetstream.New(s.conn.nc)
	if err != nil {
		t.Fatal(err)
	}
	for p := range s.o.Streams {
		for _, name := range []string{s.layout.journalStream(p), s.layout.pieceStream(p)} {
			if err := js.DeleteStream(context.Background(), name); err != nil {
				t.Logf("removing the stream %s: %v", name, err)
			}
		}
	}
}

// sharedServers are for tests that do not hurt them.
var sharedServers *servers

// shared returns servers that several tests use, one after the other: one, or three in the deep form.
func shared(t testing.TB) *servers {
	t.Helper()
	if sharedServers == nil {
		dir, err := os.MkdirTemp("", "hypertoken-jetstream-test-")
		if err != nil {
			t.Fatal(err)
		}
		if sharedServers, err = newServers(dir, deep(1, 3)); err != nil {
			t.Fatal(err)
		}
		if err := sharedServers.startAll(); err != nil {
			t.Fatal(err)
		}
	}
	return sharedServers
}

// deep returns the first number, or the second one if HYPERTOKEN_DEEP is set.
func deep(short, long int) int {
	if os.Getenv("HYPERTOKEN_DEEP") != "" {
		return long
	}
	return short
}
