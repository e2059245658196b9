package host

import (
	"context"
	"fmt"
	"time"

	"hypertoken/internal/marker"
	"hypertoken/journal"
)

// EngineOptions configure an engine.
type EngineOptions struct {
	// Setup is what a new engine starts from: a map {stack, source} as the conformance traces have it, any value that
	// encodes to one, or [Raw]. nil is an empty engine. It is not used if the store knows the name already.
	Setup any
	// Snapshot is what a new engine starts from instead of Setup: a base that [Engine.JournalAt]
	// has returned, of this engine or of one elsewhere. The new engine has the base's sequence and
	// its keys. Its Core is not looked at. nil is none.
	Snapshot *journal.Base

	// Timeout is as Options.Timeout, which is its default.
	Timeout time.Duration
	// EnableBatching gathers what is dispatched within BatchWindow into one batch. Default Options.EnableBatching.
	EnableBatching bool
	// BatchWindow is how long a batch waits for more actions after its first. Default Options.BatchWindow.
	BatchWindow time.Duration
	// BatchMode is that of gathered batches. Default Options.BatchMode.
	BatchMode BatchMode

	// Mode says whether the engine has to be stored already. Default [OpenOrCreate].
	Mode OpenMode
}

// OpenMode says what [Host.Open] does with a name that the store knows, and with one that it does not
// know.
type OpenMode int

const (
	// OpenOrCreate loads an engine that the store knows, and creates any other.
	OpenOrCreate OpenMode = iota
	// OpenExisting loads an engine that the store knows. Open fails with [ErrEngineNotFound] for any
	// other.
	OpenExisting
	// OpenNew creates an engine. Open fails with [ErrEngineExists] if the store knows the name.
	OpenNew
)

// String returns "open or create", "existing" or "new".
func (m OpenMode) String() string {
	if m >= OpenOrCreate && m <= OpenNew {
		return [...]string{"open or create", "existing", "new"}[m]
	}
	return fmt.Sprintf("OpenMode(%d)", int(m))
}

// NewEngine returns an engine with a host of its own that has one worker: o configures the host,
// and its Workers are not used. It fails as [New] and [Host.Open] do. The caller calls Shutdown,
// which ends both.
func NewEngine(ctx context.Context, o Options, engine EngineOptions) (*Engine, error) {
	o.Workers = 1
	h, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	e, err := h.Open(ctx, "engine", engine)
	if err != nil {
		_ = h.Shutdown(context.WithoutCancel(ctx))
		return nil, err
	}
	return e, nil
}

// Open creates the engine of a name, or loads it if the store knows the name. It fails with
// [ErrBadInput] if an engine of that name is open, with an [*ActionError] if the core refuses the
// setup, and with [ErrCoreMismatch] if the journal of a stored engine needs another core to be
// replayed. EngineOptions.Mode makes it fail for names that the store knows, or does not know. It
// stores a new engine only once the core has taken the setup. If it fails after that, because ctx ends
// or the store fails, the engine may be stored.
func (h *Host) Open(ctx context.Context, name string, o EngineOptions) (*Engine, error) {
	base, err := h.prepare(name, &o)
	if err != nil {
		return nil, err
	}
	e, err := h.engines.Open(ctx, name, base, h.options.forEngine(&o))
	if err != nil {
		return nil, err
	}
	return &Engine{host: h, seam: e}, nil
}

// prepare checks a name and options, and returns what a new engine starts from.
func (h *Host) prepare(name string, o *EngineOptions) (journal.Base, error) {
	if o.Mode < OpenOrCreate || o.Mode > OpenNew {
		return journal.Base{}, badInput("Open: EngineOptions.Mode is %v, want OpenOrCreate, OpenExisting or OpenNew", o.Mode)
	}
	if err := checkName("Open", name); err != nil {
		return journal.Base{}, err
	}
	setup, err := h.options.encodeSetup(o.Setup)
	base := journal.Base{Data: setup}
	switch {
	case o.Snapshot == nil:
	case o.Setup != nil:
		err = badInput("Open: EngineOptions has a Setup and a Snapshot; give one of them")
	default:
		base = *o.Snapshot
		err = checkBase(&base)
	}
	return base, err
}

// checkName fails for a name that no engine may have.
func checkName(what, name string) error {
	switch {
	case name == "":
		return badInput("%s: an engine's name must not be empty", what)
	case name[0] == 0:
		return badInput("%s: an engine's name must not begin with a zero byte: %q", what, name)
	}
	return nil
}

// checkBase fails for a base that no store has.
func checkBase(base *journal.Base) error {
	if !base.Snapshot && base.Sequence > 0 {
		return badInput("Open: EngineOptions.Snapshot is a setup of the sequence %d; a setup has the sequence 0", base.Sequence)
	}
	number := uint64(0)
	for k := range base.Keys {
		r := &base.Keys[k]
		if r.Number <= number || r.Number > base.KeyNumber || r.Sequence > base.Sequence {
			return badInput("Open: EngineOptions.Snapshot: the key %d has the number %d and the sequence %d; numbers rise, up to "+
				"KeyNumber, which is %d, and no sequence is beyond that of the base, %d", k, r.Number, r.Sequence,
				base.KeyNumber, base.Sequence)
		}
		number = r.Number
		if r.Key == "" || r.Key[0] == 0 {
			return badInput("Open: EngineOptions.Snapshot: the key %d is %q; a key is not empty, and does not begin with a "+
				"zero byte", k, r.Key)
		}
	}
	if err := marker.CheckNeeds(base); err != nil {
		return ErrBadInput.Because(err, "Open: EngineOptions.Snapshot: %v", err)
	}
	return nil
}

// Delete forgets a closed engine for good. It fails with [ErrBadInput] where it is open; a name that is not known is
// no error.
func (h *Host) Delete(ctx context.Context, name string) error { return h.engines.Delete(ctx, name) }
