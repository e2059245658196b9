// Package process starts worker processes through hashicorp/go-plugin. It also has the first steps
// of such a process: the handshake, and giving up rights.
//
// go-plugin starts a worker, shakes hands with it and ends it. All other messages between the host
// and the worker are frames on the worker's standard input and output. This package returns the
// ends of these pipes.
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

// plugins has one plugin without methods, because requests travel in frames.
var plugins = plugin.PluginSet{"worker": control{}}

type control struct{}

func (control) Server(*plugin.MuxBroker) (any, error) { return new(struct{}), nil }
func (control) Client(*plugin.MuxBroker, *rpcClient) (any, error) {
	return new(struct{}), nil
}

var declared atomic.Bool

// DeclareWorker notes that this program becomes a worker if it is started as one.
func DeclareWorker() { declared.Store(true) }

// SelfWorker reports whether DeclareWorker was called. If not, a host must not start this program
// as its worker: each process would be a host that starts more of them.
func SelfWorker() bool { return declared.Load() }

// InWorker reports whether this process was started as a worker.
func InWorker() bool { return os.Getenv(handshake.MagicCookieKey) == handshake.MagicCookieValue }

// Config describes a worker to start.
type Config struct {
	// Path is the program. "" is this program itself; on Linux that is the program as it was when
	// this process started, even if the file was replaced since.
	Path string
	// SHA256 is the SHA-256 that the program must have, in lower-case hexadecimal; "" allows any
	// program.
	SHA256 string
	// Name is the worker's name among those of its host, such as "worker-3". Lists of processes
	// show it. Default "worker".
	Name string
	// Env is the worker's environment. go-plugin's own variables are added to it.
	Env []string
	// Logger gets the lines that the worker writes to its standard error: records of slog's JSON
	// as records, other lines as warnings.
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

// namePrefix is the beginning of a worker's first argument, which lists of processes show as its
// name. It is the same for every program.
const namePrefix = "hypertoken-"

// Start starts a worker and shakes hands with it. After an error no process and no file is left.
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
		// This is the handshake only. A connection of go-plugin is not made: nobody needs it yet,
		// and if the worker was killed, it would print that to standard error.
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
	switch said := r.lastOutput(); {
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

// bases returns the directories in which go-plugin may make its directory. Tests replace it.
var bases = socketBases

// notStarted returns the error for a program that was not executed. If the path is the cause, the
// error explains what WorkerPath must name.
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

// free waits for the end of the process, and frees everything that go-plugin holds. Once the
// process has ended, go-plugin's Kill returns at once.
func (r *run) free(client *plugin.Client) {
	<-r.exited
	<-r.drained
	// go-plugin removes its directory. The socket is removed here first: to list a directory that
	// is not empty, go-plugin would need a descriptor, and this process may have none left.
	if r.socket != "" {
		_ = os.Remove(r.socket)
	}
	client.Kill()
	_ = r.shaken.Close()
}

// Stdin returns the pipe to which the host writes frames. The caller closes it.
func (p *Process) Stdin() *os.File { return p.run.stdin }

// Stdout returns the pipe from which the host reads frames. Its next byte is the first of a frame.
// The caller closes it.
func (p *Process) Stdout() *os.File { return p.run.stdout }

// Pid returns the process ID.
func (p *Process) Pid() int { return p.run.pid() }

// Kill sends SIGKILL and returns at once.
func (p *Process) Kill() { p.run.kill() }

// Done is closed when the process has ended and everything but Stdin and Stdout is freed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the process ended: nil for status 0. It may be called once Done is closed.
func (p *Process) Err() error { return p.run.ended() }

// Ended returns the error for a process that ended although nobody asked it to. The error has Err,
// the program's path, and the last lines of its standard error. It may be called once Done is
// closed.
func (p *Process) Ended() error {
	how := "status 0"
	if err := p.Err(); err != nil {
		how = err.Error()
	}
	return fmt.Errorf("the worker %s ended by itself: %s%s", p.run.path, how, p.run.lastOutput())
}

// Path returns the path of the program.
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
	// silent is closed if standard output ends before the handshake.
	silent chan struct{}

	socket string // the path of the socket of go-plugin's service, if it is a file; set once drained is closed
	state  *os.ProcessState
	lost   error // the error of Wait, if there is no state

	mu      sync.Mutex // guards the fields below
	process *os.Process
	killed  bool
	last    []string // the last lines of standard error; after a panic, the first lines of the panic
	ending  bool     // whether a panic or a fatal error was printed
}

var _ runner.Runner = (*run)(nil)

// Start starts the process. go-plugin calls it. After an error all descriptors are closed.
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
		r.log.Debug("the kernel may kill the host before this worker if memory runs out", "error", err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { r.readErrors(stderr) })
	shook := make(chan struct{})
	reading.Go(func() {
		defer close(shook)
		r.shake(line)
	})
	go func() {
		// The Wait of the command would close the pipes, and they may still have output. So this
		// is the Wait of the process.
		r.state, r.lost = r.cmd.Process.Wait()
		close(r.exited)
		// If a child of the worker holds the pipes open, the host must not wait for it. So the
		// pipes are closed after a second; stdout only before the handshake, because later it
		// belongs to the caller.
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
			<-given // Close wakes the readers before it closes the descriptor, so it may not have ended yet
		}
		_ = stderr.Close()
		close(r.drained)
	}()
	return nil
}

// kill sends SIGKILL. If the process is not started yet, it is killed as soon as it is.
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

// ended returns how the process ended. It may be called once exited is closed.
func (r *run) ended() error {
	switch {
	case r.state == nil:
		// This happens in a host that ignores SIGCHLD: the kernel reaps its children.
		return fmt.Errorf("ended with a status unknown: %w", r.lost)
	case r.state.Success():
		return nil
	}
	return errors.New(r.state.String())
}

// Kill kills the process. go-plugin calls it if a start has failed. If the program has closed its
// standard output, it is probably about to end, and Kill waits exitGrace for its exit status.
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

// PluginToHost gives go-plugin an address on which nobody can listen, instead of the address of
// the worker's service. go-plugin connects when the worker has ended, and by then the worker's
// address may belong to another program.
func (r *run) PluginToHost(string, string) (string, string, error) {
	return "unix", nowhere(r.dir), nil
}

func (r *run) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// workerEnvironment returns the environment of a worker: go-plugin's variables, without the
// directory if it is not used, and those of the host.
func workerEnvironment(dir string, plugin, own []string) []string {
	return append(discardDirectory(dir, plugin), own...)
}
