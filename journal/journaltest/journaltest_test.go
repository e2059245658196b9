package journaltest_test

import (
	"testing"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

func TestTheStoreInMemory(t *testing.T) {
	journaltest.Run(t, func(*testing.T) journal.Store { return journal.NewMemory() })
}

func TestTheStoreInMemoryWithAHistory(t *testing.T) {
	journaltest.Run(t, func(*testing.T) journal.Store { return journal.NewMemoryWith(journal.MemoryOptions{}) })
}
