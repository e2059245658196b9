package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"hypertoken/internal/process"
	"hypertoken/internal/sabotage"
	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// processLink is a real worker process.
type processLink struct {
	ipc.Sink // its standard input, or what stands before it
	stdin    *ipc.Pipe
	process  *process.Process
}

func (l *processLink) pid() int { return l.process.Pid() }
func (l *processLink) kill()    { l.process.Kill() }
func (l *processLink) hangUp()  { _ = l.stdin.Close() }

// startProcess starts a worker's process and reads from it until it ends. It runs in a goroutine of its own.
func startProcess(w *worker) {
	o := &w.host.options
	p, err := process.Start(w.host.life, process.Config{
		Path: o.WorkerPath, SHA256: o.WorkerSHA256, Logger: w.log, StartTimeout: o.StartTimeout,
	})
	if err != nil {
		w.gone(err)
		return
	}
	var out io.Reader = p.Stdout()
	in, err := ipc.NewPipe(p.Stdin())
	if err == nil {
		var sink ipc.Sink = in
		if w.host.tap != nil {
			sink, out = w.host.tap(tap.Process{PID: p.Pid(), Kill: p.Kill, In: sink, Out: out})
		}
		if !w.linked(&processLink{sink, in, p}) {
			err = errors.New("the host ends")
		}
	}
	if err != nil {
		p.Kill()
		_ = p.Stdin().Close()
	} else {
		err = w.read(p, out)
	}
	<-p.Done()
	_ = p.Stdin().Close()
	if sabotage.On(sabotage.DescriptorLeft) {
		sabotage.Keep(p.Stdout())
	} else {
		_ = p.Stdout().Close()
	}
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

// read reads what a process writes until there is nothing more to come.
func (w *worker) read(p *process.Process, out io.Reader) error {
	ended := make(chan struct{})
	defer close(ended)
	w.host.spawn(func() {
		// Somebody else may hold the pipe that the worker wrote to.
		select {
		case <-p.Done():
		case <-ended:
			return
		}
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			_ = p.Stdout().Close()
		case <-ended:
		}
	})
	for {
		n, err := out.Read(w.reader.Space())
		w.reader.Filled(n)
		if n > 0 {
			if err := w.came(); err != nil {
				w.violated(err)
				p.Kill()
				return err
			}
		}
		if err == nil {
			continue
		}
		// A worker that does not answer any more is of no use, though it may live. It gets a moment, so that it can say why.
		w.host.spawn(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			select {
			case <-p.Done():
			case <-ctx.Done():
				p.Kill()
			}
		})
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		return err
	}
}
