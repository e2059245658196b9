package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
	"hypertoken/internal/printable"
	"hypertoken/journal/disk"
	"hypertoken/wasm"
)

// replayFlags are the flags of commands that replay journals in this process.
type replayFlags struct {
	cacheDir  string
	coreFiles []string
	memory    byteSize
}

func (f *replayFlags) register(c *cobra.Command) {
	f.memory = 1 << 30
	c.Flags().StringArrayVar(&f.coreFiles, "core", nil,
		"a `file` with a core that the store may not have; may be given several times")
	c.Flags().StringVar(&f.cacheDir, "cache-dir", "",
		"keep compiled code in this `directory`, \"off\" for nowhere (default the user's cache)")
	c.Flags().Var(&f.memory, "max-engine-memory", "how much memory an engine may take")
}

// options returns what the flags say. The caller closes the cache, which may be nil, at the end.
func (f *replayFlags) options(stderr io.Writer) (o journals.Options, err error) {
	if f.memory < 2<<20 || f.memory > 4<<30 {
		return o, usageError{fmt.Errorf("--max-engine-memory is %s, want 2 MiB to 4 GiB", f.memory.String())}
	}
	builtin := wasm.Builtin()
	o.MemoryLimit = uint64(f.memory)
	o.Cores = map[string][]byte{wasm.Hash(builtin): builtin}
	for _, file := range f.coreFiles {
		code, err := os.ReadFile(file)
		if err != nil {
			return o, usageError{fmt.Errorf("--core: %w", err)}
		}
		o.Cores[wasm.Hash(code)] = code
	}
	o.Cache = openCache(f.cacheDir, stderr)
	return o, nil
}

// openCache opens the directory for compiled code, the user's if dir is empty. If it can't be
// used, the cores are compiled anew, and a line says so.
func openCache(dir string, stderr io.Writer) *wasm.Cache {
	if dir == "off" {
		return nil
	}
	var err error
	if dir == "" {
		dir, err = wasm.DefaultCacheDir()
	}
	var cache *wasm.Cache
	if err == nil {
		cache, err = wasm.OpenCache(dir)
	}
	if err != nil {
		fmt.Fprintf(stderr, "hypertoken: compiled code is not kept: %s\n", printable.Text(err.Error()))
	}
	return cache
}

// stateReader returns the state of a game at a sequence; the newest if hasAt is false.
type stateReader func(ctx context.Context, name string, at uint64, hasAt bool) (journals.State, error)

// readStates calls f with what reads states from the directory or the server that the flags name.
func readStates(c *cobra.Command, f *journalFlags, replay *replayFlags, read func(stateReader) error) error {
	asks, err := f.asksServer()
	if err != nil {
		return err
	}
	if asks {
		for _, flag := range []string{"core", "cache-dir", "max-engine-memory"} {
			if c.Flags().Changed(flag) {
				return usageError{fmt.Errorf("--%s goes with --data: a server replays by the cores that it has", flag)}
			}
		}
		client, err := f.client()
		if err != nil {
			return err
		}
		return read(client.StateAt)
	}
	return readGames(c, f, replay, func(r *journals.Reader) error {
		return read(func(ctx context.Context, name string, at uint64, hasAt bool) (journals.State, error) {
			if hasAt {
				return r.StateAt(ctx, name, at)
			}
			game, err := r.Game(ctx, name)
			if err != nil {
				return journals.State{}, err
			}
			return r.StateAt(ctx, name, game.Newest())
		})
	})
}

// readGames calls f with a reader of the directory that the flags name.
func readGames(c *cobra.Command, f *journalFlags, replay *replayFlags, read func(*journals.Reader) error) error {
	return readStore(c, f, replay, func(_ *disk.Store, r *journals.Reader) error { return read(r) })
}

// readStore calls f with the store of the directory that the flags name, and a reader of it.
func readStore(
	c *cobra.Command, f *journalFlags, replay *replayFlags, read func(*disk.Store, *journals.Reader) error,
) (err error) {
	options, err := replay.options(c.ErrOrStderr())
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(c.Context())
	defer func() { _ = options.Cache.Close(ctx) }()
	store, err := f.open()
	if err != nil {
		return err
	}
	defer closeJournals(store, &err)
	r := journals.NewReader(store, options)
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	return read(store, r)
}
