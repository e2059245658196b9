package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// exitSignal plus the number of a signal is the exit status of a command that the signal has
// ended. Shells use the same numbers.
const exitSignal = 128

// endedBySignal is the cause of a command's context that a signal has ended.
type endedBySignal struct{ signal syscall.Signal }

func (e endedBySignal) Error() string { return "ended by a signal: " + e.signal.String() }

// status returns the exit status of a command that fails because of the signal.
func (e endedBySignal) status() int { return exitSignal + int(e.signal) }

// handleSignals returns a context that ends with the first INT, TERM, HUP or QUIT; then its cause
// is an [endedBySignal]. A second signal ends this process at once. A HUP that was ignored when
// this process began, as under nohup, stays ignored.
//
// It also catches SIGPIPE. Otherwise Go ends a process that writes to a standard output or a
// standard error that has no reader any more. The caller calls release when the command has ended.
func handleSignals(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(caught, syscall.SIGHUP)
	}
	released := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for first := true; ; first = false {
			select {
			case s := <-caught:
				number, _ := s.(syscall.Signal)
				if !first {
					os.Exit(endedBySignal{number}.status())
				}
				cancel(endedBySignal{number})
			case <-released:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(caught)
		signal.Stop(unread)
		close(released)
		waiting.Wait()
		cancel(nil)
	}
}
