package sqlitestore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hypertoken/examples/sqlitestore"
	"hypertoken/host"
	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

func TestTheSuite(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Store {
		store, err := sqlitestore.Open(filepath.Join(t.TempDir(), "games #1?.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		return store
	})
}

func TestWhatCanNotBeOpened(t *testing.T) {
	if _, err := sqlitestore.Open(t.TempDir()); err == nil {
		t.Error("a directory was opened as a file")
	}
}

// A game goes on after its program has ended and was started again.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "games")
	check(err)
	defer os.RemoveAll(dir)

	for range 2 {
		store, err := sqlitestore.Open(filepath.Join(dir, "games.db"))
		check(err)
		h, err := host.New(ctx, host.Options{InProcess: true, Store: store})
		check(err)
		table, err := h.Open(ctx, "table", host.EngineOptions{
			Setup: map[string]any{"stack": []map[string]any{{"id": "ace"}, {"id": "king"}}},
		})
		check(err)
		result, err := table.Dispatch(ctx, "stack:draw", nil)
		check(err)
		fmt.Println(result.Sequence)
		check(h.Shutdown(ctx))
		check(store.Close()) // after the host, which stores until its shutdown ends
	}
	// Output:
	// 1
	// 2
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
