// Command agree is for tests: it opens snapshots that a browser has made, each on a worker of the
// Go host. Its standard input is JSON, from names to snapshots in base64. Its standard output has
// for each name the digest of the opened state, a snapshot that the Go host has made after some
// more actions, and the digest of that state.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"hypertoken/host"
	"hypertoken/journal"
	"hypertoken/wasm"
	"hypertoken/workerproc"
)

// opened is a store whose bases are snapshots, by name. It hands on the next one of each.
type opened struct {
	journal.Store
	data map[string][]byte
	next map[string]chan journal.Base
}

func (s *opened) Load(name string, _ journal.Owner, done func(*journal.Stored, error)) {
	done(&journal.Stored{Base: journal.Base{Snapshot: true, Data: s.data[name], Core: wasm.Hash(wasm.Builtin())}}, nil)
}

func (s *opened) Append(_ string, _ journal.Owner, _ uint64, _ []journal.Record, done journal.Done) {
	done.Report(nil)
}

func (s *opened) Install(name string, _ journal.Owner, base journal.Base, done journal.Done) {
	if base.Sequence > 0 {
		select {
		case s.next[name] <- base:
		default: // one is enough
		}
	}
	done.Report(nil)
}

func main() {
	workerproc.Main()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "agree:", err)
		os.Exit(1)
	}
}

type found struct {
	Before   string `json:"before"`
	After    string `json:"after"`
	Snapshot []byte `json:"snapshot"`
}

func run() error {
	store := &opened{Store: journal.NewMemory(), next: map[string]chan journal.Base{}}
	if err := json.NewDecoder(os.Stdin).Decode(&store.data); err != nil {
		return err
	}
	for name := range store.data {
		store.next[name] = make(chan journal.Base, 1)
	}
	ctx := context.Background()
	h, err := host.New(ctx, host.Options{Workers: 2, Store: store, SnapshotBytes: 1})
	if err != nil {
		return err
	}
	defer func() { _ = h.Shutdown(ctx) }()
	all := map[string]found{}
	for name := range store.data {
		if all[name], err = agree(ctx, h, name, store.next[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

func agree(ctx context.Context, h *host.Host, name string, next <-chan journal.Base) (found, error) {
	e, err := h.Open(ctx, name, host.EngineOptions{})
	if err != nil {
		return found{}, err
	}
	before, err := e.Digest(ctx)
	if err != nil {
		return found{}, err
	}
	after := map[uint64]host.Digest{}
	for n := 0; ; n++ { // until the journal is worth a snapshot
		r, err := e.Dispatch(ctx, "game:setProperty", map[string]any{"key": "agreed", "value": n})
		if err != nil {
			return found{}, err
		}
		if after[r.Sequence], err = e.Digest(ctx); err != nil {
			return found{}, err
		}
		select {
		case base := <-next:
			return found{before.String(), after[base.Sequence].String(), base.Data}, nil
		default:
		}
	}
}
