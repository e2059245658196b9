package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
	"hypertoken/journal"
	"hypertoken/journal/disk"
)

func newJournal() *cobra.Command {
	c := &cobra.Command{
		Use:   "journal",
		Short: "List, read, compare, export, check, back up and delete stored games",
		Long: `journal works on the directory in which 'hypertoken serve --data DIR' and 'hypertoken run
--data DIR' keep games. A game is a journal: what it began with, and every action since.

  hypertoken journal list --data games             the journals, with their size and age
  hypertoken journal show --data games table       the actions of one
  hypertoken journal state --data games table      its state, now or at an earlier sequence
  hypertoken journal diff --data games table --from 5   what has changed since then
  hypertoken journal export --data games table     as JSON Lines that 'hypertoken run' plays again
  hypertoken journal import --data games t2 FILE   a game of such lines, with its history
  hypertoken journal revert --data games table --undo   back by a step, or to a sequence
  hypertoken journal fork --data games table t3    another game of its state
  hypertoken journal verify --data games           replay all, and compare every result
  hypertoken journal backup --data games copy      copy the directory, as of one moment
  hypertoken journal delete --data games table     forget one, with all its history
  hypertoken journal compact --data games          give back the room of what was deleted
  hypertoken journal repair --data games           make a directory open again whose log is damaged

A directory is open in one program at a time. While a server has it, ask the server:

  hypertoken journal list --server http://127.0.0.1:9464
  hypertoken journal show --server http://127.0.0.1:9464 table --follow
  hypertoken journal backup --server http://127.0.0.1:9464 monday

All commands but verify, compact and repair take --server. verify reads a backup: have the
server make one, which takes a moment, and name it with --data. A backup is a directory like any
other. To restore it, copy it, and start a server with the copy. compact is for a directory that no
server has: a server gives room back by itself, little by little.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newJournalList(), newJournalShow(), newJournalState(), newJournalDiff(), newJournalExport(),
		newJournalImport(), newJournalRevert(), newJournalFork(), newJournalVerify(), newJournalBackup(),
		newJournalDelete(), newJournalCompact(), newJournalRepair())
	return c
}

// journalFlags say where the journals are: in a directory, or with a server that has it open.
type journalFlags struct {
	data, server, tokenFile, caFile string
}

func (f *journalFlags) registerData(c *cobra.Command) {
	c.Flags().StringVar(&f.data, "data", "", "the `directory` of the journals, which no other program has open")
}

func (f *journalFlags) register(c *cobra.Command) {
	f.registerData(c)
	flags := c.Flags()
	flags.StringVar(&f.server, "server", "", "ask the server at this `URL` instead, such as http://127.0.0.1:9464")
	flags.StringVar(&f.tokenFile, "token-file", "",
		"send the server the token in this `file` (default the variable HYPERTOKEN_TOKEN)")
	flags.StringVar(&f.caFile, "ca", "", "trust servers whose certificate this PEM `file` signed, and no others")
}

// asksServer reports whether a server is to be asked. It fails unless either a directory or a
// server is named.
func (f *journalFlags) asksServer() (bool, error) {
	switch {
	case f.data != "" && f.server != "":
		return false, usageError{errors.New("--data and --server exclude each other")}
	case f.data == "" && f.server == "":
		return false, usageError{errors.New("name the directory with --data, or the server that has it open with --server")}
	case f.server == "" && (f.tokenFile != "" || f.caFile != ""):
		return false, usageError{errors.New("--token-file and --ca go with --server")}
	}
	return f.server != "", nil
}

// client returns a client of the server.
func (f *journalFlags) client() (*journals.Client, error) {
	token, err := readToken(f.tokenFile)
	if err != nil {
		return nil, usageError{err}
	}
	ca, err := certificates(f.caFile)
	if err != nil {
		return nil, usageError{err}
	}
	client, err := journals.NewClient(f.server, token, ca)
	if err != nil {
		return nil, usageError{fmt.Errorf("--server: %w", err)}
	}
	return client, nil
}

// check fails unless --data names a directory that has journals. It writes nothing.
func (f *journalFlags) check() error {
	if f.data == "" {
		return usageError{errors.New("name the directory of the journals with --data")}
	}
	exists, err := disk.Exists(f.data)
	if err == nil && !exists {
		return usageError{fmt.Errorf("--data: %s has no journals; 'hypertoken serve --data DIR' begins some", f.data)}
	}
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	return nil
}

// open opens the directory of --data, which has to exist. The caller calls closeJournals.
func (f *journalFlags) open() (*disk.Store, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	s, err := disk.Open(f.data, disk.Options{Logger: slog.New(slog.NewTextHandler(standardError,
		&slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return nil, f.explain(err)
	}
	return s, nil
}

// explain says what to do if the directory could not be opened.
func (f *journalFlags) explain(err error) error {
	if errors.Is(err, disk.ErrLocked) {
		err = fmt.Errorf("%w; stop it, or ask it with --server URL, which all commands but verify, compact and "+
			"repair take. verify reads a backup: 'hypertoken journal backup --server URL NAME' makes one. "+
			"A server needs no compact: it gives room back by itself", err)
	}
	return fmt.Errorf("--data: %w", err)
}

// closeJournals closes a store. If the command has no other error, it has that of Close.
func closeJournals(s *disk.Store, err *error) {
	if closeErr := s.Close(); *err == nil {
		*err = closeErr
	}
}

// storedTime is how times are written for people. They are in UTC.
func storedTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// infoOf returns what is printed of a journal in a directory.
func infoOf(i journal.Info) journals.Info {
	return journals.Info{Name: i.Name, Sequence: i.Sequence, Bytes: i.Bytes, Created: i.Created.UTC(),
		Updated: i.Updated.UTC(), Core: i.Core}
}
