package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/journals"
	"hypertoken/cmd/hypertoken/internal/jsonl"
	"hypertoken/host"
)

func newJournalImport() *cobra.Command {
	var f journalFlags
	var coreFile, cacheDir string
	var asJSON bool
	memory, maxLine := byteSize(1<<30), byteSize(1<<30)
	c := &cobra.Command{
		Use:   "import (--data DIR | --server URL) [flags] NAME [FILE|-]",
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

Exit status: 0 for success, 1 if the game was not imported, 2 for wrong usage.`,
		Example: `  hypertoken journal import --data games table table.jsonl
  hypertoken journal export --server http://old:9464 --from 0 table |
    hypertoken journal import --server http://new:9464 table`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			asks, err := f.asksServer()
			if err != nil {
				return err
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
				if coreFile != "" {
					return usageError{errors.New("--core goes with --data: a server has a core of its own")}
				}
				client, err := f.client()
				if err != nil {
					return err
				}
				if p, err = client.Import(c.Context(), args[0], in); err != nil {
					return err
				}
			} else if p, err = importInto(c, f.data, coreFile, cacheDir, memory, maxLine, args[0], in); err != nil {
				return err
			}
			return writePosition(c.OutOrStdout(), args[0], p, asJSON)
		},
	}
	f.register(c)
	c.Flags().StringVar(&coreFile, "core", "", "run the core in this WebAssembly `file` instead of the built-in one")
	c.Flags().StringVar(&cacheDir, "cache-dir", "",
		"keep compiled code in this `directory`, \"off\" for nowhere (default the user's cache)")
	c.Flags().Var(&memory, "max-engine-memory", "how much memory an engine may take")
	c.Flags().Var(&maxLine, "max-line", "how long a line may be")
	c.Flags().BoolVar(&asJSON, "json", false, "write a JSON object")
	return c
}

// importInto imports a game into a directory, by a host in this process.
func importInto(
	c *cobra.Command, dir, coreFile, cacheDir string, memory, maxLine byteSize, name string, in io.Reader,
) (p journals.Position, err error) {
	if maxLine < 1 {
		return p, usageError{errors.New("--max-line must be above 0")}
	}
	flags := hostFlags{data: dir}
	var code []byte
	if coreFile != "" {
		if code, err = os.ReadFile(coreFile); err != nil {
			return p, usageError{fmt.Errorf("--core: %w", err)}
		}
	}
	store, err := flags.openData(0)
	if err != nil {
		return p, err
	}
	defer closeJournals(store.disk, &err)
	replay := replayFlags{cacheDir: cacheDir, memory: memory}
	progress := newProgress(c.ErrOrStderr())
	defer progress.clear()
	return p, onHost(c, &replay, store.Store, code, func(h *host.Host) error {
		if err := removeImports(c.Context(), h, store, flags.logger()); err != nil {
			return err
		}
		lines := jsonl.NewReader(in, int(maxLine), "--max-line")
		added := 0
		return untilDone(c.Context(), func(ctx context.Context) error {
			i, err := jsonl.Import(ctx, h, name, lines.Next, func() {
				added++
				progress.show("%d lines", added)
			})
			if err != nil {
				return err
			}
			at, err := i.Commit(ctx)
			p = positionOf(at)
			return errors.Join(err, i.Abort(context.WithoutCancel(ctx))) // nothing to do after Commit
		})
	})
}
