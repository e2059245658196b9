package torture

import (
	"context"
	"slices"
)

// What undos and redos have to lead to.

// stepAt is what is current at a sequence, and what can be redone there.
type stepAt struct {
	current uint64
	redo    []uint64
}

// stepsFollow holds the markers of the journal against a model of the steps: each undo leads to the
// step that was current before the one that it undoes, and each redo to what was undone last.
func (c *checker) stepsFollow() {
	steps := []stepAt{{}}
	first := map[uint64]uint64{} // the first sequences of steps that have several actions
	for _, entry := range c.journal {
		n := entry.Sequence
		if n != uint64(len(steps)) {
			return // a part of the journal is not here
		}
		was, is := steps[n-1], stepAt{current: n}
		if entry.Batch > 0 {
			first[n] = entry.Batch
		}
		if m := entry.Marker; m != nil {
			to := m.To
			switch p := c.changes[n]; {
			case p.call == nil:
			case p.action().kind == undoKind:
				begins := was.current
				if b := first[begins]; b > 0 {
					begins = b
				}
				if begins == 0 {
					c.find(Disordered, "change %d undoes something, and there was nothing to undo", n)
					return
				}
				to = steps[begins-1].current
				is = stepAt{to, append(slices.Clone(was.redo), was.current)}
			case p.action().kind == redoKind:
				last := len(was.redo) - 1
				if last < 0 {
					c.find(Disordered, "change %d redoes something, and there was nothing to redo", n)
					return
				}
				to = was.redo[last]
				is = stepAt{to, was.redo[:last]}
			default:
				to = p.action().to
			}
			if m.To != to || m.Current != is.current || !slices.Equal(m.Redo, is.redo) {
				c.find(Disordered, "change %d leads to %+v, want the state of %d and the steps %+v", n, m, to, is)
				return
			}
		}
		steps = append(steps, is)
	}
}

// revertModel sets the model to what a rewind has led to. It returns false if that is another state
// than its caller was told.
func (c *checker) revertModel(ctx context.Context, n uint64, p placed) bool {
	for _, entry := range c.journal {
		if entry.Sequence != n || entry.Marker == nil {
			continue
		}
		at, err := c.model.Revert(ctx, entry.Marker.To)
		if err != nil || at.Sequence != n || uint64(at.Digest) != p.outcome().hash {
			c.find(Diverged, "change %d, %s, has led to the digest %016x; again to %v, %v", n, p.action().kind,
				p.outcome().hash, at.Digest, err)
			return false
		}
		return true
	}
	c.find(Lost, "change %d, %s, is no marker in the journal", n, p.action().kind)
	return false
}
