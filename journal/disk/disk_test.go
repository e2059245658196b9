package disk

import (
	"testing"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

func TestTheSuite(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Store { return openAt(t, t.TempDir(), Options{}) })
}

// openAt opens a store, and closes it when the test ends.
func openAt(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && s.Err() == nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}
