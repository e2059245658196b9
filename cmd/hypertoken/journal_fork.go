package main

import (
	"github.com/spf13/cobra"

	"hypertoken/host"
	"hypertoken/internal/journals"
)

func newJournalFork() *cobra.Command {
	var f journalFlags
	var replay replayFlags
	var at uint64
	var asJSON bool
	c := &cobra.Command{
		Use:   "fork (--data DIR | --server URL) [flags] NAME NEW",
		Short: "Make another game of the state that a game has, or had",
		Long: `fork makes the game NEW of the state of the game NAME: the newest, or that of the sequence --at. NEW
has the sequence 0, and no keys. Its journal begins with a marker that says where it comes from. NAME
is not changed, and the two have nothing to do with each other from then on.

A fork costs what the state takes, however long the history of NAME is.

It writes the sequence and the digest of NEW; with --json as an object with sequence and digest.

Exit status: 0 for success, 1 if there is no such state or the name NEW is taken, 2 for wrong usage.`,
		Example: `  hypertoken journal fork --data games table table-what-if --at 500
  hypertoken journal fork --server http://127.0.0.1:9464 table copy-of-table`,
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			asks, err := f.asksServer()
			if err != nil {
				return err
			}
			hasAt := c.Flags().Changed("at")
			var p journals.Position
			if asks {
				client, err := f.client()
				if err != nil {
					return err
				}
				if p, err = client.Fork(c.Context(), args[0], at, hasAt, args[1]); err != nil {
					return err
				}
			} else {
				err := withHost(c, &f, &replay, args[0], func(h *host.Host) error {
					if !hasAt {
						stored, err := h.Stored(c.Context(), args[0], "", 1)
						if err != nil {
							return err
						}
						at = stored[0].Sequence // withHost has found it
					}
					created, err := h.Fork(c.Context(), args[0], at, args[1])
					p = positionOf(created)
					return err
				})
				if err != nil {
					return err
				}
			}
			return writePosition(c.OutOrStdout(), args[1], p, asJSON)
		},
	}
	f.register(c)
	replay.register(c)
	c.Flags().Uint64Var(&at, "at", 0, "the `sequence` of the state (default the newest)")
	c.Flags().BoolVar(&asJSON, "json", false, "write a JSON object")
	return c
}
