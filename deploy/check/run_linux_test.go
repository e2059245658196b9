package check

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypertoken/internal/require"
)

// trial is what starts a cluster: the commands of three servers and of nodes. They run on addresses of
// loopback that nobody else has, at the ports that they have anyway.
type trial struct {
	conf    string // the configuration of the servers
	config  string // where they look for it
	servers [][]string
	env     []string // of each server
	nodes   [][]string
	// hosts returns what the addresses of the servers and of a node stand for in commands and in the
	// configuration.
	hosts   func(servers []string, node string) []string
	secrets map[string]string // where nodes look for what deploy/secrets makes: its file
}

// The nodes of a cluster that is tried. One of them has to ask the other.
const triedNodes = 2

func kubernetesTrial(t *testing.T) trial {
	m := readManifests(t)
	all := m.workloads()
	nats, node := all[0].container(t), all[1].container(t)
	tr := trial{conf: kubernetesConf, config: "/etc/nats/nats.conf", secrets: map[string]string{}, hosts: namedHosts}
	for file, source := range m.mounted(t, &all[1]) {
		tr.secrets[file] = filepath.Base(source)
	}
	for k := range 3 {
		tr.servers = append(tr.servers, slices.Concat(nats.Command[1:], nats.Args))
		tr.env = append(tr.env, fmt.Sprint("SERVER_NAME=nats-", k))
	}
	for range triedNodes {
		tr.nodes = append(tr.nodes, node.Args)
	}
	return tr
}

// namedHosts are those of Kubernetes and of Compose.
func namedHosts(servers []string, node string) []string {
	pairs := []string{"--listen=:", "--listen=" + node + ":", "$(POD_IP)", node}
	for k, ip := range servers {
		pairs = append(pairs, fmt.Sprintf("nats-%d.nats", k), ip)
	}
	for _, name := range []string{"node-a", "node-b"} {
		pairs = append(pairs, "--advertise="+name, "--advertise="+node)
	}
	return pairs
}

func composeTrial(t *testing.T) trial {
	p := readCompose(t)
	tr := trial{conf: filepath.Join(composeDir, p.Configs["nats"].File), config: "/etc/nats/nats.conf",
		hosts: namedHosts, secrets: map[string]string{}}
	for name, s := range p.Secrets {
		tr.secrets["/run/secrets/"+name] = filepath.Base(s.File)
	}
	for _, s := range ofKind(t, p, "nats-") {
		tr.servers = append(tr.servers, s.Command)
		tr.env = append(tr.env, "SERVER_NAME="+*s.Environment["SERVER_NAME"])
	}
	for _, s := range ofKind(t, p, "node-")[:triedNodes] {
		tr.nodes = append(tr.nodes, nodeArgs(s))
	}
	return tr
}

// execStart returns the last command of a unit, after the program.
func execStart(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "systemd", file))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "\\\n", " ")
	_, command, _ := strings.Cut(text[strings.LastIndex(text, "\nExecStart="):], "=")
	command, _, _ = strings.Cut(command, "\n")
	return strings.Fields(command)[1:]
}

func systemdTrial(t *testing.T) trial {
	tr := trial{conf: systemdConf, config: "/etc/nats/nats.conf", secrets: map[string]string{}}
	b, err := os.ReadFile("../systemd/cluster.env")
	if err != nil {
		t.Fatal(err)
	}
	var variables []string
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			variables = append(variables, "${"+name+"}", value)
		}
	}
	expand := func(command []string, r *strings.Replacer) (all []string) {
		for _, a := range command {
			all = append(all, r.Replace(a))
		}
		return all
	}
	for k := range 3 {
		host := strings.NewReplacer("%H", fmt.Sprint("n", k+1))
		tr.servers = append(tr.servers, expand(execStart(t, "nats-server.service"), host))
		tr.env = append(tr.env, "")
	}
	for range triedNodes {
		tr.nodes = append(tr.nodes,
			expand(execStart(t, "hypertoken.service.d/cluster.conf"), strings.NewReplacer(variables...)))
	}
	for _, file := range []string{"ca.crt", "node.crt", "node.key", "secret", "token"} {
		tr.secrets["${CREDENTIALS_DIRECTORY}/"+file] = file
	}
	tr.hosts = func(servers []string, node string) []string {
		pairs := []string{"10.0.0.5", node}
		for k, ip := range servers {
			pairs = append(pairs, fmt.Sprintf("//n%d:", k+1), "//"+ip+":")
		}
		return pairs
	}
	return tr
}

// process is a server or a node. It is started again if it ends, as what is shipped says, until stop.
type process struct {
	name    string
	command func() *exec.Cmd
	log     *os.File
	ended   chan struct{} // closed when it has ended for good

	mu        sync.Mutex // guards the fields below
	running   *exec.Cmd
	isStopped bool
	surprises []string // how it has ended that it should not
}

// The statuses of a node that the others have declared dead, and of one that could not join. On a busy
// machine both may happen.
const (
	statusDead      = 3
	statusNotJoined = 1
)

func startProcess(t *testing.T, name, program string, args []string, env ...string) *process {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, log: log, ended: make(chan struct{})}
	p.command = func() *exec.Cmd {
		c := exec.Command(program, args...)
		c.Stdout, c.Stderr, c.Env = log, log, append(os.Environ(), env...)
		return c
	}
	go p.supervise()
	t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		<-p.ended
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s %q:\n%s", name, args, b)
		}
		_ = log.Close()
	})
	return p
}

func (p *process) supervise() {
	defer close(p.ended)
	for {
		p.mu.Lock()
		if p.isStopped {
			p.mu.Unlock()
			return
		}
		p.running = p.command()
		err := p.running.Start()
		c := p.running
		p.mu.Unlock()
		if err == nil {
			_ = c.Wait()
		}
		p.mu.Lock()
		code := c.ProcessState.ExitCode()
		if code != statusDead && code != statusNotJoined && (!p.isStopped || code != 0) {
			p.surprises = append(p.surprises, fmt.Sprint(c.ProcessState, err))
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// stop ends the process for good. The caller waits for ended.
func (p *process) stop(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isStopped = true
	if p.running != nil && p.running.Process != nil {
		_ = p.running.Process.Signal(signal) // it may have ended
	}
}

// noSurprises fails if the process has ended in a way that it should not.
func (p *process) noSurprises(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.surprises) > 0 {
		t.Errorf("%s has ended: %v", p.name, p.surprises)
	}
}

// await asks until the answer is one of these statuses and no error, and returns it.
func await(t *testing.T, method, url, token, body string, want ...int) []byte {
	t.Helper()
	looks := time.NewTicker(50 * time.Millisecond)
	defer looks.Stop()
	for until := time.Now().Add(5 * time.Minute); ; <-looks.C {
		status, text, err := ask(t.Context(), method, url, token, body)
		hasFailed := status == http.StatusOK && bytes.Contains(text, []byte(`"error"`))
		if err == nil && slices.Contains(want, status) && !hasFailed {
			return text
		}
		if time.Now().After(until) {
			t.Fatalf("%s: %d %s %v", url, status, text, err)
		}
	}
}

func ask(ctx context.Context, method, url, token, body string) (status int, text []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = w.Body.Close() }()
	text, err = io.ReadAll(w.Body)
	return w.StatusCode, text, err
}

// build builds a program.
func build(t *testing.T, file, dir, pkg string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-C", dir, "-o", file, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// The commands that are shipped, with the configuration that is shipped, are a cluster: its nodes get
// ready, each answers for the games of the others, and they end in order.
func TestWhatIsShippedRuns(t *testing.T) {
	require.Deep(t)
	dir := t.TempDir()
	nats := build(t, filepath.Join(dir, "nats-server"), ".", "github.com/nats-io/nats-server/v2")
	program := build(t, filepath.Join(dir, "hypertoken"), "../..", "./cmd/hypertoken")
	for name, read := range map[string]func(*testing.T) trial{"kubernetes": kubernetesTrial, "compose": composeTrial,
		"systemd": systemdTrial} {
		t.Run(name, func(t *testing.T) { read(t).run(t, nats, program) })
	}
}

func (tr trial) run(t *testing.T, nats, program string) {
	network := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(255))
	servers := []string{network + "1", network + "2", network + "3"}
	secrets := makeSecrets(t, servers...)
	shipped, err := os.ReadFile(tr.conf)
	if err != nil {
		t.Fatal(err)
	}
	var monitors []*process
	for k, args := range tr.servers {
		dir := t.TempDir()
		r := strings.NewReplacer(append(tr.hosts(servers, ""), "0.0.0.0", servers[k], "127.0.0.1", servers[k],
			tr.config, filepath.Join(dir, "nats.conf"), "/run/nats", dir,
			"store_dir: /", "store_dir: "+dir+"/")...)
		text := r.Replace(made(secrets).Replace(string(shipped)))
		if err := os.WriteFile(filepath.Join(dir, "nats.conf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = slices.Clone(args)
		for n := range args {
			args[n] = r.Replace(args[n])
		}
		monitors = append(monitors, startProcess(t, fmt.Sprint("server ", k+1), nats, args, tr.env[k]))
	}
	var nodes []*process
	var urls []string
	for k, args := range tr.nodes {
		ip := network + fmt.Sprint(11+k)
		pairs := tr.hosts(servers, ip)
		for path, file := range tr.secrets {
			pairs = append(pairs, path, filepath.Join(secrets, file))
		}
		args = slices.Clone(args)
		for n := range args {
			args[n] = strings.NewReplacer(pairs...).Replace(args[n])
			if strings.HasPrefix(args[n], ":") {
				args[n] = ip + args[n]
			}
		}
		nodes = append(nodes, startProcess(t, fmt.Sprint("node ", k+1), program, args))
		urls = append(urls, "http://"+ip+":9464")
	}
	for _, url := range urls {
		for _, path := range []string{"/readyz", "/healthz"} {
			await(t, http.MethodGet, url+path, "", "", http.StatusOK)
		}
	}
	for _, server := range servers {
		for _, path := range []string{"/healthz", "/healthz?js-server-only=true", "/healthz?js-enabled-only=true"} {
			await(t, http.MethodGet, "http://"+server+":8222"+path, "", "", http.StatusOK)
		}
	}
	b, err := os.ReadFile(filepath.Join(secrets, "token"))
	if err != nil {
		t.Fatal(err)
	}
	token := string(bytes.TrimSpace(b))
	for k := range 8 {
		game := fmt.Sprint("/v1/engines/game-", k)
		first := urls[k%len(urls)] + game
		// If the answer to the setup was lost, the game exists.
		await(t, http.MethodPost, first, token, `{"setup":{"stack":[{"id":"a"},{"id":"b"}]}}`, http.StatusOK,
			http.StatusConflict)
		await(t, http.MethodPost, first, token, `{"type":"stack:shuffle","key":"k"}`, http.StatusOK)
		var answers []string
		for _, url := range urls {
			answers = append(answers, string(await(t, http.MethodPost, url+game, token, `{"digest":true}`, http.StatusOK)))
		}
		if len(slices.Compact(answers)) != 1 {
			t.Errorf("the nodes do not agree: %q", answers)
		}
	}
	for _, p := range nodes {
		p.stop(syscall.SIGTERM)
	}
	for _, p := range nodes {
		<-p.ended
		p.noSurprises(t)
	}
	for _, p := range monitors {
		p.noSurprises(t)
	}
}
