// Command hypertoken runs games on the HyperToken engine from the shell: recorded games, or lines
// that a program sends over a pipe.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/bench"
	"hypertoken/cmd/hypertoken/internal/clusterdev"
	"hypertoken/cmd/hypertoken/internal/torture"
	"hypertoken/host"
	"hypertoken/internal/printable"
	"hypertoken/internal/version"
	"hypertoken/workerproc"
)

func main() {
	workerproc.Main()
	bench.Main()
	torture.Main()
	clusterdev.Main()
	os.Exit(execute(os.Args[1:]))
}

// Exit statuses. A command that a signal has ended has another one: see [exitSignal].
const (
	exitFailed = 1
	exitUsage  = 2
	exitStore  = 3
)

// usageError is the error of a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errReported ends a command with exitFailed. The command has printed its failure already.
var errReported = errors.New("reported")

// flushTime is how long a command that has ended waits for the reader of standard error.
const flushTime = time.Second

func execute(args []string) int {
	ctx, release := handleSignals(context.Background())
	defer release()
	defer standardError.flush(flushTime)
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(output{os.Stdout})
	root.SetErr(standardError)
	command, err := root.ExecuteContextC(ctx)
	return exitStatus(context.Cause(ctx), command, err)
}

// exitStatus returns the exit status of a command that has returned err. It prints the error,
// unless the command has printed it already. cause is the cause of the command's context.
func exitStatus(cause error, command *cobra.Command, err error) int {
	var usage usageError
	var store storeError
	var ended endedBySignal
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended):
		return ended.status()
	case errors.Is(err, errReported):
		return exitFailed
	case errors.Is(err, errOutputUnread):
		return exitSignal + int(syscall.SIGPIPE)
	case errors.As(err, &usage):
		fmt.Fprintf(standardError, "hypertoken: %s\nRun '%s --help' for usage.\n",
			printable.Text(err.Error()), command.CommandPath())
		return exitUsage
	case errors.As(err, &store):
		fmt.Fprintf(standardError, "hypertoken: %s\n", printable.Text(err.Error()))
		return exitStore
	case errors.As(cause, &ended):
		if !errors.Is(err, context.Canceled) && !errors.Is(err, host.ErrCanceled) {
			fmt.Fprintf(standardError, "hypertoken: %s\n", printable.Text(err.Error()))
		}
		return ended.status()
	}
	// The error may contain text of a file, a core or a server.
	fmt.Fprintf(standardError, "hypertoken: %s\n", printable.Text(err.Error()))
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "hypertoken",
		Short: "Run card, board and token games",
		Long: `hypertoken runs games on a deterministic engine. It has 81 actions: they shuffle and draw
from stacks, place and move tokens in zones, and trade between agents. The engine is a Rust
core compiled to WebAssembly, and part of this program.

  hypertoken run game.jsonl              play a game from a file
  echo '{"type":"game:start"}' | hypertoken run
  hypertoken serve                       serve engines over HTTP, with metrics
  hypertoken cluster dev                 try a cluster on this machine
  hypertoken journal list --data games   list, read, check and back up stored games
  hypertoken top                         show the workers of a server, live
  hypertoken actions                     list the actions and their payloads
  hypertoken core new my-game            write a core of your own
  hypertoken verify traces/*.jsonl       compare the engine with recorded runs
  hypertoken torture --for 60s           kill workers, or the host, under load; check every answer
  hypertoken bench                       measure what engines cost on this machine

INT, TERM, HUP and QUIT end every command: it ends its workers and removes its temporary
files. A second signal ends it at once. A HUP that was ignored from the start, as under nohup,
stays ignored. If standard error has no reader any more, a command goes on. If standard output
has no reader any more, the command ends.

Exit status: 0 for success; 1 for a failure that was reported; 2 for wrong usage; 128 and the
number of the signal that ended the command; 141, as for SIGPIPE, if standard output has no
reader.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.Version = version.String()
	root.SetVersionTemplate("hypertoken {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRun(), newServe(), newCluster(), newVerify(), newJournal(), newTorture(), newBench(), newTop(),
		newActions(),
		newCore(), newVersion(), newWorker())
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Short = "Write a completion script for a shell"
		}
	}
	return root
}

// newWorker returns a command that explains the worker process. In a worker that a host has
// started, workerproc.Main does not return, so this command never runs.
func newWorker() *cobra.Command {
	return &cobra.Command{
		Use:   "worker",
		Short: "Run engines for the host that started it",
		Long: `worker is the process in which run, verify and applications run their engines. They start it
themselves. It speaks MessagePack frames over standard input and output (PROTOCOL.md), and
ends with its host. Do not start it by hand.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("a host starts its workers itself: use 'hypertoken run', which starts one")}
		},
	}
}

// usageArgs returns a check of arguments whose errors are usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
