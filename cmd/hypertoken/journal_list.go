package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
	"hypertoken/internal/printable"
)

func newJournalList() *cobra.Command {
	var f journalFlags
	var after string
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "list (--data DIR | --server URL) [flags] [PREFIX]",
		Short: "List the journals, by name",
		Long: `list shows the journals whose names begin with PREFIX, in the order of their names' bytes:

  NAME      the engine's name
  SEQUENCE  how many actions it has
  SIZE      about what it takes on the disk, its history included
  CREATED   when it was created, and UPDATED when something of it was stored last, in UTC
  CORE      the first digits of the SHA-256 of the core that runs its actions

With --json it writes an object a line, with name, sequence, bytes, created, updated and core; and
with place, where the engine runs, if a server is asked. A list that --limit has cut off ends with
the --after of the next one, on standard error.

A journal without a core is damaged: 'hypertoken journal verify' says how.

Exit status: 0 for success, 1 if the journals could not be read, 2 for wrong usage.`,
		Example: `  hypertoken journal list --data games
  hypertoken journal list --data games table- --limit 20
  hypertoken journal list --server http://127.0.0.1:9464 --json | jq -r 'select(.bytes > 1e6).name'`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) (err error) {
			asks, err := f.asksServer()
			if err != nil {
				return err
			}
			if limit < 0 {
				return usageError{fmt.Errorf("--limit is %d, below 0; 0 is for all", limit)}
			}
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			out := bufio.NewWriter(c.OutOrStdout())
			l := lister{out: out, err: c.ErrOrStderr(), limit: limit, asJSON: asJSON}
			if asks {
				client, err := f.client()
				if err != nil {
					return err
				}
				if err := client.List(c.Context(), prefix, after, l.add); err != nil {
					return err
				}
			} else {
				store, err := f.open()
				if err != nil {
					return err
				}
				defer closeJournals(store, &err)
				for info, err := range journals.List(c.Context(), store, prefix, after) {
					if err != nil {
						return err
					}
					if !l.add(infoOf(info)) {
						break
					}
				}
			}
			return l.finish()
		},
	}
	f.register(c)
	c.Flags().StringVar(&after, "after", "", "begin behind this `name`")
	c.Flags().IntVar(&limit, "limit", 0, "list this many at most, 0 for all")
	c.Flags().BoolVar(&asJSON, "json", false, "write a JSON object a line")
	return c
}

// lister writes a list of journals.
type lister struct {
	out    *bufio.Writer
	err    io.Writer
	limit  int // 0 for none
	asJSON bool
	listed int
	last   string // the last name that was listed
	isCut  bool
	failed error
	page   []journals.Info // rows that are not written yet, because their columns' widths are not known
	widths [3]int          // of the first columns
}

// add writes a journal. It returns false if the list is complete.
func (l *lister) add(info journals.Info) bool {
	if l.isCut = l.limit > 0 && l.listed == l.limit; l.isCut {
		return false
	}
	l.listed++
	l.last = info.Name
	if !l.asJSON {
		if l.page = append(l.page, info); len(l.page) == journals.MaxPage {
			l.writePage()
		}
		return l.failed == nil
	}
	b, err := json.Marshal(info)
	if err == nil {
		_, err = l.out.Write(append(printable.AppendJSON(nil, b), '\n'))
	}
	l.failed = err
	return err == nil
}

// maxNameWidth bounds the column of the names. A longer name moves the rest of its line.
const maxNameWidth = 48

// writePage writes rows. A page is as wide as the pages before it, or wider.
func (l *lister) writePage() {
	rows := make([][]string, 0, len(l.page)+1)
	if l.widths[0] == 0 {
		rows = append(rows, []string{"NAME", "SEQUENCE", "SIZE", "CREATED", "UPDATED", "CORE"})
	}
	for _, i := range l.page {
		rows = append(rows, []string{printable.Line(i.Name, 0), fmt.Sprint(i.Sequence), humanize.IBytes(i.Bytes),
			storedTime(i.Created), storedTime(i.Updated), shortHash(i.Core)})
	}
	l.page = l.page[:0]
	for _, row := range rows {
		for k := range l.widths {
			l.widths[k] = max(l.widths[k], min(utf8.RuneCountInString(row[k]), maxNameWidth))
		}
	}
	for _, row := range rows {
		_, err := fmt.Fprintf(l.out, "%-*s  %*s  %*s  %-20s  %-20s  %s\n", l.widths[0], row[0], l.widths[1], row[1],
			l.widths[2], row[2], row[3], row[4], row[5])
		if l.failed == nil {
			l.failed = err
		}
	}
}

// finish writes what is left, and where the next list begins.
func (l *lister) finish() error {
	if len(l.page) > 0 {
		l.writePage()
	}
	if err := l.out.Flush(); l.failed == nil {
		l.failed = err
	}
	if l.failed == nil && l.isCut {
		fmt.Fprintf(l.err, "there are more: --after %q\n", l.last)
	}
	return l.failed
}

// shortHash returns enough of a hash for people to tell it from others.
func shortHash(hash string) string {
	if hash == "" {
		return "-"
	}
	return printable.Line(hash[:min(len(hash), 12)], 0)
}
