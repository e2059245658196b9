package host

import "hypertoken/internal/driver"

// BatchMode says what the failure of one member of a batch means for the others.
type BatchMode int

const (
	// BatchAtomic is all or nothing: when one member fails, none has an effect.
	BatchAtomic BatchMode = iota
	// BatchIndependent runs every member, whatever becomes of the others.
	BatchIndependent
)

// String returns "atomic" or "independent".
func (m BatchMode) String() string { return driver.Mode(m).String() }

// Outcome is what became of a member of a batch: a result, or the error why it had no effect.
type Outcome struct {
	Result Result
	Err    error
}

// BatchResult is what a batch returns.
type BatchResult struct {
	// Outcomes has one for each member, in their order; nil if the batch failed as a whole.
	Outcomes []Outcome
	// Sequence is that of the state after the batch.
	Sequence uint64
	// Changed says whether any member changed the state.
	Changed bool
	// HasDigest says whether Digest is there, as Result.HasDigest does.
	HasDigest bool
	// Digest is that of the state right after the batch, if it was asked for by [WithDigest].
	Digest Digest
}

// membersOf returns the members of a batch, as a driver takes them.
func membersOf(list []Action) driver.Members {
	return driver.Members{Len: len(list), At: func(k int) driver.Member {
		return driver.Member{Type: list[k].Type, Payload: list[k].Payload, Choice: chosen(list[k].Options)}
	}}
}

// batchResultOf returns a driver's result of a batch as applications have it.
func batchResultOf(r driver.BatchResult) BatchResult {
	b := BatchResult{Sequence: r.Sequence, Changed: r.Changed, HasDigest: r.HasDigest, Digest: Digest(r.Digest)}
	if r.Outcomes != nil {
		b.Outcomes = make([]Outcome, len(r.Outcomes))
	}
	for k, o := range r.Outcomes {
		b.Outcomes[k] = Outcome{resultOf(o.Result), o.Err}
	}
	return b
}
