package jetstream

import (
	"time"

	"hypertoken/journal"
)

// callKind says which method of the store was called.
type callKind int

const (
	callLoad callKind = iota
	callAppend
	callInstall
	callDelete
	callRelease
	callBarrier
	callRename
	callReceive // a part of a rename: the call of the engine that gets the journal
)

// acquires returns whether a call of the kind acquires the engine's slot if the store does not own it.
func (k callKind) acquires() bool { return k == callLoad || k == callInstall || k == callDelete }

// call is a call of the store that needs the engine's slot.
type call struct {
	kind   callKind
	name   string
	owner  journal.Owner
	newest uint64           // of an append
	group  []journal.Record // of an append
	base   journal.Base     // of an install
	to     string           // of a rename
	giver  *engine          // of a receive: the engine that is renamed
	done   journal.Done
	loaded func(*journal.Stored, error) // of a load
	made   time.Time

	// isFresh says that the slot was acquired after the call was made. So it is known that the store
	// was the owner at some time after the call.
	isFresh bool
	// isConfirmed says the same, because a write of the call was stored or is not needed.
	isConfirmed bool
	// isCreation says that an install has found the name not to be known.
	isCreation bool
	// result is what a load has read; nil until then.
	result *loadResult
}

// loadResult is what a load has read: nothing if the name is not known.
type loadResult struct {
	stored *journal.Stored
	head   *head
	// epoch is the newest one in which a record that was read was written.
	epoch uint64
	err   error
}

// forget takes back what a call has learned, so that it can begin again.
func (c *call) forget() { c.isFresh, c.isConfirmed, c.isCreation, c.result = false, false, false, nil }

// report tells the caller how the call has ended.
func (c *call) report(stored *journal.Stored, err error) {
	if c.kind == callLoad {
		if err != nil {
			stored = nil
		}
		c.loaded(stored, err)
		return
	}
	c.done.Report(err)
}
