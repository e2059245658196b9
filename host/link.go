package host

import (
	"errors"
	"fmt"

	"hypertoken/internal/process"
	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// processLink is a real worker process.
type processLink struct {
	ipc.Sink // its standard input, or what stands before it
	stdin    *ipc.Pipe
	stdout   *ipc.Pipe
	process  *process.Process
}

func (l *processLink) pid() int { return l.process.Pid() }
func (l *processLink) kill()    { l.process.Kill() }
func (l *processLink) hangUp()  { closePipe(l.stdin) }

// closeOut gives up what the process has written and nobody has read.
func (l *processLink) closeOut() { closePipe(l.stdout) }

// closePipe closes a pipe, if there is one.
func closePipe(p *ipc.Pipe) {
	if p != nil {
		_ = p.Close()
	}
}

// startProcess starts a worker's process and reads from it until it ends. It runs in a goroutine of its own.
func startProcess(w *worker) {
	o := &w.host.options
	w.host.reserve.begin()
	p, err := process.Start(w.host.life, process.Config{
		Path: o.WorkerPath, SHA256: o.WorkerSHA256, Name: w.name, Logger: w.log, StartTimeout: o.StartTimeout,
	})
	if err != nil {
		w.host.reserve.end()
		w.gone(w.host.withDescriptors(err))
		return
	}
	l := &processLink{process: p}
	err = l.open()
	w.host.reserve.end()
	if err == nil {
		var source ipc.Source = l.stdout
		if w.host.tap != nil {
			l.Sink, source = w.host.tap(tap.Process{PID: p.Pid(), Kill: p.Kill, In: l.Sink, Out: source})
		}
		if !w.linked(l, source) {
			err = errors.New("the host ends")
		}
	}
	if err != nil {
		p.Kill()
	} else {
		err = w.read(l)
	}
	<-p.Done()
	l.hangUp()
	l.closeOut()
	switch why := w.verdict(); {
	case err != nil:
		err = fmt.Errorf("the worker %s: %w", p.Path(), err)
	case why == byItself:
		err = p.Ended()
	case why == overdue && !w.configured:
		err = fmt.Errorf("the worker %s was not ready within %v (StartTimeout)", p.Path(), o.StartTimeout)
	default:
		err = p.Err()
	}
	w.gone(err)
}

// open takes over the pipes of the process.
func (l *processLink) open() (err error) {
	in, inErr := ipc.NewPipe(l.process.Stdin())
	out, outErr := ipc.NewPipe(l.process.Stdout())
	l.Sink, l.stdin, l.stdout = in, in, out
	return errors.Join(inErr, outErr)
}
