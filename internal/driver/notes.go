package driver

import (
	"context"

	"hypertoken/ipc"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// AddNote stores what is to be remembered of a batch that had a key, as the history of an engine has
// it: the same batch with the same key gets the outcomes that the note has. It runs nothing. The
// note's Number is not looked at. AddNote fails with ErrDiverged unless the engine has the note's
// sequence, with ErrBadInput for a note that no batch leaves, with ErrKeyReused if the key belongs to
// something else, and as Dispatch does.
func (e *Driver) AddNote(ctx context.Context, note *journal.KeyRecord) error {
	const what = "a note"
	if err := checkNote(what, note); err != nil {
		return err
	}
	c := &Call{isHidden: true, driver: e}
	r := &c.request
	r.Kind, r.What, r.Note, r.Keyed = ipc.Batch, what, note, &journal.KeyRecord{Key: note.Key, Sum: note.Sum}
	c.setBounds(ctx, e)
	c.room.Size += int64(len(note.Result))
	if err := c.takeRoom(ctx); err != nil {
		return err
	}
	e.submit(c, true)
	_, err := c.await(ctx)
	return err
}

// checkNote fails unless the note has the outcomes of a batch.
func checkNote(what string, note *journal.KeyRecord) error {
	key := Choice{HasKey: true, Key: note.Key}
	if err := key.checkKey(what); err != nil {
		return err
	}
	for k, rest := 0, note.Result; len(rest) > 0; k++ {
		o, after, err := ipc.ReadMemberOutcome(rest)
		if err == nil && o.Code == "" {
			var n int
			if n, err = wasm.Scan(o.Result); err == nil && n != len(o.Result) {
				err = badInput("%d bytes follow its value", len(o.Result)-n)
			}
		}
		if err != nil {
			return badInput("%s: the outcome of the member %d of its batch can't be read: %v", what, k, err)
		}
		rest = after
	}
	return nil
}
