package clusterdev

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Commands describes the lines that [Cluster.Talk] takes.
const Commands = `  kill NAME      SIGKILL: it is gone at once, as with a loss of power
  stop NAME      SIGSTOP: it stands still, and keeps its memory and its connections
  resume NAME    SIGCONT: a stopped one goes on
  term NAME      SIGTERM: it ends in order, and hands over what it has
  restart NAME   ends it in order if it runs, and starts it again at the same address
  status         what each of them does
  help           this list
  quit           end everything, as the end of the input does
`

// Talk carries out the lines of in until it ends, one says quit, or ctx ends.
func (c *Cluster) Talk(ctx context.Context, in io.Reader) {
	var restarting sync.WaitGroup
	defer restarting.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		var line string
		var isOpen bool
		select {
		case line, isOpen = <-lines:
		case <-ctx.Done():
		}
		words := strings.Fields(line)
		switch {
		case !isOpen || len(words) == 1 && words[0] == "quit":
			return
		case len(words) == 0:
			continue
		}
		if err := c.carryOut(ctx, words, &restarting); err != nil {
			c.say("%v", err)
		}
	}
}

// carryOut carries out a line. What takes long goes on in restarting.
func (c *Cluster) carryOut(ctx context.Context, words []string, restarting *sync.WaitGroup) error {
	switch words[0] {
	case "help":
		c.say("%s", strings.TrimSuffix(Commands, "\n"))
		return nil
	case "status":
		for _, p := range c.all() {
			c.say("%-3s %-28s %s", p.name, p.address, p.state())
		}
		return nil
	case "kill", "stop", "resume", "term", "restart":
	default:
		return fmt.Errorf("%q is no command: want kill, stop, resume, term, restart, status, help or quit", words[0])
	}
	if len(words) != 2 {
		return fmt.Errorf("%s takes one name, such as '%s a'", words[0], words[0])
	}
	p, err := c.find(words[1])
	if err != nil {
		return err
	}
	switch words[0] {
	case "kill":
		return p.kill()
	case "stop":
		if err = p.stop(); err == nil {
			c.say("%s is stopped: 'resume %s' lets it go on", p.name, p.name)
		}
	case "resume":
		if err = p.resume(); err == nil {
			c.say("%s goes on", p.name)
		}
	case "term":
		return p.term()
	case "restart":
		restarting.Go(func() {
			if err := p.restart(ctx); err != nil && ctx.Err() == nil {
				c.say("%v", err)
			}
		})
	}
	return err
}

// restart ends the process if it runs, and starts it again.
func (p *process) restart(ctx context.Context) error {
	p.end(ctx, restartPatience)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.start()
}
