package driver

import (
	"encoding/binary"

	"hypertoken/internal/engine"
	"hypertoken/ipc"
)

// How an action or a batch gets the digest of the state that it leaves: a question that is queued
// directly behind it.

// digestBehind is the question for the digest behind an action or a batch. The engine's lock guards
// it.
type digestBehind struct {
	request engine.Request
	of      *Call
	// isHeld says that the outcome of the action is there and waits for the digest: it is result.
	isHeld bool
	result Result
	// hasEnded says that the question has ended; hasDigest that digest is that of the state of
	// sequence.
	hasEnded, hasDigest bool
	digest              uint64
	sequence            uint64
}

// waitForDigest makes the call wait for the digest of the state after it.
func (c *Call) waitForDigest() {
	c.behind = &digestBehind{of: c, request: engine.Request{Kind: ipc.Digest, What: c.request.What + ": its digest"}}
	c.behind.request.Owner = c.behind
}

// askDigest queues the question behind what was queued last, if the call has one and has not
// failed. The engine's lock is held.
func (c *Call) askDigest() {
	d := c.behind
	if d == nil || c.isResolved.Load() {
		return
	}
	r := &c.request
	d.request.Deadline, d.request.Allowed, d.request.Limit, d.request.Context = r.Deadline, r.Allowed, r.Limit,
		r.Context
	c.driver.enqueueLocked(&d.request)
}

// Complete takes in the digest. Without it the action keeps its outcome.
func (d *digestBehind) Complete(r *engine.Request, err error) {
	d.hasEnded = true
	if err == nil {
		d.hasDigest, d.sequence = true, r.Outcome.Sequence
		d.digest = binary.LittleEndian.Uint64(r.Outcome.Result)
	}
	if d.isHeld {
		d.of.resolveWithDigest(d.result, nil)
	}
}

// resolveWithDigest resolves a call whose outcome is there, once its digest is there, too. A state
// has the sequence of its action until another action is committed, so the sequence tells whether
// the digest is that of the action's state. The engine's lock is held.
func (c *Call) resolveWithDigest(r Result, err error) {
	if d := c.behind; d != nil && err == nil {
		if !d.hasEnded {
			d.isHeld, d.result = true, r
			return
		}
		if d.hasDigest && d.sequence == r.Sequence {
			r.HasDigest, r.Digest = true, d.digest
		}
	}
	c.discharge()
	c.resolve(r, err)
}
