package jetstream

import (
	"encoding/json"
	"fmt"

	"hypertoken/journal"
)

// Claims decides which slots a store may acquire, and is told which it has. The members and leases of
// a cluster are behind it. Its methods may be called by several goroutines at once.
type Claims interface {
	// MayClaim is called before the store acquires a slot. present is the slot's owner record; its Epoch
	// is 0 if nobody ever owned the slot. If MayClaim returns an error, the slot is not acquired, and
	// the calls that wanted it fail with that error. It should wrap [journal.ErrNotOwner] if another
	// node has the slot, or [journal.ErrUnavailable] if that is not known yet.
	MayClaim(slot int, present OwnerRecord) error
	// Acquired is called once the store owns a slot, Lost once it knows that it owns it no more. They
	// must not wait for anything.
	Acquired(slot int, record OwnerRecord)
	Lost(slot int)
}

// Leaser is a [Claims] that can say, without asking anybody, that the slots which the store has acquired
// are still its own: as long as HoldsLease returns true, no other store has acquired one of them. Then a
// barrier costs no write.
type Leaser interface{ HoldsLease() bool }

// OwnerRecord says which store owns a slot. It lies in the stream that the slot's journals are in. Its
// stream sequence is the fence: every write to the slot is bound to it.
type OwnerRecord struct {
	// Node and Address are those of the owner's Options.
	Node    string `json:"node"`
	Address string `json:"address,omitempty"`
	// Epoch grows by 1 with each owner record of the slot.
	Epoch uint64 `json:"epoch"`
	// Nonce tells two records of one owner apart.
	Nonce string `json:"nonce"`
	// Fence is the stream sequence of the record. It is not a part of the record's text.
	Fence uint64 `json:"-"`
}

// MovedError is returned for a call that needs a slot which another node has. It is a
// [journal.ErrNotOwner]. The call had no effect.
type MovedError struct {
	Slot  int
	Owner OwnerRecord
}

// Error implements error.
func (e *MovedError) Error() string {
	return fmt.Sprintf("jetstream: the slot %d belongs to the node %q (%s), epoch %d", e.Slot, e.Owner.Node,
		e.Owner.Address, e.Owner.Epoch)
}

// Unwrap says that the error is a [journal.ErrNotOwner].
func (e *MovedError) Unwrap() error { return journal.ErrNotOwner }

// claimAll allows all slots.
type claimAll struct{}

func (claimAll) MayClaim(int, OwnerRecord) error { return nil }
func (claimAll) Acquired(int, OwnerRecord)       {}
func (claimAll) Lost(int)                        {}

func parseOwner(b []byte, fence uint64) (r OwnerRecord, err error) {
	if err = json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("the owner record %q can't be read: %w", b, err)
	}
	r.Fence = fence
	return r, nil
}

func (r OwnerRecord) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and a number
	}
	return b
}
