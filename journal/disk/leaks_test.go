package disk

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Nothing runs any more once a store is closed, also after a failure.
func TestNothingIsLeftAfterClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for failAt := int64(0); failAt < 400; failAt += int64(deep(40, 1)) {
		injector := &failingFS{failAt: failAt, err: errDisk}
		o := memOptions(errorfs.Wrap(vfs.NewMem(), injector))
		o.memTable = 64 << 10
		s, err := Open("data", o)
		if err == nil {
			_ = playThrough(s, []*player{newPlayer(1, 1), newPlayer(2, 1)})
			if err := s.Close(); err != nil && s.Err() == nil {
				t.Errorf("call %d: %v", failAt, err)
			}
		}
		if err := goleak.Find(before); err != nil {
			t.Fatalf("call %d: %v", failAt, err)
		}
	}
}
