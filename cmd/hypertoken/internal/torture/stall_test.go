package torture

import (
	"testing"
	"time"
)

// A torture is stuck once a number has stood still for too long, and not while it grows.
func TestStall(t *testing.T) {
	slow, hasty := newStall(time.Hour), newStall(-1)
	for _, n := range []uint64{1, 1, 2} {
		if found := slow.look(n); found != nil {
			t.Errorf("%d within an hour: %v", n, found)
		}
	}
	if found := hasty.look(1); found != nil {
		t.Errorf("the number has grown: %v", found)
	}
	for range 2 {
		if found := hasty.look(1); len(found) != 1 || found[0].Fate != Stuck {
			t.Errorf("the number stands still: %v", found)
		}
	}
}
