package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hypertoken/internal/journals"
	"hypertoken/internal/jsonl"
	"hypertoken/internal/printable"
)

func newJournalExport() *cobra.Command {
	var f journalFlags
	var replay replayFlags
	var span jsonl.Span
	var output string
	var all, asJSON bool
	c := &cobra.Command{
		Use:   "export (--data DIR | --server URL) [flags] (NAME | --all --output FOLDER [PREFIX])",
		Short: "Write a game as JSON Lines that 'hypertoken run' plays again",
		Long: `export writes a journal as JSON Lines, to standard output or to a file. The first line is what the
game begins with: its setup, or a snapshot. Each further line is an action, with its clock, its
entropy, its sequence, and the checksum of the result that was acknowledged; or a marker, with the
state that it sets; or a note, with what is remembered of a batch that had a key.

  hypertoken run game.jsonl    plays the lines again, compares every result, and ends in the same
                               state

By default the export begins with the newest snapshot, which is all that is needed to go on. --from 0
exports everything that the store keeps; --from N begins with the newest snapshot at or before the
sequence N. --to ends with an earlier action than the newest.

With --server a running server exports the game, while it goes on. What is played meanwhile is not
exported. With --data the directory is read, and nothing is changed.

A file has its name once it is complete, and not before; one that was there is replaced then. With
--output a line on standard output says what was written; with --json it is an object with name,
lines and bytes. Progress is shown on a terminal.

With --all it writes each game whose name begins with PREFIX into a file of the folder --output, for
'hypertoken journal import --all'. A file that has all of its game is left as it is. So if the command
is broken off, give it again with the same flags: it goes on where it was. A game that can't be exported
is named on standard error, and the others are exported all the same. It writes how many games there
were; with --json as an object with exported, kept and failed.

Exit status: 0 for success, 1 if a game could not be exported, 2 for wrong usage.`,
		Example: `  hypertoken journal export --data games table --output table.jsonl
  hypertoken journal export --data games table --from 0 | gzip >table.jsonl.gz
  hypertoken journal export --server http://127.0.0.1:9464 table | hypertoken run
  hypertoken journal export --data games --all --from 0 --output folder`,
		Args: usageArgs(func(c *cobra.Command, args []string) error {
			if all {
				return cobra.MaximumNArgs(1)(c, args)
			}
			return cobra.ExactArgs(1)(c, args)
		}),
		RunE: func(c *cobra.Command, args []string) error {
			span.HasFrom, span.HasTo = c.Flags().Changed("from"), c.Flags().Changed("to")
			switch {
			case span.HasFrom && span.HasTo && span.To < span.From:
				return usageError{fmt.Errorf("--to is %d, below --from, which is %d", span.To, span.From)}
			case asJSON && output == "":
				return usageError{errors.New("--json goes with --output: the export itself is JSON already")}
			case all && output == "":
				return usageError{errors.New("--all goes with --output: each game is a file of that folder")}
			case all && span.HasTo:
				return usageError{errors.New("--all exports whole games, and --to is a sequence of one of them")}
			}
			if all {
				return exportAll(c, &f, &replay, span, output, args, asJSON)
			}
			asks, err := f.asksServer()
			if err != nil {
				return err
			}
			e := exporter{name: args[0], span: span, progress: newProgress(c.ErrOrStderr())}
			if output == "" && term.IsTerminal(int(os.Stdout.Fd())) {
				e.progress = &progress{} // the lines are the progress
			}
			export := e.fromServer
			if asks {
				if e.client, err = f.client(); err != nil {
					return err
				}
			} else {
				export = func(ctx context.Context) error {
					return readGames(c, &f, &replay, func(r *journals.Reader) error { return e.fromReader(ctx, r) })
				}
			}
			if output == "" {
				return e.to(c.OutOrStdout(), func() error { return export(c.Context()) })
			}
			if err := e.toFile(output, func() error { return export(c.Context()) }); err != nil {
				return err
			}
			if asJSON {
				_, err = fmt.Fprintf(c.OutOrStdout(), `{"name":%s,"lines":%d,"bytes":%d}`+"\n", quoted(e.name), e.lines,
					e.bytes)
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d lines, %s\n", printable.Line(output, 0), e.lines,
				humanize.IBytes(e.bytes))
			return err
		},
	}
	f.register(c)
	replay.register(c)
	c.Flags().Uint64Var(&span.From, "from", 0,
		"begin with the newest snapshot up to this `sequence`, 0 for all that is kept (default the newest snapshot)")
	c.Flags().Uint64Var(&span.To, "to", 0, "end with the action of this `sequence` (default the newest)")
	c.Flags().StringVarP(&output, "output", "o", "", "write to this `file` (default standard output)")
	c.Flags().BoolVar(&asJSON, "json", false, "say what was written as a JSON object")
	c.Flags().BoolVar(&all, "all", false, "export all games into the folder --output")
	return c
}

// exportAll exports all games, or those whose names begin with the only argument.
func exportAll(c *cobra.Command, f *journalFlags, replay *replayFlags, span jsonl.Span, folder string, args []string,
	asJSON bool) error {
	m := mover{folder: folder, progress: newProgress(c.ErrOrStderr()), err: c.ErrOrStderr()}
	defer m.progress.clear()
	prefix := ""
	if len(args) == 1 {
		prefix = args[0]
	}
	err := withPlace(c, f, replay, func(place gamePlace) error {
		m.place = place
		return m.exportAll(c.Context(), prefix, span)
	})
	if err != nil {
		return err
	}
	return m.finish(c.OutOrStdout(), "exported", asJSON)
}

// exporter writes the lines of a journal.
type exporter struct {
	name     string
	span     jsonl.Span
	client   *journals.Client
	progress *progress
	out      *bufio.Writer
	lines    uint64
	bytes    uint64
}

// write writes a line.
func (e *exporter) write(line []byte) error {
	e.lines++
	e.bytes += uint64(len(line)) + 1
	e.progress.show("%d lines, %s", e.lines, humanize.IBytes(e.bytes))
	if _, err := e.out.Write(line); err != nil {
		return err
	}
	return e.out.WriteByte('\n')
}

// fromServer exports the journal of an engine of a server.
func (e *exporter) fromServer(ctx context.Context) error {
	query := url.Values{}
	if e.span.HasAfter {
		query.Set("after", strconv.FormatUint(e.span.After, 10))
	}
	if e.span.HasFrom {
		query.Set("from", strconv.FormatUint(e.span.From, 10))
	}
	if e.span.HasTo {
		query.Set("to", strconv.FormatUint(e.span.To, 10))
	}
	return e.client.Journal(ctx, e.name, query, e.write)
}

// fromReader exports a journal of a directory.
func (e *exporter) fromReader(ctx context.Context, r *journals.Reader) error {
	game, err := r.Game(ctx, e.name)
	if err != nil {
		return err
	}
	return jsonl.Export(ctx, game, e.span, e.write)
}

// to runs an export that goes to out.
func (e *exporter) to(out io.Writer, export func() error) error {
	e.out = bufio.NewWriterSize(out, 64<<10)
	defer e.progress.clear()
	return errors.Join(export(), e.out.Flush())
}

// toFile runs an export that goes to a file, which has its name once it is complete.
func (e *exporter) toFile(name string, export func() error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return usageError{fmt.Errorf("--output: %w", err)}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err := errors.Join(e.to(file, export), file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}
