// Package process starts worker processes through hashicorp/go-plugin, and is what such a process does first.
//
// go-plugin is the control plane: it starts a worker, shakes hands with it and ends it. What the
// host and the worker have to say to each other travels as frames on the worker's standard input
// and output, whose ends this package hands over.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
)

// handshake tells a worker that a host started it. It is no secret.
var handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "HYPERTOKEN_WORKER",
	MagicCookieValue: "0d5b9d6c8ea04f6e",
}

// plugins has one without methods: frames carry the requests.
var plugins = plugin.PluginSet{"worker": control{}}

type control struct{}

func (control) Server(*plugin.MuxBroker) (any, error) { return new(struct{}), nil }
func (control) Client(*plugin.MuxBroker, *rpcClient) (any, error) {
	return new(struct{}), nil
}

var declared atomic.Bool

// DeclareWorker says that this program becomes a worker where it is started as one.
func DeclareWorker() { declared.Store(true) }

// SelfWorker reports whether it does. Where it does not, a host must not start this program: each would start more.
func SelfWorker() bool { return declared.Load() }

// InWorker reports whether this process was started as a worker.
func InWorker() bool { return os.Getenv(handshake.MagicCookieKey) == handshake.MagicCookieValue }

// Config says what to start.
type Config struct {
	// Path is the program; "" is this program itself, as it was when it was started where the system can tell.
	Path string
	// SHA256 is what the program must have, in lower-case hexadecimal; "" for any.
	SHA256 string
	// Name says which of its host's workers it is, such as "worker-3", for those who list processes. Default "worker".
	Name string
	// Env is all the environment that it gets, beside go-plugin's own.
	Env []string
	// Logger gets what the worker writes to its standard error: records of slog's JSON as they are, other lines as
	// warnings.
	Logger *slog.Logger
	// StartTimeout bounds the start up to the handshake. Default 10 s.
	StartTimeout time.Duration
}

// Process is a worker process.
type Process struct {
	run    *run
	client *plugin.Client
	done   chan struct{}
}

// exitGrace is how long a program that did not shake hands may take to end by itself.
const exitGrace = time.Second

// namePrefix is what the first argument of a worker begins with, whatever its program: its name for
// those who list processes.
const namePrefix = "hypertoken-"

// Start starts a worker and shakes hands. After an error nothing is left of it.
func Start(ctx context.Context, c Config) (*Process, error) {
	if c.StartTimeout == 0 {
		c.StartTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Name == "" {
		c.Name = "worker"
	}
	path, err := program(c.Path)
	if err != nil {
		return nil, notStarted(c.Path, err)
	}
	executed := path
	if c.SHA256 != "" {
		var copied io.Closer
		if executed, copied, err = pinned(path, c.SHA256); err != nil {
			return nil, err
		}
		defer func() { _ = copied.Close() }()
	}
	r := &run{log: c.Logger, path: path, exited: make(chan struct{}), drained: make(chan struct{}),
		silent: make(chan struct{})}
	newClient := func(base string) *plugin.Client {
		return plugin.NewClient(&plugin.ClientConfig{
			HandshakeConfig: handshake,
			Plugins:         plugins,
			RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
				r.dir = dir
				r.cmd = &exec.Cmd{Path: executed, Args: []string{namePrefix + c.Name, "worker"},
					Env: workerEnvironment(dir, cmd.Env, c.Env)}
				return r, nil
			},
			AllowedProtocols: []plugin.Protocol{plugin.ProtocolNetRPC},
			StartTimeout:     c.StartTimeout,
			SkipHostEnv:      true,
			UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: base},
			Logger:           pluginLog(c.Logger),
		})
	}
	stop := context.AfterFunc(ctx, r.kill)
	defer stop()
	began := time.Now()
	var client *plugin.Client
	var noDirectory []string
	for _, base := range bases() {
		client = newClient(base)
		// Only the handshake: a connection that nobody needs yet would say on standard error that its
		// worker was killed.
		if _, err = client.Start(); err == nil {
			p := &Process{run: r, client: client, done: make(chan struct{})}
			go p.reap()
			return p, nil
		}
		if r.cmd != nil {
			break
		}
		noDirectory = append(noDirectory, err.Error())
	}
	if r.cmd == nil {
		return nil, fmt.Errorf("the worker %s can't be started: go-plugin needs a directory for temporary files, and can make none (%s): "+
			"set TMPDIR to a directory that can be written", path, strings.Join(noDirectory, "; "))
	}
	if r.pid() == 0 {
		// go-plugin leaves its directory if nothing was started.
		if r.dir != "" {
			_ = os.RemoveAll(r.dir)
		}
		return nil, notStarted(path, err)
	}
	late := time.Since(began) >= c.StartTimeout // go-plugin has killed it by now
	r.kill()
	r.free(client)
	_ = r.stdin.Close()
	_ = r.stdout.Close()
	switch said := r.said(); {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case r.state != nil && r.state.Exited():
		return nil, fmt.Errorf("the worker %s ended with %v instead of shaking hands: is it a program that calls workerproc.Main?%s", path, r.state, said)
	case late:
		return nil, fmt.Errorf("the worker %s did not shake hands within %v (StartTimeout)%s", path, c.StartTimeout,
			said)
	default:
		return nil, fmt.Errorf("the worker %s did not shake hands: is it a program that calls workerproc.Main? %w%s",
			path, err, said)
	}
}

// bases are where go-plugin may make its directory. Tests replace it.
var bases = socketBases

// notStarted is the error for a program that was not executed. It says what WorkerPath must be if that is the cause.
func notStarted(path string, err error) error {
	for _, cause := range []error{fs.ErrNotExist, fs.ErrPermission, exec.ErrNotFound, syscall.ENOEXEC, syscall.EISDIR,
		syscall.ENOTDIR} {
		if errors.Is(err, cause) {
			return fmt.Errorf("the worker %s can't be started: %w; WorkerPath must name a program that calls workerproc.Main", path, err)
		}
	}
	return fmt.Errorf("the worker %s can't be started: %w", path, err)
}

func (p *Process) reap() {
	p.run.free(p.client)
	close(p.done)
}

// free waits for the end of the process, and frees what go-plugin holds: its Kill returns at once then.
func (r *run) free(client *plugin.Client) {
	<-r.exited
	<-r.drained
	// go-plugin removes its directory. To look into one that is not empty it would need a descriptor,
	// which this process may not have.
	if r.socket != "" {
		_ = os.Remove(r.socket)
	}
	client.Kill()
	_ = r.shaken.Close()
}

// Stdin is the end to write frames to. The caller closes it.
func (p *Process) Stdin() *os.File { return p.run.stdin }

// Stdout is the end to read frames from, which begin right there. The caller closes it.
func (p *Process) Stdout() *os.File { return p.run.stdout }

// Pid returns the process ID.
func (p *Process) Pid() int { return p.run.pid() }

// Kill sends SIGKILL and returns at once.
func (p *Process) Kill() { p.run.kill() }

// Done is closed when the process has ended and everything but Stdin and Stdout is freed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended, after Done: nil for status 0.
func (p *Process) Err() error { return p.run.ended() }

// Ended is Err for a process that nobody has asked to end: it names the program, and what that said last.
func (p *Process) Ended() error {
	how := "status 0"
	if err := p.Err(); err != nil {
		how = err.Error()
	}
	return fmt.Errorf("the worker %s ended by itself: %s%s", p.run.path, how, p.run.said())
}

// Path is the program.
func (p *Process) Path() string { return p.run.path }

// run is one start of a worker: go-plugin's runner.
type run struct {
	log    *slog.Logger
	path   string
	dir    string
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	// shaken gives go-plugin the handshake line and nothing else.
	shaken *os.File
	// exited is closed once the process is reaped, drained once its output is read.
	exited, drained chan struct{}
	// silent is closed where standard output ends before the handshake.
	silent chan struct{}

	socket string // where go-plugin listens there, once drained is closed
	state  *os.ProcessState
	lost   error // why there is no state

	mu      sync.Mutex // guards what follows
	process *os.Process
	killed  bool
	last    []string // the last lines of its standard error, or the first of its end
	ending  bool     // it has said that it ends
}

var _ runner.Runner = (*run)(nil)

// Start runs under go-plugin. Descriptors are closed on every way out.
func (r *run) Start(context.Context) (err error) {
	var ends []*os.File
	pipe := func() (in, out *os.File) {
		if err == nil {
			if in, out, err = os.Pipe(); err == nil {
				ends = append(ends, in, out)
			}
		}
		return in, out
	}
	childIn, stdin := pipe()
	stdout, childOut := pipe()
	stderr, childErr := pipe()
	shaken, line := pipe()
	if err == nil {
		r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = childIn, childOut, childErr
		r.cmd.SysProcAttr = attributes()
		err = start(r.cmd)
	}
	if err != nil {
		for _, f := range ends {
			_ = f.Close()
		}
		return err
	}
	for _, f := range []*os.File{childIn, childOut, childErr} {
		_ = f.Close()
	}
	r.stdin, r.stdout, r.shaken = stdin, stdout, shaken
	r.started(r.cmd.Process)
	if err := offerToOOM(r.cmd.Process.Pid); err != nil {
		r.log.Debug("the worker is no sooner ended than its host if memory runs out", "error", err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { r.readErrors(stderr) })
	shook := make(chan struct{})
	reading.Go(func() {
		defer close(shook)
		r.shake(line)
	})
	go func() {
		// Wait of the process, not of the command: what it wrote may still be in the pipe.
		r.state, r.lost = r.cmd.Process.Wait()
		close(r.exited)
		// A grandchild that holds the pipes must not hold the host. After the handshake stdout is the caller's.
		given := make(chan struct{})
		timer := time.AfterFunc(time.Second, func() {
			defer close(given)
			_ = stderr.Close()
			select {
			case <-shook:
			default:
				_ = stdout.Close()
			}
		})
		reading.Wait()
		if !timer.Stop() {
			<-given // a reader is told of a Close before the descriptor is closed
		}
		_ = stderr.Close()
		close(r.drained)
	}()
	return nil
}

// kill sends SIGKILL, or has the process killed as soon as there is one.
func (r *run) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.process != nil {
		_ = r.process.Kill()
	}
}

func (r *run) started(p *os.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process = p; r.killed {
		_ = p.Kill()
	}
}

func (r *run) pid() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return 0
	}
	return r.process.Pid
}

func (r *run) Wait(context.Context) error {
	<-r.exited
	return r.ended()
}

// ended says how the process ended, after exited.
func (r *run) ended() error {
	switch {
	case r.state == nil:
		// As in a program that ignores SIGCHLD: the kernel reaps its children.
		return fmt.Errorf("ended with a status unknown: %w", r.lost)
	case r.state.Success():
		return nil
	}
	return errors.New(r.state.String())
}

// Kill runs under go-plugin, where a start has failed. A program that has only closed its output is about to say with
// which status it ends.
func (r *run) Kill(context.Context) error {
	select {
	case <-r.silent:
		timer := time.NewTimer(exitGrace)
		defer timer.Stop()
		select {
		case <-r.exited:
		case <-timer.C:
		}
	default:
	}
	r.kill()
	return nil
}

func (r *run) ID() string {
	if pid := r.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

func (r *run) Name() string                    { return r.path }
func (r *run) Diagnose(context.Context) string { return "" }

// PluginToHost gives go-plugin an address that nobody can listen on, and not that of the worker's
// service. go-plugin connects when the worker has ended, and another program may have the worker's
// address then.
func (r *run) PluginToHost(string, string) (string, string, error) {
	return "unix", nowhere(r.dir), nil
}

func (r *run) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// workerEnvironment returns what go-plugin wants a worker to have, without the directory that is
// not used, and what its host wants it to have beside that.
func workerEnvironment(dir string, plugin, own []string) []string {
	return append(discardDirectory(dir, plugin), own...)
}
