package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
	"hypertoken/internal/msgjson"
)

func newJournalState() *cobra.Command {
	var f journalFlags
	var replay replayFlags
	var at uint64
	var asJSON bool
	c := &cobra.Command{
		Use:   "state (--data DIR | --server URL) [flags] NAME",
		Short: "Show the whole state of a game, now or at an earlier sequence",
		Long: `state writes the state of a game as a JSON object, with its sequence and its digest. The sequence is
how many actions the game has had: --at 0 is what the game began with, --at 5 is the state after its
fifth action. 'hypertoken journal show' has the sequences of the actions.

The state is computed by a replay from the newest snapshot before. Each result is compared with the
one that was acknowledged. A game of an earlier core is replayed by that core, which the store keeps.

With --data the replay runs in this process, and changes nothing. With --server a running server
answers, while the game goes on.

Two games with the same digest are in the same state. 'hypertoken journal diff' says what is
different.

Exit status: 0 for success, 1 if there is no such state or it could not be read, 2 for wrong usage.`,
		Example: `  hypertoken journal state --data games table
  hypertoken journal state --data games table --at 500 | jq .state.stack
  hypertoken journal state --server http://127.0.0.1:9464 --json table | jq -r .digest`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return readStates(c, &f, &replay, func(read stateReader) error {
				var s journals.State
				err := newProgress(c.ErrOrStderr()).during("replaying", func() (err error) {
					s, err = read(c.Context(), args[0], at, c.Flags().Changed("at"))
					return err
				})
				if err != nil {
					return err
				}
				line := fmt.Appendf(nil, `{"sequence":%d,"digest":"%016x","state":`, s.Sequence, s.Digest)
				line, err = msgjson.Append(line, s.Value)
				if err != nil {
					return fmt.Errorf("the state is no value: %w", err)
				}
				line = append(line, '}')
				if !asJSON {
					var indented bytes.Buffer
					if err := json.Indent(&indented, line, "", "  "); err != nil {
						return err
					}
					line = indented.Bytes()
				}
				_, err = c.OutOrStdout().Write(append(line, '\n'))
				return err
			})
		},
	}
	f.register(c)
	replay.register(c)
	c.Flags().Uint64Var(&at, "at", 0, "show the state at this `sequence` (default the newest)")
	c.Flags().BoolVar(&asJSON, "json", false, "write the object on one line")
	return c
}
