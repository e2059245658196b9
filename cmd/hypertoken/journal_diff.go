package main

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/changes"
	"hypertoken/internal/journals"
)

func newJournalDiff() *cobra.Command {
	var f journalFlags
	var replay replayFlags
	var from, to uint64
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff (--data DIR | --server URL) [flags] NAME [OTHER]",
		Short: "Show what is different between two states",
		Long: `diff compares two states: those of one game at two sequences, or those of two games. It writes a line
for each part that is different:

  - .stack[0]: {"id":"a"}            the part was removed; its place is that of before
  + .agents.ann.hand[2]: {"id":"a"}  it was added; its place is that of now
  ~ .turn: 3 -> 4                    it was 3 and is 4
  ~ .stack: in another order: [...]  the same elements, in another order

Places are written as jq takes them. Elements of arrays that have a member "id" are the same if
their ids are. Long values are cut. If nothing is different, diff writes nothing.

NAME is the earlier state, at the sequence --from. OTHER is the later one, at the sequence --to. If
there is no OTHER, it is the same game. A sequence that is left out is the newest.

With --json it writes an operation of a JSON Patch (RFC 6902) a line: "op", "path" and "value", and
"was" for what was there before. Nothing is cut there. All operations, in order, are the patch that
makes the later state of the earlier one: 'jq -s .' makes an array of them.

Exit status: 0 for success, whether or not there is a difference; 1 if a state could not be read; 2 for
wrong usage.`,
		Example: `  hypertoken journal diff --data games table --from 41 --to 42
  hypertoken journal diff --data games table other
  hypertoken journal diff --server http://127.0.0.1:9464 table --from 10 --json | jq -s .`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && !c.Flags().Changed("from") {
				return usageError{errors.New("name the earlier state with --from, or a second game")}
			}
			var before, after journals.State
			err := readStates(c, &f, &replay, func(read stateReader) error {
				return newProgress(c.ErrOrStderr()).during("replaying", func() (err error) {
					before, err = read(c.Context(), args[0], from, c.Flags().Changed("from"))
					if err == nil {
						after, err = read(c.Context(), args[len(args)-1], to, c.Flags().Changed("to"))
					}
					return err
				})
			})
			if err != nil {
				return err
			}
			all, err := changes.Between(before.Value, after.Value)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(c.OutOrStdout())
			for k := range all {
				line, err := appendChange(nil, &all[k], asJSON)
				if err != nil {
					return fmt.Errorf("the states can't be compared: %w", err)
				}
				if _, err := out.Write(append(line, '\n')); err != nil {
					return err
				}
			}
			return out.Flush()
		},
	}
	f.register(c)
	replay.register(c)
	c.Flags().Uint64Var(&from, "from", 0, "the `sequence` of the earlier state (default the newest of NAME)")
	c.Flags().Uint64Var(&to, "to", 0, "the `sequence` of the later state (default the newest)")
	c.Flags().BoolVar(&asJSON, "json", false, "write an operation of a JSON Patch a line")
	return c
}

// maxShownValue is how many characters of a value a line for people has.
const maxShownValue = 72

// appendChange appends a change, as JSON or for people.
func appendChange(line []byte, change *changes.Change, asJSON bool) ([]byte, error) {
	if asJSON {
		return change.AppendJSON(line)
	}
	return change.AppendText(line, maxShownValue)
}
