package pool

import (
	"errors"
	"fmt"

	"hypertoken/internal/process"
	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// processLink is the link to a real worker process.
type processLink struct {
	ipc.Sink // its standard input, or what stands before it
	stdin    *ipc.Pipe
	stdout   *ipc.Pipe
	process  *process.Process
}

// PID implements Link, as Kill and HangUp do.
func (l *processLink) PID() int { return l.process.Pid() }
func (l *processLink) Kill()    { l.process.Kill() }
func (l *processLink) HangUp()  { closePipe(l.stdin) }

// closeOut gives up what the process has written and nobody has read.
func (l *processLink) closeOut() { closePipe(l.stdout) }

// closePipe closes a pipe, if there is one.
func closePipe(p *ipc.Pipe) {
	if p != nil {
		_ = p.Close()
	}
}

// runProcess starts a worker's process and reads from it until it ends. It is the worker's own
// goroutine.
func runProcess(w *Worker) {
	c := &w.pool.config
	w.pool.descriptors.beginStart()
	p, err := process.Start(w.pool.life, process.Config{
		Path: c.WorkerPath, SHA256: c.WorkerSHA256, Name: w.name, Logger: w.log, StartTimeout: c.StartTimeout,
	})
	if err != nil {
		w.pool.descriptors.endStart()
		w.HandleEnd(explainDescriptors(err, c.Workers, c.Spares))
		return
	}
	l := &processLink{process: p}
	err = l.open()
	w.pool.descriptors.endStart()
	if err == nil {
		var source ipc.Source = l.stdout
		if c.Seams.Tap != nil {
			l.Sink, source = c.Seams.Tap(tap.Process{PID: p.Pid(), Kill: p.Kill, In: l.Sink, Out: source})
		}
		if !w.Attach(l, source) {
			err = errors.New("the host ends")
		}
	}
	if err != nil {
		p.Kill()
	} else {
		err = w.reading.readToEnd(l)
	}
	<-p.Done()
	l.HangUp()
	l.closeOut()
	switch reason := w.Details().Reason; {
	case err != nil:
		err = fmt.Errorf("the worker %s: %w", p.Path(), err)
	case reason == Died:
		err = p.Ended()
	case reason == Overdue && !w.handshake.isDone:
		err = fmt.Errorf("the worker %s was not ready within %v (StartTimeout)", p.Path(), c.StartTimeout)
	default:
		err = p.Err()
	}
	w.HandleEnd(err)
}

// open takes over the pipes of the process.
func (l *processLink) open() (err error) {
	in, inErr := ipc.NewPipe(l.process.Stdin())
	out, outErr := ipc.NewPipe(l.process.Stdout())
	l.Sink, l.stdin, l.stdout = in, in, out
	return errors.Join(inErr, outErr)
}
