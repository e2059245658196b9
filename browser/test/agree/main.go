// Command agree opens a snapshot that a browser has made, on a worker of Go's host, and tells what it finds there: for tests. Its
// standard input is {"snapshot": base64}; its standard output is the digest, a snapshot of Go's own after
// some actions, and the digest that belongs to that.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"hypertoken/host"
	"hypertoken/wasm"
	"hypertoken/workerproc"
)

// opened is a store with one engine, whose base is a snapshot. It hands on the next one.
type opened struct {
	host.Store
	data []byte
	next chan host.Base
}

func (s *opened) Load(_ string, _ host.Owner, done func(*host.Stored, error)) {
	done(&host.Stored{Base: host.Base{Snapshot: true, Data: s.data, Core: wasm.Hash(wasm.Builtin())}}, nil)
}

func (s *opened) Append(_ string, _ host.Owner, _ uint64, _ []host.Record, done host.Done) {
	done.Done(nil)
}

func (s *opened) Install(_ string, _ host.Owner, base host.Base, done host.Done) {
	if base.Sequence > 0 {
		select {
		case s.next <- base:
		default: // one is enough
		}
	}
	done.Done(nil)
}

func main() {
	workerproc.Main()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "agree:", err)
		os.Exit(1)
	}
}

func run() error {
	var in struct{ Snapshot []byte }
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	ctx := context.Background()
	store := &opened{host.NewMemory(), in.Snapshot, make(chan host.Base, 1)}
	h, err := host.New(ctx, host.Options{Workers: 1, Store: store, SnapshotBytes: 1})
	if err != nil {
		return err
	}
	defer func() { _ = h.Shutdown(ctx) }()
	e, err := h.Open(ctx, "e", host.EngineOptions{})
	if err != nil {
		return err
	}
	before, err := e.Digest(ctx)
	if err != nil {
		return err
	}
	after := map[uint64]host.Digest{}
	for { // until the journal is worth a snapshot
		r, err := e.Dispatch(ctx, "stack:shuffle", map[string]any{"seed": 7})
		if err != nil {
			return err
		}
		if after[r.Sequence], err = e.Digest(ctx); err != nil {
			return err
		}
		select {
		case base := <-store.next:
			return json.NewEncoder(os.Stdout).Encode(map[string]any{"before": before.String(), "after": after[base.Sequence].String(), "snapshot": base.Data})
		default:
		}
	}
}
