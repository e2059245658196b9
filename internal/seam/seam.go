// Package seam is what is between the public API of a host and what runs its engines.
//
// Behind most engines is a driver, which runs the engine on this machine. In a cluster, package
// cluster puts something else there, which finds the node that has the engine. Package host sets
// the functions here, because only package host can make its types, and packages of this module
// need what is inside of them.
package seam

import (
	"context"
	"time"

	"hypertoken/internal/driver"
	"hypertoken/internal/events"
	"hypertoken/internal/payload"
	"hypertoken/journal"
)

// Engine is what is behind a host.Engine. Each method does what the method of host.Engine with the
// same name says.
type Engine interface {
	Name() string
	Dispatch(ctx context.Context, actionType string, payload any, d driver.Choice) (driver.Result, error)
	// DispatchAsync begins an action whose outcome c will have.
	DispatchAsync(ctx context.Context, c *driver.Call, actionType string, payload any, d driver.Choice)
	DispatchBatch(ctx context.Context, mode driver.Mode, members driver.Members,
		whole driver.Choice) (driver.BatchResult, error)
	State(ctx context.Context, wantsDigest bool) (driver.Result, error)
	// Position answers Digest, too. what names the call in errors.
	Position(ctx context.Context, what string) (driver.Result, error)
	StateAt(ctx context.Context, sequence uint64) (driver.Result, error)
	DigestAt(ctx context.Context, sequence uint64) (driver.Result, error)
	Journal(ctx context.Context) (*journal.Stored, error)
	Revert(ctx context.Context, to uint64, d driver.Choice) (driver.Result, error)
	Undo(ctx context.Context, d driver.Choice) (driver.Result, error)
	Redo(ctx context.Context, d driver.Choice) (driver.Result, error)
	AddNote(ctx context.Context, note *journal.KeyRecord) error
	Newest() uint64
	ReadHistory(ctx context.Context, from uint64) (journal.Part, error)
	JournalAt(ctx context.Context, at uint64) (*journal.Stored, []journal.Batch, error)
	Listen(event string) *events.Listener[driver.Event]
	Place() driver.Place
	Reopen(ctx context.Context) error
	Close(ctx context.Context) error
}

// Owner is an [Engine] that has methods of its own for what otherwise goes to the engine's host.
type Owner interface {
	Delete(ctx context.Context) error
	Shutdown(ctx context.Context) error
}

// Opening is what the options of a host.Open say, checked and encoded.
type Opening struct {
	Base    journal.Base
	Options driver.OpenOptions
	// Timeout is how long an action may take; 0 for any time.
	Timeout time.Duration
}

// Functions that package host sets.
var (
	// Wrap returns a *host.Engine of a *host.Host.
	Wrap func(host any, e Engine) any
	// Behind returns what is behind a *host.Engine.
	Behind func(engine any) Engine
	// Prepare checks a name and a host.EngineOptions, as Open of a *host.Host does.
	Prepare func(host any, name string, options any) (Opening, error)
	// Payloads returns how large the payloads of a *host.Host may be.
	Payloads func(host any) payload.Limits
)
