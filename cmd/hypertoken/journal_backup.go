package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
)

func newJournalBackup() *cobra.Command {
	var f journalFlags
	c := &cobra.Command{
		Use:   "backup (--data DIR TO | --server URL NAME)",
		Short: "Copy the journals, as of one moment",
		Long: `backup writes a copy of all journals, of one moment. The copy is a directory like any other: 'hypertoken
serve --data' plays on it, 'hypertoken journal' reads it. To restore, copy it to where the server
expects it, while the server is stopped.

With --data it copies a directory that no other program has open to the new directory TO. If both
are on one file system, large files are linked, which takes a moment and hardly any room.

With --server a running server makes the copy, while it goes on serving. The server decides where:
in the directory of its flag --backup-dir, under NAME. It needs a token. The copy has every action
that was answered before the command began. It is on the server's machine; take it elsewhere with
rsync or the like.

A backup has its name once it is complete, and not before. If it is broken off, a directory is
left whose name begins with .backup-, which you may remove.

Deleted journals stay in the backups that were made before.

Exit status: 0 for success, 1 if the backup was not made, 2 for wrong usage.`,
		Example: `  hypertoken journal backup --data games backups/monday
  hypertoken serve --data games --backup-dir backups --token-file token
  hypertoken journal backup --server http://127.0.0.1:9464 --token-file token monday`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) (err error) {
			asks, err := f.asksServer()
			if err != nil {
				return err
			}
			var bytes uint64
			p := newProgress(c.ErrOrStderr())
			if asks {
				client, err := f.client()
				if err != nil {
					return err
				}
				err = p.during("the server copies its journals", func() (err error) {
					bytes, err = client.Backup(c.Context(), args[0])
					return err
				})
				if err != nil {
					return err
				}
			} else {
				store, err := f.open()
				if err != nil {
					return err
				}
				defer closeJournals(store, &err)
				// The copy can't be interrupted: a signal ends the command once it is complete, a
				// second one at once.
				to := filepath.Clean(args[0])
				err = p.during("copying", func() (err error) {
					bytes, err = journals.Backup(store, filepath.Dir(to), filepath.Base(to))
					return err
				})
				if errors.Is(err, journals.ErrBackupName) || errors.Is(err, journals.ErrBackupExists) ||
					errors.Is(err, fs.ErrNotExist) {
					return usageError{err}
				}
				if err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", args[0], humanize.IBytes(bytes))
			return err
		},
	}
	f.register(c)
	return c
}

// during runs f, and shows meanwhile how long it has taken.
func (p *progress) during(what string, f func() error) error {
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	tick := time.NewTicker(time.Second / 5)
	defer tick.Stop()
	defer p.clear()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			p.show("%s: %v", what, time.Since(began).Round(time.Second))
		}
	}
}
