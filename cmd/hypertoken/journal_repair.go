package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
	"hypertoken/internal/printable"
	"hypertoken/journal/disk"
)

func newJournalRepair() *cobra.Command {
	var f journalFlags
	c := &cobra.Command{
		Use:   "repair --data DIR",
		Short: "Make a directory open again whose log is damaged",
		Long: `repair is for a directory that does not open because a log in it is damaged. A server says so when it
starts. If there is a backup that is new enough, restore it instead.

repair cuts each damaged log before the first record that cannot be read. It keeps what the log was
beside it, with the ending .damaged. What was cut off is lost:

  An engine whose newest actions were there goes on before them.
  An engine that misses actions in the middle is damaged. What came before can still be read.
  An engine that was created there is gone, and one that was deleted there is back.
  All others are whole.

Then it opens the directory, to see whether more is damaged. If all logs are whole, it changes
nothing. 'hypertoken journal verify' checks what is left.

Exit status: 0 if the directory opens, 1 if it does not, 2 for wrong usage.`,
		Example: `  cp -a games games.before
  hypertoken journal repair --data games
  hypertoken journal verify --data games`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			// The outcome is printed below.
			cut, err := disk.Repair(f.data, disk.Options{Logger: slog.New(slog.DiscardHandler)})
			for _, log := range cut {
				fmt.Fprintf(c.OutOrStdout(), "cut %s: %s are left, %s are lost; %s is what it was\n",
					printable.Line(log.Log, 0), humanize.IBytes(uint64(log.Kept)), humanize.IBytes(uint64(log.Cut)),
					printable.Line(log.Saved, 0))
			}
			if err != nil {
				return f.explain(err)
			}
			store, err := f.open()
			if err != nil {
				return fmt.Errorf("the logs are whole, and the directory does not open: restore a backup: %w", err)
			}
			n := 0
			for _, listErr := range journals.List(c.Context(), store, "", "") {
				if err = listErr; err != nil {
					break
				}
				n++
			}
			if err = errors.Join(err, store.Close()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d logs were cut; the directory opens, with %d journals\n", len(cut),
				n)
			return err
		},
	}
	f.registerData(c)
	return c
}
