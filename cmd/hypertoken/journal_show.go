package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/journals"
	"hypertoken/internal/msgjson"
	"hypertoken/internal/printable"
)

func newJournalShow() *cobra.Command {
	var f journalFlags
	var from, to uint64
	var asJSON bool
	c := &cobra.Command{
		Use:   "show --data DIR [flags] NAME",
		Short: "Show the actions of a journal",
		Long: `show writes a line for each action of a journal, oldest first:

  SEQUENCE  the number of the action, from 1
  TIME      the clock that the action saw, in UTC
  CHECKSUM  of the result that was acknowledged
  TYPE      the action, and its payload as JSON. A long payload is cut in the table
  key       of the action, or of the batch that ends with it, if it had one

With --json it writes an object a line, with sequence, now in milliseconds since 1970, type, payload,
entropy and checksum in hexadecimal, and keys if there are any. Nothing is cut there.

--from and --to choose the actions, both included. The actions alone do not say what a game looks
like: 'hypertoken run --data DIR --engine NAME' answers {"state":true}.

show reads a directory that no server has open, so it does not wait for new actions. A backup is
such a directory: see 'hypertoken journal --help'.

Exit status: 0 for success, 1 if there is no such journal or it could not be read, 2 for wrong usage.`,
		Example: `  hypertoken journal show --data games table
  hypertoken journal show --data games table --from 100 --to 110
  hypertoken journal show --data games table --json | jq -r .type | sort | uniq -c`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) (err error) {
			name := args[0]
			if from < 1 {
				return usageError{errors.New("--from is 0, and the first action has the sequence 1")}
			}
			if c.Flags().Changed("to") && to < from {
				return usageError{fmt.Errorf("--to is %d, below --from, which is %d", to, from)}
			}
			store, err := f.open()
			if err != nil {
				return err
			}
			defer closeJournals(store, &err)
			info, err := journals.Find(c.Context(), store, name)
			if err != nil {
				return err
			}
			if !c.Flags().Changed("to") {
				to = info.Sequence
			} else if to > info.Sequence {
				return usageError{fmt.Errorf("--to is %d, and the newest action of %q has the sequence %d", to, name,
					info.Sequence)}
			}
			if c.Flags().Changed("from") && from > info.Sequence {
				return usageError{fmt.Errorf("--from is %d, and the newest action of %q has the sequence %d", from, name,
					info.Sequence)}
			}
			out := bufio.NewWriter(c.OutOrStdout())
			write := writeEntry
			if asJSON {
				write = writeEntryJSON
			} else {
				fmt.Fprintf(out, "%8s  %-24s  %-16s  TYPE\n", "SEQUENCE", "TIME", "CHECKSUM")
			}
			for e, err := range journals.Entries(c.Context(), store, name, from, to) {
				if err == nil {
					err = write(out, &e)
				}
				if err != nil {
					return errors.Join(out.Flush(), err)
				}
			}
			return out.Flush()
		},
	}
	f.registerData(c)
	c.Flags().Uint64Var(&from, "from", 1, "begin with the action of this `sequence`")
	c.Flags().Uint64Var(&to, "to", 0, "end with the action of this `sequence` (default the newest)")
	c.Flags().BoolVar(&asJSON, "json", false, "write a JSON object a line")
	return c
}

// maxShownPayload is how many characters of a payload the table has.
const maxShownPayload = 72

// writeEntry writes an action as a row of the table.
func writeEntry(out *bufio.Writer, e *journals.Entry) error {
	line := fmt.Sprintf("%8d  %-24s  %016x  %s", e.Sequence,
		time.UnixMilli(e.Now).UTC().Format("2006-01-02 15:04:05.000Z"), e.Checksum, printable.Line(string(e.Type), 0))
	if len(e.Payload) > 0 {
		payload, err := msgjson.Append(nil, e.Payload)
		if err != nil {
			payload = fmt.Appendf(nil, "(%d bytes that are no value: %v)", len(e.Payload), err)
		}
		line += " " + clipped(string(payload), maxShownPayload)
	}
	for k, key := range e.Keys {
		if k == 0 {
			line += "  key"
		}
		line += " " + clipped(fmt.Sprintf("%q", key), maxShownPayload)
	}
	_, err := out.WriteString(strings.TrimRight(line, " ") + "\n")
	return err
}

// clipped returns text as one printable line of at most that many characters.
func clipped(text string, most int) string {
	if line := []rune(printable.Line(text, 0)); len(line) > most {
		return string(line[:most-3]) + "..."
	}
	return printable.Line(text, 0)
}

// writeEntryJSON writes an action as a JSON object.
func writeEntryJSON(out *bufio.Writer, e *journals.Entry) error {
	row := struct {
		Sequence uint64          `json:"sequence"`
		Now      int64           `json:"now"`
		Type     string          `json:"type"`
		Payload  json.RawMessage `json:"payload,omitempty"`
		Entropy  string          `json:"entropy"`
		Checksum string          `json:"checksum"`
		Keys     []string        `json:"keys,omitempty"`
	}{Sequence: e.Sequence, Now: e.Now, Type: string(e.Type), Entropy: hex.EncodeToString(e.Entropy[:]),
		Checksum: fmt.Sprintf("%016x", e.Checksum), Keys: e.Keys}
	if len(e.Payload) > 0 {
		payload, err := msgjson.Append(nil, e.Payload)
		if err != nil {
			return fmt.Errorf("the payload of the action %d: %w", e.Sequence, err)
		}
		row.Payload = payload
	}
	b, err := json.Marshal(row)
	if err == nil {
		_, err = out.Write(append(printable.AppendJSON(nil, b), '\n'))
	}
	return err
}
