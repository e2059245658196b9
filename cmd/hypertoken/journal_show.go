package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
)

func newJournalShow() *cobra.Command {
	var f journalFlags
	s := shower{}
	c := &cobra.Command{
		Use:   "show (--data DIR | --server URL) [flags] NAME",
		Short: "Show the actions of a journal",
		Long: `show writes a line for each action of a journal, and for each marker and note, oldest first:

  SEQUENCE  the number of the action, from 1
  BATCH     the sequence of the first action of its batch, if all of the batch is one step
  TIME      the clock that the action saw, in UTC
  CHECKSUM  of the result that was acknowledged; the digest of the state if it is a marker
  TYPE      the action, and its payload as JSON. A long payload is cut in the table
  key       of the action, if it had one

A marker is an entry that sets the state, where an action changes it: a revert, an undo or a redo to
the state of a sequence, an upgrade to another core, or the beginning of a fork. A note says that the
batch that ended just before had a key. It changes nothing, and has the sequence of what is before it.

With --json it writes an object a line, with sequence, now in milliseconds since 1970, type, payload,
entropy and checksum in hexadecimal; and batch and key if there are any. A marker has sequence, marker,
to, from_core, from_engine, from_sequence, core and digest; a note has sequence, note, key and changed.
Nothing is cut there.

--from and --to choose the actions, both included. The actions alone do not say what a game looks
like: 'hypertoken journal state' shows the state at a sequence, and 'hypertoken journal diff' what has
changed between two.

With --server a running server is asked, while it goes on. --follow goes on showing new actions as
they come, until a signal ends it or the engine is deleted. A note that comes without an action is not
shown then. With --data the directory is read, which no server has open; so nothing new comes there.

Exit status: 0 for success, 1 if there is no such journal or it could not be read, 2 for wrong usage.`,
		Example: `  hypertoken journal show --data games table
  hypertoken journal show --data games table --from 100 --to 110
  hypertoken journal show --data games table --json | jq -r .type | sort | uniq -c
  hypertoken journal show --server http://127.0.0.1:9464 table --follow`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) (err error) {
			s.name, s.hasFrom, s.hasTo = args[0], c.Flags().Changed("from"), c.Flags().Changed("to")
			asks, err := f.asksServer()
			switch {
			case err != nil:
				return err
			case s.from < 1:
				return usageError{errors.New("--from is 0, and the first action has the sequence 1")}
			case s.hasTo && s.to < s.from:
				return usageError{fmt.Errorf("--to is %d, below --from, which is %d", s.to, s.from)}
			case s.follows && !asks:
				return usageError{errors.New("--follow goes with --server: nothing comes to a directory that no server has open")}
			case s.follows && s.hasTo:
				return usageError{errors.New("--follow and --to exclude each other")}
			}
			s.rows = newRows(bufio.NewWriter(c.OutOrStdout()), s.asJSON)
			if asks {
				client, err := f.client()
				if err != nil {
					return err
				}
				return errors.Join(s.fromServer(c.Context(), client), s.rows.finish())
			}
			store, err := f.open()
			if err != nil {
				return err
			}
			defer closeJournals(store, &err)
			return errors.Join(s.fromStore(c.Context(), store), s.rows.finish())
		},
	}
	f.register(c)
	c.Flags().Uint64Var(&s.from, "from", 1, "begin with the action of this `sequence`")
	c.Flags().Uint64Var(&s.to, "to", 0, "end with the action of this `sequence` (default the newest)")
	c.Flags().BoolVarP(&s.follows, "follow", "f", false, "go on with new actions as they come; goes with --server")
	c.Flags().BoolVar(&s.asJSON, "json", false, "write a JSON object a line")
	return c
}

// shower shows the actions of a journal.
type shower struct {
	name            string
	from, to        uint64
	hasFrom, hasTo  bool
	follows, asJSON bool
	rows            *rows
}

// bound says which of the actions are shown, if the newest has this sequence. It fails for actions
// that the journal does not have.
func (s *shower) bound(newest uint64) error {
	if !s.hasTo {
		s.to = newest
	}
	for _, flag := range []struct {
		name     string
		isGiven  bool
		sequence uint64
	}{{"--to", s.hasTo, s.to}, {"--from", s.hasFrom && !s.follows, s.from}} {
		if flag.isGiven && flag.sequence > newest {
			return usageError{fmt.Errorf("%s is %d, and the newest action of %q has the sequence %d", flag.name,
				flag.sequence, s.name, newest)}
		}
	}
	return nil
}

// fromStore shows the actions of a journal of a directory.
func (s *shower) fromStore(ctx context.Context, store journals.Source) error {
	info, err := journals.Find(ctx, store, s.name)
	if err == nil {
		err = s.bound(info.Sequence)
	}
	if err != nil {
		return err
	}
	s.rows.begin()
	for e, err := range journals.Entries(ctx, store, s.name, s.from, s.to) {
		if err == nil {
			err = s.rows.addEntry(&e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fromServer shows the actions of an engine of a server, and those that come if the shower follows.
func (s *shower) fromServer(ctx context.Context, client *journals.Client) error {
	info, err := client.Get(ctx, s.name)
	if err == nil {
		err = s.bound(info.Sequence)
	}
	if err != nil {
		return err
	}
	s.rows.begin()
	shown := s.from - 1
	add := func(line []byte) error {
		sequence, err := s.rows.addLine(line)
		if err != nil {
			return fmt.Errorf("the server does not answer as 'hypertoken serve' does: %w", err)
		}
		shown = sequence
		return nil
	}
	// The store may list an action a moment before the engine knows that it is stored, so a bound is
	// named only if the caller has named one.
	to := uint64(0)
	if s.hasTo {
		to = s.to
	}
	if s.from <= s.to {
		if err := client.Actions(ctx, s.name, shown, to, add); err != nil {
			return err
		}
	}
	if !s.follows {
		return nil
	}
	if err := s.rows.finish(); err != nil {
		return err
	}
	return client.Follow(ctx, s.name, shown, func(after uint64) (uint64, error) {
		err := client.Actions(ctx, s.name, after, 0, add)
		return shown, errors.Join(err, s.rows.finish())
	})
}
