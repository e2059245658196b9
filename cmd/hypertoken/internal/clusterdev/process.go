package clusterdev

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is a server or a node. It may end and be started again: each time is a life.
type process struct {
	cluster *Cluster
	name    string
	role    string
	address string // where clients reach it
	log     string // the file of its standard error
	args    []string
	doors   []*door  // with Options.Links, where others reach it
	ways    []string // of a node with Options.Links: pairs of another node's address and that of the door to it

	mu       sync.Mutex // guards the fields below
	life     *life      // the newest
	isClosed bool       // nothing is started any more
}

// life is a process from its start to its end.
type life struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ready chan struct{} // closed when it is ready
	ended chan struct{} // closed when it has ended, and its end is reported

	// guarded by the mutex of the process
	isReady, hasEnded, isStopped, isWanted bool // isWanted: its end is no surprise
	status                                 string
}

// readyWatch is the standard output of a process. A node prints its address, a server a line, once it
// is ready.
type readyWatch struct {
	text  []byte
	ready func()
}

func (w *readyWatch) Write(b []byte) (int, error) {
	if w.ready != nil {
		if w.text = append(w.text, b...); bytes.ContainsRune(w.text, '\n') {
			w.ready()
			w.ready, w.text = nil, nil
		}
	}
	return len(b), nil
}

// outputPatience is how long a process that has ended is waited for by its output, which its own
// children may have.
const outputPatience = 2 * time.Second

// start starts the process. It must not be running.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed {
		return fmt.Errorf("%s is not started: everything ends", p.name)
	}
	if p.life != nil && !p.life.hasEnded {
		return fmt.Errorf("%s runs already", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	l := &life{ready: make(chan struct{}), ended: make(chan struct{})}
	if l.cmd, err = p.cluster.guard.command(p.role, p.args...); err != nil {
		return err
	}
	l.cmd.Stderr, l.cmd.Stdout, l.cmd.WaitDelay = log, &readyWatch{ready: func() { p.becameReady(l) }}, outputPatience
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		return err
	}
	if len(p.ways) > 0 {
		l.cmd.Env = append(l.cmd.Env, waysVariable+"="+strings.Join(p.ways, ","))
	}
	if err := openAll(p.doors); err != nil {
		return err
	}
	if err := l.cmd.Start(); err != nil {
		closeAll(p.doors)
		return fmt.Errorf("%s can't be started: %w", p.name, err)
	}
	p.life = l
	go p.wait(l)
	return nil
}

func (p *process) becameReady(l *life) {
	p.mu.Lock()
	l.isReady = true
	p.mu.Unlock()
	p.cluster.say("%s is ready: %s", p.name, p.address)
	close(l.ready)
}

// wait waits for the end of a life, and reports it.
func (p *process) wait(l *life) {
	_ = l.cmd.Wait()
	closeAll(p.doors)
	status := l.cmd.ProcessState.String()
	p.mu.Lock()
	l.hasEnded, l.status = true, status
	isWanted := l.isWanted
	p.mu.Unlock()
	words := ""
	if isWanted {
		p.cluster.say("%s has ended: %s", p.name, status)
	} else {
		words = p.lastWords()
		p.cluster.say("%s has ended by itself: %s. %s. 'restart %s' starts it again", p.name, status, words, p.name)
	}
	close(l.ended)
	if p.cluster.o.Ended != nil {
		p.cluster.o.Ended(End{Name: p.name, Code: l.cmd.ProcessState.ExitCode(), Status: status, IsWanted: isWanted,
			LastWords: words})
	}
}

// lastWords describes the log of the process by its last line.
func (p *process) lastWords() string {
	const most = 4 << 10
	f, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "Its log " + p.log + " is empty"
	}
	return "Its log " + p.log + " ends with: " + text[strings.LastIndexByte(text, '\n')+1:]
}

// waitReady waits until the process is ready, and fails if it ends before.
func (p *process) waitReady(ctx context.Context) error {
	p.mu.Lock()
	l := p.life
	p.mu.Unlock()
	select {
	case <-l.ready:
		return nil
	case <-l.ended:
		return fmt.Errorf("%s has ended while it started: %s. %s", p.name, l.status, p.lastWords())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// signal sends a signal to the process. It fails if the process does not run.
func (p *process) signal(send func(*life) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil || p.life.hasEnded {
		return fmt.Errorf("%s does not run: 'restart %s' starts it", p.name, p.name)
	}
	if err := send(p.life); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// kill ends the process by SIGKILL. It returns when the process has ended.
func (p *process) kill() error {
	var l *life
	err := p.signal(func(running *life) error {
		l = running
		l.isWanted = true
		return l.cmd.Process.Kill()
	})
	if err == nil {
		<-l.ended
	}
	return err
}

func (p *process) stop() error {
	return p.signal(func(l *life) error {
		if err := sendStop(l.cmd.Process); err != nil {
			return err
		}
		l.isStopped = true
		return nil
	})
}

func (p *process) resume() error {
	return p.signal(func(l *life) error {
		if !l.isStopped {
			return fmt.Errorf("it is not stopped")
		}
		l.isStopped = false
		return sendContinue(l.cmd.Process)
	})
}

func (p *process) term() error {
	return p.signal(func(l *life) error {
		if l.isStopped {
			return fmt.Errorf("it is stopped: resume it first, or kill it")
		}
		l.isWanted = true
		return sendTerm(l.cmd.Process)
	})
}

// end ends the process by SIGTERM, and by SIGKILL if that takes longer than patience, or ctx ends. A
// process that does not run is left as it is.
func (p *process) end(ctx context.Context, patience time.Duration) {
	p.mu.Lock()
	l := p.life
	if l == nil {
		p.mu.Unlock()
		return
	}
	if !l.hasEnded {
		l.isWanted = true
		if l.isStopped {
			l.isStopped = false
			_ = sendContinue(l.cmd.Process)
		}
		if sendTerm(l.cmd.Process) != nil {
			patience = 0
		}
	}
	p.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-l.ended:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	_ = p.kill() // or it has just ended
	<-l.ended
}

// close ends the process for good.
func (p *process) close(patience time.Duration) {
	p.mu.Lock()
	p.isClosed = true
	p.mu.Unlock()
	p.end(context.Background(), patience)
}

// state describes the process.
func (p *process) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch l := p.life; {
	case l == nil:
		return "not started"
	case l.hasEnded:
		return "ended: " + l.status
	case l.isStopped:
		return fmt.Sprintf("stopped, process %d", l.cmd.Process.Pid)
	case !l.isReady:
		return fmt.Sprintf("starting, process %d", l.cmd.Process.Pid)
	default:
		return fmt.Sprintf("ready, process %d", l.cmd.Process.Pid)
	}
}
