package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"hypertoken/host"
	"hypertoken/internal/calls"
	"hypertoken/internal/driver"
	"hypertoken/internal/fault"
	"hypertoken/internal/seam"
	"hypertoken/journal"
)

// engine is what is behind a host.Engine of a cluster: each call finds the node that has the
// engine.
type engine struct {
	host    *Host
	public  *host.Engine
	name    string
	timeout time.Duration // of an action; 0 for none

	closed    chan struct{} // closed by end
	ending    sync.Once
	listeners listeners

	mu     sync.Mutex // guards what follows
	queue  []*asyncCall
	isBusy bool         // a goroutine sends what is in queue
	last   *driver.Call // the call that was queued last; nil if there was none
	newest uint64       // the greatest sequence that an answer had
}

var (
	_ seam.Engine = (*engine)(nil)
	_ seam.Owner  = (*engine)(nil)
)

// Name implements seam.Engine, as the other methods here do.
func (e *engine) Name() string { return e.name }

// call has a call answered by the node that has the engine, once the calls that were queued before
// have their outcome. what names it in errors.
func (e *engine) call(ctx context.Context, what string, c *calls.Call) *calls.Answer {
	if err := e.ready(ctx, what); err != nil {
		return &calls.Answer{Err: err}
	}
	c.What = what
	if !c.IsRead() || c.Method == calls.State || c.Method == calls.Position {
		c.Timeout = e.timeout
	}
	if !c.IsRead() && c.Method != calls.AddNote {
		c.OwnKey = e.ownKey()
	}
	return e.note(e.host.call(ctx, e.name, c))
}

// ready waits until the calls that were queued before have their outcome.
func (e *engine) ready(ctx context.Context, what string) error {
	select {
	case <-e.closed:
		return fault.Shutdown()
	default:
	}
	e.mu.Lock()
	last := e.last
	e.mu.Unlock()
	if last == nil {
		return nil
	}
	select {
	case <-last.Done():
		return nil
	case <-ctx.Done():
		return fault.Ended(ctx, what)
	}
}

// ownKey returns a key for a call that has none, "" if it is to have none.
func (e *engine) ownKey() string {
	if e.host.o.WithoutKeys {
		return ""
	}
	return ownKeys + rand.Text()
}

// ownKeys is how the keys begin that calls get from this package.
const ownKeys = "cluster:"

// note takes notice of the sequence of an answer.
func (e *engine) note(a *calls.Answer) *calls.Answer {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.newest = max(e.newest, a.Result.Sequence)
	return a
}

// result returns an answer as a driver returns it.
func result(a *calls.Answer) (driver.Result, error) { return a.Result.Driver(), a.Err }

// withPayload sets the payload of an action, encoded or not.
func withPayload(payload any) (encoded []byte, value any) {
	if raw, isRaw := payload.(driver.Raw); isRaw {
		return raw, nil
	}
	return nil, payload
}

func (e *engine) Dispatch(ctx context.Context, actionType string, payload any, d driver.Choice) (driver.Result, error) {
	c := &calls.Call{Method: calls.Dispatch, Type: actionType, Choice: d}
	c.Payload, c.Value = withPayload(payload)
	return result(e.call(ctx, actionType, c))
}

func (e *engine) DispatchBatch(ctx context.Context, mode driver.Mode, members driver.Members,
	whole driver.Choice) (driver.BatchResult, error) {
	c := &calls.Call{Method: calls.Batch, Mode: mode, Choice: whole, Members: make([]calls.Member, members.Len)}
	for k := range members.Len {
		m := members.At(k)
		to := &c.Members[k]
		to.Type, to.Choice = m.Type, m.Choice
		to.Payload, to.Value = withPayload(m.Payload)
	}
	a := e.call(ctx, "DispatchBatch", c)
	r := driver.BatchResult{Result: a.Result.Driver()}
	if a.Outcomes != nil {
		r.Outcomes = make([]driver.Outcome, len(a.Outcomes))
	}
	for k, o := range a.Outcomes {
		r.Outcomes[k] = driver.Outcome{Result: o.Result.Driver(), Err: o.Err}
	}
	return r, a.Err
}

func (e *engine) State(ctx context.Context, wantsDigest bool) (driver.Result, error) {
	return result(e.call(ctx, "State", &calls.Call{Method: calls.State, WantsDigest: wantsDigest}))
}

func (e *engine) Position(ctx context.Context, what string) (driver.Result, error) {
	return result(e.call(ctx, what, &calls.Call{Method: calls.Position}))
}

func (e *engine) StateAt(ctx context.Context, sequence uint64) (driver.Result, error) {
	c := &calls.Call{Method: calls.StateAt, Sequence: sequence}
	return result(e.call(ctx, fmt.Sprintf("StateAt(%d)", sequence), c))
}

func (e *engine) DigestAt(ctx context.Context, sequence uint64) (driver.Result, error) {
	c := &calls.Call{Method: calls.DigestAt, Sequence: sequence}
	return result(e.call(ctx, fmt.Sprintf("DigestAt(%d)", sequence), c))
}

func (e *engine) Journal(ctx context.Context) (*journal.Stored, error) {
	a := e.call(ctx, "Journal", &calls.Call{Method: calls.Journal})
	return a.Stored, a.Err
}

func (e *engine) JournalAt(ctx context.Context, at uint64) (*journal.Stored, []journal.Batch, error) {
	a := e.call(ctx, "JournalAt", &calls.Call{Method: calls.JournalAt, Sequence: at})
	return a.Stored, a.Batches, a.Err
}

func (e *engine) ReadHistory(ctx context.Context, from uint64) (journal.Part, error) {
	a := e.call(ctx, "History", &calls.Call{Method: calls.ReadHistory, Sequence: from})
	if a.Part == nil {
		return journal.Part{}, a.Err
	}
	return *a.Part, a.Err
}

func (e *engine) Revert(ctx context.Context, to uint64, d driver.Choice) (driver.Result, error) {
	return result(e.call(ctx, "Revert", &calls.Call{Method: calls.Revert, Sequence: to, Choice: d}))
}

func (e *engine) Undo(ctx context.Context, d driver.Choice) (driver.Result, error) {
	return result(e.call(ctx, "Undo", &calls.Call{Method: calls.Undo, Choice: d}))
}

func (e *engine) Redo(ctx context.Context, d driver.Choice) (driver.Result, error) {
	return result(e.call(ctx, "Redo", &calls.Call{Method: calls.Redo, Choice: d}))
}

func (e *engine) AddNote(ctx context.Context, note *journal.KeyRecord) error {
	return e.call(ctx, "AddNote", &calls.Call{Method: calls.AddNote, Note: note}).Err
}

// patience is how long methods without a context wait for another node.
const patience = 2 * time.Second

// Newest asks the node that has the engine. If that does not answer in time, it returns the newest
// sequence that an answer had.
func (e *engine) Newest() uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a := e.call(ctx, "Newest", &calls.Call{Method: calls.Newest})
	if a.Err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.newest
	}
	return a.Result.Sequence
}

// Place asks the node that has the engine. If that does not answer in time, it is nowhere.
func (e *engine) Place() driver.Place {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return e.call(ctx, "Place", &calls.Call{Method: calls.Place}).Place
}

func (e *engine) Reopen(ctx context.Context) error {
	return e.call(ctx, "Reopen", &calls.Call{Method: calls.Reopen}).Err
}

// Close ends what this program does with the engine. Other programs may go on with it, so it stays
// open where it is until nobody has called it for a while.
func (e *engine) Close(ctx context.Context) error {
	if err := e.ready(ctx, "Close"); err != nil {
		return err
	}
	e.end()
	return nil
}

// end takes no further calls.
func (e *engine) end() {
	e.ending.Do(func() {
		close(e.closed)
		e.host.forget(e)
		e.listeners.end(e.name)
	})
}

// Delete closes the engine and forgets its journal.
func (e *engine) Delete(ctx context.Context) error {
	if err := e.Close(ctx); err != nil && !isShutdown(err) {
		return err
	}
	return e.host.Delete(ctx, e.name)
}

func isShutdown(err error) bool { return host.CodeOf(err) == host.ErrShutdown.Code }

// Shutdown shuts the host down.
func (e *engine) Shutdown(ctx context.Context) error { return e.host.Shutdown(ctx) }

// maxQueued is how many calls of DispatchAsync wait for an engine at most, if
// Options.Host.MaxQueue does not say.
func (e *engine) maxQueued() int { return cmp.Or(e.host.o.Host.MaxQueue, host.DefaultMaxQueue) }
