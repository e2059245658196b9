package torture

import (
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/host"
)

// The torture and the process of a host that it kills speak JSON over the process's standard input
// and output: first a hostOrder, then questions one way and replies the other, in any order.

// hostOrder tells the process which host to run.
type hostOrder struct {
	Dir      string
	CorePath string
	Workers  int
	Debug    bool
	Doom     doom
	Tuning   hostTuning
}

// hostTuning are options that each host has another value of. They change when bases are made and
// when journals are loaded, and nothing that callers are told.
type hostTuning struct {
	SnapshotBytes int
	IdleAfter     time.Duration
	// SyncsInterval says that the store syncs by an interval and not always. A kill loses nothing
	// then, too.
	SyncsInterval bool
}

func drawTuning(r *rand.Rand) hostTuning {
	return hostTuning{SnapshotBytes: []int{64, hostSnapshotBytes, 64 << 10}[r.IntN(3)],
		IdleAfter: []time.Duration{time.Millisecond, -1}[r.IntN(2)], SyncsInterval: r.IntN(4) == 0}
}

// The kinds of questions.
const (
	askAction   = "action"
	askBatch    = "batch"
	askRewind   = "rewind"
	askState    = "state"
	askPosition = "position"
	askJournal  = "journal"
	askClose    = "close"
	askDelete   = "delete"
)

// question is a call of an engine.
type question struct {
	ID     uint64
	What   string
	Engine string
	// Opening says how the engine is opened if it is not open. The first question about an engine
	// in a session has it.
	Opening *hostOpening  `json:",omitempty"`
	Actions []askedAction `json:",omitempty"`
	Mode    host.BatchMode
	Key     string // of the action, or of the whole batch
}

// hostOpening are the options of an engine.
type hostOpening struct {
	Setup []byte
	// Exists says that a caller was told of this engine, so that the store has to know it.
	Exists  bool
	Gathers bool
	Mode    host.BatchMode
}

// askedAction is an action in a question.
type askedAction struct {
	Kind    string
	Payload []byte
	Now     int64
	Entropy [16]byte
	To      uint64 // of a revert
}

func (a *askedAction) options() []host.DispatchOption {
	return []host.DispatchOption{host.Now(time.UnixMilli(a.Now)), host.Entropy(a.Entropy)}
}

// reply is the answer to a question.
type reply struct {
	ID       uint64
	Outcomes []toldOutcome `json:",omitempty"`
	Position host.Position
	Journal  []host.Entry `json:",omitempty"`
	Err      *toldError   `json:",omitempty"`
	// Workers are the processes of the host's workers. Some replies have them.
	Workers []int `json:",omitempty"`
}

// toldOutcome is the outcome of an action.
type toldOutcome struct {
	Sequence uint64
	Changed  bool
	Hash     uint64
	// Placement is the identifier that space:place has made.
	Placement string     `json:",omitempty"`
	Err       *toldError `json:",omitempty"`
}

// toldError is an error of the host or of the core.
type toldError struct {
	Code, Message string
	IsCore        bool // the core's own
}

func tellOutcome(kind string, r host.Result, err error) toldOutcome {
	o := toldOutcome{Sequence: r.Sequence, Changed: r.Changed, Hash: xxhash.Sum64(r.Raw), Err: tellError(err)}
	if err == nil && kind == "space:place" {
		o.Placement = madePlacement(r)
	}
	return o
}

func (o *toldOutcome) outcome() outcome {
	return outcome{o.Sequence, o.Changed, o.Hash, o.Err.err()}
}

func tellError(err error) *toldError {
	var core *host.ActionError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &core):
		return &toldError{core.Code, core.Message, true}
	}
	code := host.CodeOf(err)
	return &toldError{Code: code, Message: strings.TrimPrefix(err.Error(), code+": ")}
}

// err returns the error, such that errors.Is and errors.As know it.
func (e *toldError) err() error {
	switch {
	case e == nil:
		return nil
	case e.IsCore:
		return &host.ActionError{Code: e.Code, Message: e.Message}
	}
	return &host.Error{Code: e.Code, Message: e.Message}
}
