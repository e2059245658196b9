package host

import (
	"context"
	"errors"
	"time"

	"github.com/cespare/xxhash/v2"

	"hypertoken/internal/driver"
	"hypertoken/journal"
)

// Import is an engine on its way into a host: entries that another host, or this one, has read with
// [Engine.JournalAt] and [Engine.History]. Nobody can see or open it before Commit. It is used by one
// goroutine at a time, and ends with Commit or Abort. If the process ends before, the name is free,
// and [Host.RemoveImports] frees what the store has of it.
type Import struct {
	host   *Host
	name   string
	engine *driver.Driver
	// sequence is that of the entry that was added last. running are the actions that have not been
	// checked, batch has the entries of the batch that is not complete yet.
	sequence uint64
	running  []runningEntry
	batch    []Entry
	err      error
}

// runningEntry is an action on its way, and what it has to give.
type runningEntry struct {
	call *driver.Call
	Entry
}

// mostRunning is how many actions of an import are on their way at most.
const mostRunning = 256

// Import begins the import of an engine from a base: the setup or the snapshot that its journal
// begins with. The base's Core is not looked at: this host's core runs what follows. Import fails
// with [ErrEngineExists] if the name is taken, with [ErrBadInput] for a base that no store has and if
// the store is no [journal.Renamer], and as [Host.Open] does.
func (h *Host) Import(ctx context.Context, name string, base journal.Base) (*Import, error) {
	if err := checkBase(&base); err != nil {
		return nil, err
	}
	if err := checkName("Import", name); err != nil {
		return nil, err
	}
	if err := h.engines.CanImport(ctx, name); err != nil {
		return nil, err
	}
	hidden, err := h.engines.ImportName(journal.ImportPrefix, name)
	if err != nil {
		return nil, err
	}
	e, err := h.engines.Open(ctx, hidden, base, driver.OpenOptions{Opening: driver.OpenNew})
	if err != nil {
		return nil, err
	}
	return &Import{host: h, name: name, engine: e, sequence: base.Sequence}, nil
}

// Add runs the next entry, and holds its sequence and its result's checksum against the entry. A
// marker sets the state, which has to have the marker's digest. A note is stored as it is. Add
// fails with [ErrDiverged] if the entry gives something else than it did, with [ErrBadInput] for a
// sequence that is not the next, and as [Engine.Dispatch] does. After a failure only Abort is left.
func (i *Import) Add(ctx context.Context, entry Entry) error {
	if i.err != nil {
		return i.err
	}
	i.err = i.add(ctx, entry)
	return i.err
}

func (i *Import) add(ctx context.Context, entry Entry) error {
	if entry.Note != nil {
		return i.addNote(ctx, entry)
	}
	if next := i.sequence + 1; entry.Sequence != next {
		return badInput("import %q: an entry of the sequence %d, the next one is %d", i.name, entry.Sequence, next)
	}
	i.sequence++
	if len(i.batch) > 0 && (entry.Marker != nil || entry.Batch != i.batch[0].Batch) {
		if err := i.runBatch(ctx); err != nil {
			return err
		}
	}
	switch {
	case entry.Marker != nil:
		return i.restore(ctx, entry)
	case entry.Batch > 0:
		i.batch = append(i.batch, entry)
		return nil
	}
	d := entry.choice()
	d.HasKey, d.Key = entry.Key != "", entry.Key
	c := new(driver.Call)
	i.engine.DispatchAsync(ctx, c, entry.Type, Raw(entry.Payload), d)
	i.running = append(i.running, runningEntry{c, entry})
	if len(i.running) < mostRunning {
		return nil
	}
	return i.waitForRunning(ctx)
}

// waitForRunning waits for the actions that are on their way, and checks them.
func (i *Import) waitForRunning(ctx context.Context) error {
	for k := range i.running {
		r, err := i.running[k].call.Wait(ctx)
		if err := i.check(&i.running[k].Entry, r, err); err != nil {
			return err
		}
	}
	i.running = i.running[:0]
	return nil
}

// choice returns what the action has to see again.
func (e *Entry) choice() driver.Choice {
	return driver.Choice{HasNow: true, Now: time.UnixMilli(e.Now), HasEntropy: true, Entropy: e.Entropy}
}

// check holds what an entry gave against what it was.
func (i *Import) check(entry *Entry, r driver.Result, err error) error {
	var refused *ActionError
	switch {
	case err != nil && !errors.As(err, &refused):
		return err
	case err != nil || r.Sequence != entry.Sequence || xxhash.Sum64(r.Raw) != entry.Checksum:
		return ErrDiverged.Because(err, "import %q: sequence %d, %s: it gives another result than it did", i.name,
			entry.Sequence, entry.Type)
	}
	return nil
}

// addNote stores what is remembered of a batch that had a key.
func (i *Import) addNote(ctx context.Context, entry Entry) error {
	if entry.Sequence != i.sequence || entry.Note.Sequence != i.sequence {
		return badInput("import %q: a note of the sequence %d, and the entry before it has %d", i.name,
			entry.Note.Sequence, i.sequence)
	}
	if len(i.batch) > 0 {
		if err := i.runBatch(ctx); err != nil {
			return err
		}
	}
	if err := i.waitForRunning(ctx); err != nil {
		return err
	}
	return i.engine.AddNote(ctx, entry.Note)
}

// restore sets the state to that of a marker.
func (i *Import) restore(ctx context.Context, entry Entry) error {
	if err := i.waitForRunning(ctx); err != nil {
		return err
	}
	base := *entry.Marker.Base
	base.Sequence, base.IsMarker, base.Details = entry.Sequence, true, entry.Marker.details()
	_, err := i.engine.Restore(ctx, base)
	return err
}

// runBatch runs the batch that is complete.
func (i *Import) runBatch(ctx context.Context) error {
	if err := i.waitForRunning(ctx); err != nil {
		return err
	}
	batch := i.batch
	i.batch = nil
	members := driver.Members{Len: len(batch), At: func(k int) driver.Member {
		return driver.Member{Type: batch[k].Type, Payload: Raw(batch[k].Payload), Choice: batch[k].choice()}
	}}
	r, err := i.engine.DispatchBatch(ctx, driver.Independent, members, driver.Choice{})
	if err != nil {
		return err
	}
	for k, o := range r.Outcomes {
		if err := i.check(&batch[k], o.Result, o.Err); err != nil {
			return err
		}
	}
	return nil
}

// Position returns the sequence and the digest of the state that the entries which were added so far
// lead to. A batch ends there.
func (i *Import) Position(ctx context.Context) (Position, error) {
	if i.err == nil && len(i.batch) > 0 {
		i.err = i.runBatch(ctx)
	}
	if i.err == nil {
		i.err = i.waitForRunning(ctx)
	}
	if i.err != nil {
		return Position{}, i.err
	}
	return positionOf(i.engine.Position(ctx, "Position"))
}

// Commit makes the engine known under its name, whole, and returns its position. It fails with
// [ErrEngineExists] if the name was taken meanwhile. Open opens the engine.
func (i *Import) Commit(ctx context.Context) (Position, error) {
	p, err := i.Position(ctx)
	if i.err != nil {
		return Position{}, i.err
	}
	i.err = badInput("import %q: it has ended", i.name)
	if err == nil {
		err = i.engine.Close(ctx)
	}
	if err == nil {
		err = i.host.engines.Rename(ctx, i.engine.Name(), i.name)
	}
	if err != nil {
		return Position{}, errors.Join(err, i.remove(ctx))
	}
	return p, nil
}

// Abort ends the import. The name stays free. After Commit it does nothing.
func (i *Import) Abort(ctx context.Context) error {
	isCommitted := i.host.engines.Find(i.engine.Name()) == nil
	i.err = badInput("import %q: it has ended", i.name)
	if isCommitted {
		return nil
	}
	return i.remove(ctx)
}

// remove removes what is stored.
func (i *Import) remove(ctx context.Context) error {
	if err := i.engine.Close(ctx); err != nil && !errors.Is(err, ErrShutdown) {
		return err
	}
	return i.host.engines.Delete(ctx, i.engine.Name())
}

// RemoveImports removes what the store has of imports that were broken off because their process
// ended, and returns how many there were. It must not be called while another host that uses the
// same store imports something. A program that imports calls it when it starts.
func (h *Host) RemoveImports(ctx context.Context) (removed int, err error) {
	const page = 100
	for {
		names, err := h.engines.Stored(ctx, journal.ImportPrefix, "", page)
		if err != nil {
			return removed, err
		}
		for _, info := range names {
			if err := h.engines.Delete(ctx, info.Name); err != nil {
				return removed, err
			}
			removed++
		}
		if len(names) < page {
			return removed, nil
		}
	}
}
