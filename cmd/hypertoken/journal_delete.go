package main

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
	"hypertoken/internal/printable"
)

func newJournalDelete() *cobra.Command {
	var f journalFlags
	c := &cobra.Command{
		Use:   "delete (--data DIR | --server URL) NAME...",
		Short: "Forget journals, with all their history",
		Long: `delete forgets the journals of these names, with all their history. It does not ask, and nothing brings
them back, except a backup that was made before. The names are free again.

The room on the disk comes back little by little; 'hypertoken journal compact' gives it back at
once. The bytes are gone from the disk only then, and not from backups.

delete ends at the first name that no journal has. The journals before it are deleted, each with a
line on standard output.

Exit status: 0 if all are deleted, 1 if one is not, 2 for wrong usage.`,
		Example: `  hypertoken journal delete --data games table
  hypertoken journal delete --server http://127.0.0.1:9464 table other`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) (err error) {
			asks, err := f.asksServer()
			if err != nil {
				return err
			}
			var remove func(ctx context.Context, name string) error
			if asks {
				client, err := f.client()
				if err != nil {
					return err
				}
				remove = client.Delete
			} else {
				store, err := f.open()
				if err != nil {
					return err
				}
				defer closeJournals(store, &err)
				remove = func(ctx context.Context, name string) error {
					if _, err := journals.Find(ctx, store, name); err != nil {
						return err
					}
					return journals.Delete(ctx, store, name)
				}
			}
			for _, name := range names {
				if err := remove(c.Context(), name); err != nil {
					return err
				}
				if _, err := fmt.Fprintf(c.OutOrStdout(), "deleted %s\n", printable.Line(name, 0)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.register(c)
	return c
}

func newJournalCompact() *cobra.Command {
	var f journalFlags
	c := &cobra.Command{
		Use:   "compact --data DIR",
		Short: "Give back the room of what was deleted",
		Long: `compact rewrites the files of a directory, so that they take no room for what was deleted. A server
does that by itself in the long run; compact does it at once. It takes room for a second copy until
it ends, and time for reading and writing everything. A signal stops it, and nothing is lost.

Exit status: 0 for success, 1 if it could not be done, 2 for wrong usage.`,
		Example: `  hypertoken journal compact --data games`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			before, err := journals.Size(f.data)
			if err != nil && f.data != "" {
				return usageError{fmt.Errorf("--data: %w", err)}
			}
			store, err := f.open()
			if err != nil {
				return err
			}
			err = newProgress(c.ErrOrStderr()).during("compacting", func() error { return store.Compact(c.Context()) })
			closeJournals(store, &err) // the files that are not needed any more are gone then
			if err != nil {
				return err
			}
			after, err := journals.Size(f.data)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s before, %s now\n", humanize.IBytes(before),
				humanize.IBytes(after))
			return err
		},
	}
	f.registerData(c)
	return c
}
