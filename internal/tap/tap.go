// Package tap lets the tortures and tests of this module stand between a host and the pipes of its
// worker processes. Nobody outside the module can: what a worker is told and what it answers is
// between it and its host.
package tap

import (
	"context"

	"hypertoken/ipc"
)

// Process is a worker process that has shaken hands.
type Process struct {
	PID int
	// Kill sends it SIGKILL, and returns at once.
	Kill func()
	// In is where the host's frames go, Out is where the worker's come from.
	In  ipc.Sink
	Out ipc.Source
}

// Func says what a host uses instead of a process's pipes. It is called once for each process, before the first frame.
type Func func(Process) (in ipc.Sink, out ipc.Source)

type key struct{}

// With returns a context whose host is tapped, if host.New is called with it.
func With(ctx context.Context, f Func) context.Context { return context.WithValue(ctx, key{}, f) }

// From returns what [With] has put into a context, or nil.
func From(ctx context.Context) Func {
	f, _ := ctx.Value(key{}).(Func)
	return f
}
