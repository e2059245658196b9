package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/internal/journals"
	"hypertoken/internal/printable"
	"hypertoken/journal"
)

func newJournalVerify() *cobra.Command {
	var f journalFlags
	var replay replayFlags
	var after string
	var parallel int
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify --data DIR [flags] [NAME...]",
		Short: "Replay journals, and compare every result with the one that was acknowledged",
		Long: `verify replays journals from their beginning: those that are named, or all. Each action has to give
the result whose checksum is stored, and each snapshot has to have the digest of the state that the
actions before it lead to. A journal that took part of its way on another core is replayed by that
core, which the store keeps.

A journal that differs, is damaged, or could not be replayed has a line on standard output, which
says at which sequence and why. Others are counted. verify changes nothing: an engine with such a
journal is refused by a server, and no other one is. Restore it from a backup, or delete it.

As many journals are replayed at once as the machine has cores, in this process. Progress is shown
on a terminal. If verify is interrupted, it says how it goes on: with --after and the last name
up to which all are checked. --after is for a run over all journals.

With --json it writes an object a line for each journal, with name, ok, actions, bases (how many
snapshots agree), from (the sequence of its oldest base), and error and sequence if it is not ok.

Exit status: 0 if every journal is as it was acknowledged, 1 if one is not, 2 for wrong usage.`,
		Example: `  hypertoken journal verify --data games
  hypertoken journal verify --data games table other
  hypertoken journal verify --data games --json | jq -r 'select(.ok | not).name'`,
		Args: usageArgs(cobra.ArbitraryArgs),
		RunE: func(c *cobra.Command, names []string) (err error) {
			switch {
			case after != "" && len(names) > 0:
				return usageError{errors.New("--after is for all journals: leave it or the names out")}
			case parallel < 1:
				return usageError{fmt.Errorf("--parallel is %d, below 1", parallel)}
			}
			options, err := replay.options(c.ErrOrStderr())
			if err != nil {
				return err
			}
			defer func() { _ = options.Cache.Close(context.Background()) }()
			options.Parallel = parallel
			store, err := f.open()
			if err != nil {
				return err
			}
			defer closeJournals(store, &err)
			v := journals.NewVerifier(store, options)
			defer func() { err = errors.Join(err, v.Close(context.Background())) }()
			r := verifyReport{out: c.OutOrStdout(), progress: newProgress(c.ErrOrStderr()), asJSON: asJSON,
				actions: v.Actions}
			next, stop := iter.Pull2(listed(c.Context(), store, names, after))
			defer stop()
			verified := func() error {
				return v.Verify(c.Context(), func() (journal.Info, bool, error) {
					info, err, ok := next()
					return info, ok, err
				}, r.add)
			}
			err = r.while(verified)
			if c.Context().Err() != nil && len(names) == 0 && r.last != "" {
				fmt.Fprintf(c.ErrOrStderr(), "to go on: hypertoken journal verify --data %q --after %q\n", f.data,
					r.last)
			}
			if err != nil {
				return err
			}
			return r.finish()
		},
	}
	f.registerData(c)
	c.Flags().StringVar(&after, "after", "", "begin behind this `name`")
	replay.register(c)
	c.Flags().IntVar(&parallel, "parallel", runtime.GOMAXPROCS(0), "how many journals are replayed at once")
	c.Flags().BoolVar(&asJSON, "json", false, "write a JSON object a line")
	return c
}

// listed iterates over the journals of these names, or over all behind after if there are no
// names.
func listed(ctx context.Context, s journals.Source, names []string, after string) iter.Seq2[journal.Info, error] {
	if len(names) == 0 {
		return journals.List(ctx, s, "", after)
	}
	return func(yield func(journal.Info, error) bool) {
		for _, name := range names {
			if info, err := journals.Find(ctx, s, name); !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// verifyReport writes what a check of journals finds.
type verifyReport struct {
	out     io.Writer
	asJSON  bool
	actions func() uint64 // replayed so far

	mu               sync.Mutex // guards what follows
	progress         *progress
	journals, failed int
	checked          uint64
	bases            uint64
	last             string // the last name that was checked
}

// progressEvery is how often the progress of a check is shown.
const progressEvery = 200 * time.Millisecond

// while runs the check, and shows the progress meanwhile.
func (r *verifyReport) while(check func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- check() }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			r.mu.Lock()
			r.progress.show("%d journals, %d actions, %d not as acknowledged; after %s", r.journals, r.actions(),
				r.failed, printable.Line(r.last, 40))
			r.mu.Unlock()
		}
	}
}

// add writes the report on a journal.
func (r *verifyReport) add(one journals.Report) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journals++
	r.checked += one.Actions
	r.bases += one.Bases
	r.last = one.Name
	why, sequence := "", uint64(0)
	switch {
	case one.Difference != nil:
		sequence = one.Difference.Sequence
		why = fmt.Sprintf("sequence %d: %s", sequence, one.Difference.Why)
	case one.Err != nil:
		why = one.Err.Error()
	}
	if !one.OK() {
		r.failed++
	}
	r.progress.clear()
	if r.asJSON {
		return r.addJSON(one, why, sequence)
	}
	if one.OK() {
		return nil
	}
	word := "DIFFERS"
	if one.Difference == nil {
		word = "FAILS  "
	}
	_, err := fmt.Fprintf(r.out, "%s %s: %s\n", word, printable.Line(one.Name, 0), printable.Line(why, 0))
	return err
}

func (r *verifyReport) addJSON(one journals.Report, why string, sequence uint64) error {
	b, err := json.Marshal(struct {
		Name     string `json:"name"`
		OK       bool   `json:"ok"`
		From     uint64 `json:"from"`
		Actions  uint64 `json:"actions"`
		Bases    uint64 `json:"bases"`
		Sequence uint64 `json:"sequence,omitempty"`
		Error    string `json:"error,omitempty"`
	}{one.Name, one.OK(), one.First, one.Actions, one.Bases, sequence, why})
	if err == nil {
		_, err = r.out.Write(append(printable.AppendJSON(nil, b), '\n'))
	}
	return err
}

// finish writes the totals.
func (r *verifyReport) finish() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.clear()
	if !r.asJSON {
		result := "all as acknowledged"
		if r.failed > 0 {
			result = fmt.Sprintf("%d not as acknowledged", r.failed)
		}
		_, err := fmt.Fprintf(r.out, "%d journals, %d actions, %d snapshots: %s\n", r.journals, r.checked, r.bases,
			result)
		if err != nil {
			return err
		}
	}
	if r.failed > 0 {
		return errReported
	}
	return nil
}
