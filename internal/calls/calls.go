// Package calls has what nodes of a cluster say to each other about calls of package host: the
// call of a method of an engine, and what it returned, both in MessagePack. Values of a game stay
// the bytes that they are.
package calls

import (
	"context"
	"time"

	"hypertoken/internal/driver"
	"hypertoken/journal"
)

// Method is what is called.
type Method string

// The methods. Those of an engine have the names of the methods of seam.Engine.
const (
	Dispatch    Method = "dispatch"
	Batch       Method = "batch"
	State       Method = "state"
	Position    Method = "position"
	StateAt     Method = "state-at"
	DigestAt    Method = "digest-at"
	Journal     Method = "journal"
	JournalAt   Method = "journal-at"
	ReadHistory Method = "history"
	Revert      Method = "revert"
	Undo        Method = "undo"
	Redo        Method = "redo"
	AddNote     Method = "note"
	Newest      Method = "newest"
	Place       Method = "place"
	Reopen      Method = "reopen"

	// Open creates or loads the engine, Fork makes it of another one. Delete forgets it.
	Open   Method = "open"
	Fork   Method = "fork"
	Delete Method = "delete"
)

// isRead has the methods that change nothing, so that they may be called again.
var isRead = map[Method]bool{State: true, Position: true, StateAt: true, DigestAt: true, Journal: true,
	JournalAt: true, ReadHistory: true, Newest: true, Place: true, Reopen: true}

// Call is a call of a method.
type Call struct {
	Method Method `msgpack:"m"`
	// ID names the call if its caller may withdraw it; "" otherwise.
	ID string `msgpack:"id,omitempty"`
	// Context is that of the caller, as long as the call is in the caller's process; nil
	// otherwise.
	Context context.Context `msgpack:"-"`
	// OwnKey is the key that the call gets once it is sent to another node, if it has none of its
	// own; "" for none.
	OwnKey string `msgpack:"-"`
	// Timeout is how long the engine may take, Within what is left of the time of the caller's
	// context; 0 for any time.
	Timeout time.Duration `msgpack:"t,omitempty"`
	Within  time.Duration `msgpack:"w,omitempty"`
	// Type is an action's, Payload its payload. Choice is of an action, a batch or a rewind.
	Type    string        `msgpack:"a,omitempty"`
	Payload []byte        `msgpack:"p,omitempty"`
	Value   any           `msgpack:"-"` // the payload as long as it is not encoded; nil otherwise
	Choice  driver.Choice `msgpack:"c"`
	// What is the name of the call in errors.
	What string `msgpack:"h,omitempty"`
	// Mode and Members are of a batch.
	Mode    driver.Mode `msgpack:"o,omitempty"`
	Members []Member    `msgpack:"b,omitempty"`
	// Sequence is that of a state, a part of a history, a revert or a fork.
	Sequence uint64 `msgpack:"s,omitempty"`
	// WantsDigest is of State.
	WantsDigest bool `msgpack:"d,omitempty"`
	// Note is of AddNote.
	Note *journal.KeyRecord `msgpack:"n,omitempty"`
	// Base is what Open creates an engine from, Opening says whether it may be stored already.
	// From is the engine that Fork copies.
	Base    *journal.Base  `msgpack:"e,omitempty"`
	Opening driver.Opening `msgpack:"g,omitempty"`
	From    string         `msgpack:"f,omitempty"`
}

// Member is an action of a batch.
type Member struct {
	Type    string        `msgpack:"a"`
	Payload []byte        `msgpack:"p"`
	Value   any           `msgpack:"-"`
	Choice  driver.Choice `msgpack:"c"`
	// Failure is why the payload could not be encoded.
	Failure *Failure `msgpack:"x,omitempty"`
}

// IsRead reports whether the call changes nothing.
func (c *Call) IsRead() bool { return isRead[c.Method] }

// MayRepeat reports whether the call may be sent again if it may have run.
func (c *Call) MayRepeat() bool {
	return c.IsRead() || c.Choice.HasKey || c.OwnKey != "" || c.Method == Open && c.Opening != driver.OpenNew
}

// Answer is what a call has returned.
type Answer struct {
	// Err is the error; nil if there was none. It is sent as Failure.
	Err     error    `msgpack:"-"`
	Failure *Failure `msgpack:"x,omitempty"`
	// Moved says that nothing of the call was done, because the node does not have the engine, or
	// can't use it now.
	Moved bool `msgpack:"m,omitempty"`

	Result   Result          `msgpack:"r"`
	Outcomes []Outcome       `msgpack:"o"`
	Stored   *journal.Stored `msgpack:"s,omitempty"`
	Batches  []journal.Batch `msgpack:"b,omitempty"`
	Part     *journal.Part   `msgpack:"p,omitempty"`
	Place    driver.Place    `msgpack:"l,omitempty"`
}

// Outcome is what became of a member of a batch.
type Outcome struct {
	Result  Result   `msgpack:"r"`
	Err     error    `msgpack:"-"`
	Failure *Failure `msgpack:"x,omitempty"`
}

// Result is a driver.Result.
type Result struct {
	Sequence  uint64 `msgpack:"s"`
	Changed   bool   `msgpack:"c,omitempty"`
	HasDigest bool   `msgpack:"h,omitempty"`
	Digest    uint64 `msgpack:"d,omitempty"`
	Raw       []byte `msgpack:"r,omitempty"`
}

// ResultOf returns a result as it is sent.
func ResultOf(r driver.Result) Result {
	return Result{r.Sequence, r.Changed, r.HasDigest, r.Digest, r.Raw}
}

// Driver returns the result as a driver returns it.
func (r Result) Driver() driver.Result {
	return driver.Result{Sequence: r.Sequence, Changed: r.Changed, HasDigest: r.HasDigest, Digest: r.Digest, Raw: r.Raw}
}
