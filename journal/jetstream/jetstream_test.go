package jetstream

import (
	"fmt"
	"sync/atomic"
	"testing"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

// names gives each store of the tests streams of its own.
var testNames atomic.Int64

func newName() string { return fmt.Sprint("test", testNames.Add(1)) }

func TestTheSuite(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Store {
		c := shared(t)
		s := openStore(t, c.options(newName()))
		t.Cleanup(func() {
			t.Logf("%+v", s.Stats())
			o := c.options(s.o.Name)
			again := openStore(t, o) // the suite may have closed the store
			dropStreams(t, again)
		})
		return s
	})
}
