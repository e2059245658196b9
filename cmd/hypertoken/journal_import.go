package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"hypertoken/host"
	"hypertoken/internal/journals"
	"hypertoken/internal/jsonl"
)

func newJournalImport() *cobra.Command {
	var f journalFlags
	var all, asJSON bool
	into := importFlags{memory: 1 << 30, maxLine: 1 << 30}
	c := &cobra.Command{
		Use:   "import (--data DIR | --server URL) [flags] (NAME [FILE|-] | --all FOLDER)",
		Short: "Make a game of an export, with its history",
		Long: `import makes the game NAME of the lines that 'hypertoken journal export' or GET
/v1/engines/OTHER/journal of a server has written. They come from a file, or from standard input.

Every action is run again. Its result has to have the checksum that the line says, and each state the
digest. If one differs, nothing is imported, and the error names the line. The game gets all that the
export has: the history with its markers, the keys, and what there is to undo and to redo.

Nobody sees the game before all of it is stored. If import is broken off, however that happens, the
name stays free.

With --data the actions run in this process, by the core of --core, or the built-in one. The directory
is made if there is none. With --server they run by the core of the server.

It writes the sequence and the digest of the game; with --json as an object with sequence and digest.
Progress is shown on a terminal.

With --all it makes a game of each file of a folder that 'hypertoken journal export --all' has filled.
A game that is there already and ends as its file does is left as it is. So if the command is broken
off, give it again: it goes on where it was. A game that can't be imported is named on standard error,
and the others are imported all the same. It writes how many games there were; with --json as an object
with imported, kept and failed. A node of a cluster is a server like any other; while the cluster
can't take a game, the command tries again for a minute.

Exit status: 0 for success, 1 if a game was not imported, 2 for wrong usage.`,
		Example: `  hypertoken journal import --data games table table.jsonl
  hypertoken journal export --server http://old:9464 --from 0 table |
    hypertoken journal import --server http://new:9464 table
  hypertoken journal import --server http://new:9464 --all folder`,
		Args: usageArgs(func(c *cobra.Command, args []string) error {
			if all {
				return cobra.ExactArgs(1)(c, args)
			}
			return cobra.RangeArgs(1, 2)(c, args)
		}),
		RunE: func(c *cobra.Command, args []string) error {
			asks, err := f.asksServer()
			if err != nil {
				return err
			}
			if asks && into.coreFile != "" {
				return usageError{errors.New("--core goes with --data: a server has a core of its own")}
			}
			if all {
				return importAll(c, &f, &into, asks, args[0], asJSON)
			}
			name := "-"
			if len(args) == 2 {
				name = args[1]
			}
			in, err := openFile(c.Context(), name, c.InOrStdin())
			if err != nil {
				return usageError{err}
			}
			defer func() { _ = in.Close() }()
			var p journals.Position
			if asks {
				client, err := f.client()
				if err != nil {
					return err
				}
				if p, err = client.Import(c.Context(), args[0], in); err != nil {
					return err
				}
				return writePosition(c.OutOrStdout(), args[0], p, asJSON)
			}
			progress := newProgress(c.ErrOrStderr())
			defer progress.clear()
			err = into.ontoDirectory(c, f.data, func(g directoryGames) (err error) {
				lines, added := jsonl.NewReader(in, g.maxLine, "--max-line"), 0
				p, err = importLines(c.Context(), g.host, args[0], lines, func() {
					added++
					progress.show("%d lines", added)
				})
				return err
			})
			if err != nil {
				return err
			}
			return writePosition(c.OutOrStdout(), args[0], p, asJSON)
		},
	}
	f.register(c)
	c.Flags().StringVar(&into.coreFile, "core", "", "run the core in this WebAssembly `file` instead of the built-in one")
	c.Flags().StringVar(&into.cacheDir, "cache-dir", "",
		"keep compiled code in this `directory`, \"off\" for nowhere (default the user's cache)")
	c.Flags().Var(&into.memory, "max-engine-memory", "how much memory an engine may take")
	c.Flags().Var(&into.maxLine, "max-line", "how long a line may be")
	c.Flags().BoolVar(&asJSON, "json", false, "write a JSON object")
	c.Flags().BoolVar(&all, "all", false, "import the games of a folder")
	return c
}

// importAll imports the games of a folder.
func importAll(c *cobra.Command, f *journalFlags, into *importFlags, asks bool, folder string, asJSON bool) error {
	m := mover{folder: folder, progress: newProgress(c.ErrOrStderr()), err: c.ErrOrStderr()}
	defer m.progress.clear()
	run := func(place gamePlace) error {
		m.place = place
		return m.importAll(c.Context())
	}
	var err error
	if asks {
		var client *journals.Client
		if client, err = f.client(); err == nil {
			err = run(serverGames{client})
		}
	} else {
		err = into.ontoDirectory(c, f.data, func(g directoryGames) error { return run(g) })
	}
	if err != nil {
		return err
	}
	return m.finish(c.OutOrStdout(), "imported", asJSON)
}

// importFlags say how games are imported into a directory.
type importFlags struct {
	coreFile, cacheDir string
	memory, maxLine    byteSize
}

// ontoDirectory calls use with the games of a directory, which is made if there is none, and a host in
// this process that imports more of them.
func (f *importFlags) ontoDirectory(c *cobra.Command, dir string, use func(directoryGames) error) (err error) {
	if f.maxLine < 1 {
		return usageError{errors.New("--max-line must be above 0")}
	}
	flags := hostFlags{data: dir}
	replay := replayFlags{cacheDir: f.cacheDir, memory: f.memory}
	var code []byte
	if f.coreFile != "" {
		if code, err = os.ReadFile(f.coreFile); err != nil {
			return usageError{fmt.Errorf("--core: %w", err)}
		}
		replay.coreFiles = []string{f.coreFile}
	}
	store, err := flags.openData(0)
	if err != nil {
		return err
	}
	defer closeJournals(store.disk, &err)
	options, err := replay.options(c.ErrOrStderr())
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(c.Context())
	defer func() { _ = options.Cache.Close(ctx) }()
	r := journals.NewReader(store.disk, options)
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	return onHost(c, &replay, store.Store, code, func(h *host.Host) error {
		if err := removeImports(c.Context(), h, store, flags.logger()); err != nil {
			return err
		}
		return use(directoryGames{store: store.disk, reader: r, host: h, maxLine: int(f.maxLine)})
	})
}

// importLines makes a game of lines, on a host. added is called for each.
func importLines(ctx context.Context, h *host.Host, name string, lines *jsonl.Reader, added func()) (
	p journals.Position, err error) {
	return p, untilDone(ctx, func(ctx context.Context) error {
		i, err := jsonl.Import(ctx, h, name, lines.Next, added)
		if err != nil {
			return err
		}
		at, err := i.Commit(ctx)
		p = positionOf(at)
		return errors.Join(err, i.Abort(context.WithoutCancel(ctx))) // nothing to do after Commit
	})
}
