package disk

import (
	"context"
	"errors"
	"fmt"

	"hypertoken/journal"
)

// Compact rewrites all that is stored, so that the files take no room for what was deleted. The
// store does that by itself in the long run; Compact does it at once. Calls go on meanwhile. It
// takes room for a second copy until it ends: if the disk has not that much above
// Options.MinFree, it fails with [journal.ErrFull] and changes nothing. If ctx ends, it stops,
// and has its error; nothing is lost.
func (s *Store) Compact(ctx context.Context) (err error) {
	if err := errors.Join(s.Err(), ctx.Err()); err != nil {
		return err
	}
	if err := s.useDB(); err != nil {
		return err
	}
	defer s.inUse.Done()
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
		if failure := s.Err(); failure != nil {
			err = failure
		}
	}()
	s.measureUsed()
	st := s.Stats()
	if need := st.UsedBytes + s.o.MinFree; st.FreeBytes != 0 && st.FreeBytes < need {
		return fmt.Errorf("disk: compacting %s takes up to %d bytes beside the %d that stay free (Options.MinFree), and %d "+
			"are free: %w", s.dir, st.UsedBytes, s.o.MinFree, st.FreeBytes, journal.ErrFull)
	}
	if err := s.db.Compact(ctx, []byte{0}, []byte{0xff}, false); err != nil {
		return fmt.Errorf("disk: compacting %s: %w", s.dir, err)
	}
	return nil
}
