// Command measure measures the store on SQLite for hypertoken bench, which does not contain SQLite:
// go build -o measure ./measure, then hypertoken bench --sqlite FILE.
package main

import (
	"path/filepath"

	"hypertoken/examples/sqlitestore"
	"hypertoken/internal/storeload"
	"hypertoken/journal"
	"hypertoken/workerproc"
)

func main() {
	workerproc.Main()
	storeload.Main(open)
}

func open(dir string) (journal.Store, func() error, error) {
	store, err := sqlitestore.Open(filepath.Join(dir, "games.db"))
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}
