package torture

import (
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/host"
)

// action is an action with everything that it depends on, so that it can be run again.
type action struct {
	kind    string
	payload host.Raw
	now     int64
	entropy [16]byte
	key     string
	// conditional is true if the action runs only at the sequence ifSequence.
	conditional bool
	ifSequence  uint64
	// isRewind is true for a revert, an undo and a redo, which are no actions of the core. to is the
	// sequence of a revert.
	isRewind bool
	to       uint64
}

// The kinds of rewinds.
const (
	revertKind = "revert"
	undoKind   = "undo"
	redoKind   = "redo"
)

func (a *action) options() []host.DispatchOption {
	list := []host.DispatchOption{host.Now(time.UnixMilli(a.now)), host.Entropy(a.entropy)}
	if a.key != "" {
		list = append(list, host.Key(a.key))
	}
	return list
}

// outcome is the outcome of an action as its caller got it.
type outcome struct {
	sequence uint64
	changed  bool
	hash     uint64 // XXH64 of the result
	err      error
}

func outcomeOf(r host.Result, err error) outcome {
	return outcome{r.Sequence, r.Changed, xxhash.Sum64(r.Raw), err}
}

// form is the way in which actions were dispatched.
type form uint8

const (
	single form = iota
	atomicBatch
	independentBatch
	wholeState  // a question about the state: no action
	wholeDigest // a question about the digest of the state: no action
)

// isQuestion reports whether a call of the form has no action.
func (f form) isQuestion() bool { return f == wholeState || f == wholeDigest }

// call is a call of an engine by a caller, with its answer. Its times are in nanoseconds since the
// torture began.
type call struct {
	form       form
	start, end int64
	actions    []action
	outcomes   []outcome
	// mayEnd is true if the caller may have given up.
	mayEnd bool
}

// advances reports whether an acknowledged action is in the journal.
func (c *call) advances(k int) bool {
	o := &c.outcomes[k]
	return o.err == nil && !c.form.isQuestion() && (o.changed || c.actions[k].key != "")
}

// history has the calls of an engine, with the answers that the callers got. Each caller's calls
// are in the order of their dispatch.
type history struct {
	engine  string
	setup   host.Raw
	callers [][]*call
	// gathers is true if actions that are dispatched at the same time are gathered into one batch;
	// mode is the batch's mode.
	gathers bool
	mode    host.BatchMode
	// The engine's last answers, and the sequences of its events.
	last    outcome
	digest  host.Digest
	journal []host.Entry
	events  []uint64
	dropped bool // events may be missing
}
