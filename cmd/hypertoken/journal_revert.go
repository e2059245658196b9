package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hypertoken/host"
	"hypertoken/internal/journals"
	"hypertoken/internal/printable"
	"hypertoken/journal"
)

func newJournalRevert() *cobra.Command {
	var f journalFlags
	var replay replayFlags
	var to, ifSequence uint64
	var undo, redo, asJSON bool
	var key string
	c := &cobra.Command{
		Use:   "revert (--data DIR | --server URL) [flags] NAME",
		Short: "Take a game back to an earlier state",
		Long: `revert takes a game back to the state that it had at a sequence. --undo takes the last step back: an
action, a whole batch, or a revert. --redo does the step again that was undone last.

Nothing is lost: the journal gets one more entry, a marker, which sets the state. 'hypertoken journal
show' shows it, the states before it can still be read, and a revert can be undone like any step. Keys
that were used stay used.

With --server a running server does it, between two actions of the game; --if-sequence has it do so
only if the game still has that sequence, and with --key it happens once, however often it is sent.
With --data it is done in this process, by the core that the game is with.

It writes the sequence of the marker and the digest of the state; with --json as an object with
sequence and digest.

Exit status: 0 for success, 1 if it could not be done, 2 for wrong usage.`,
		Example: `  hypertoken journal revert --data games table --to 500
  hypertoken journal revert --server http://127.0.0.1:9464 table --undo
  hypertoken journal revert --server http://127.0.0.1:9464 table --to 41 --if-sequence 44`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			hasTo, hasCondition := c.Flags().Changed("to"), c.Flags().Changed("if-sequence")
			ways := 0
			for _, isGiven := range []bool{hasTo, undo, redo} {
				if isGiven {
					ways++
				}
			}
			if ways != 1 {
				return usageError{errors.New("name one of --to N, --undo and --redo")}
			}
			asks, err := f.asksServer()
			if err != nil {
				return err
			}
			var p journals.Position
			if asks {
				client, err := f.client()
				if err != nil {
					return err
				}
				line := rewindLine(undo, redo, to, key, ifSequence, hasCondition)
				if p, err = client.Rewind(c.Context(), args[0], line); err != nil {
					return err
				}
			} else {
				var options []host.DispatchOption
				if key != "" {
					options = append(options, host.Key(key))
				}
				if hasCondition {
					options = append(options, host.IfSequence(ifSequence))
				}
				err := withHost(c, &f, &replay, args[0], func(h *host.Host) error {
					at, err := rewind(c.Context(), h, args[0], undo, redo, to, options)
					p = positionOf(at)
					return err
				})
				if err != nil {
					return err
				}
			}
			return writePosition(c.OutOrStdout(), args[0], p, asJSON)
		},
	}
	f.register(c)
	replay.register(c)
	c.Flags().Uint64Var(&to, "to", 0, "go back to the state of this `sequence`")
	c.Flags().BoolVar(&undo, "undo", false, "take the last step back")
	c.Flags().BoolVar(&redo, "redo", false, "do the step again that was undone last")
	c.Flags().StringVar(&key, "key", "", "do it once, however often it is sent with this `key`")
	c.Flags().Uint64Var(&ifSequence, "if-sequence", 0, "do it only if the game has this `sequence`")
	c.Flags().BoolVar(&asJSON, "json", false, "write a JSON object")
	return c
}

// rewindLine returns the line that asks a server for it.
func rewindLine(undo, redo bool, to uint64, key string, ifSequence uint64, hasCondition bool) []byte {
	line := fmt.Appendf(nil, `{"revert":%d`, to)
	switch {
	case undo:
		line = []byte(`{"undo":true`)
	case redo:
		line = []byte(`{"redo":true`)
	}
	if key != "" {
		line = append(line, `,"key":`...)
		line = append(line, quoted(key)...)
	}
	if hasCondition {
		line = fmt.Appendf(line, `,"if_sequence":%d`, ifSequence)
	}
	return append(line, "}\n"...)
}

// rewind takes a stored game back.
func rewind(
	ctx context.Context, h *host.Host, name string, undo, redo bool, to uint64, options []host.DispatchOption,
) (at host.Position, err error) {
	e, err := h.Open(ctx, name, host.EngineOptions{Mode: host.OpenExisting})
	if err != nil {
		return at, err
	}
	switch {
	case undo:
		at, err = e.Undo(ctx, options...)
	case redo:
		at, err = e.Redo(ctx, options...)
	default:
		at, err = e.Revert(ctx, to, options...)
	}
	return at, errors.Join(err, e.Close(context.WithoutCancel(ctx)))
}

// withHost calls f with a host in this process on the directory of --data. Its core is the one that
// the game of this name is with.
func withHost(
	c *cobra.Command, f *journalFlags, replay *replayFlags, name string, use func(*host.Host) error,
) (err error) {
	options, err := replay.options(c.ErrOrStderr())
	if err != nil {
		return err
	}
	_ = options.Cache.Close(c.Context()) // the host opens one
	store, err := f.open()
	if err != nil {
		return err
	}
	defer closeJournals(store, &err)
	code, err := journals.CoreOf(c.Context(), store, options, name)
	if err != nil {
		return err
	}
	return onHost(c, replay, store, code, use)
}

// onHost calls use with a host in this process on a store.
func onHost(
	c *cobra.Command, replay *replayFlags, store journal.Store, code []byte, use func(*host.Host) error,
) (err error) {
	h, err := host.New(c.Context(), host.Options{InProcess: true, Store: store, Core: code, CacheDir: replay.cacheDir,
		MaxEngineMemory: int64(replay.memory), Logger: (&hostFlags{}).logger()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Shutdown(context.WithoutCancel(c.Context()))) }()
	return use(h)
}

// positionOf returns a position as a server tells it.
func positionOf(at host.Position) journals.Position {
	return journals.Position{Sequence: at.Sequence, Digest: at.Digest.String()}
}

// writePosition writes where a game is.
func writePosition(out io.Writer, name string, p journals.Position, asJSON bool) error {
	var err error
	if asJSON {
		_, err = fmt.Fprintf(out, `{"sequence":%d,"digest":%s}`+"\n", p.Sequence, quoted(p.Digest))
	} else {
		_, err = fmt.Fprintf(out, "%s: sequence %d, digest %s\n", printable.Line(name, 0), p.Sequence,
			printable.Line(p.Digest, 16))
	}
	return err
}

// quoted returns a string as JSON.
func quoted(s string) []byte {
	b, _ := json.Marshal(s) // a string always encodes
	return printable.AppendJSON(nil, b)
}
