package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime/pprof"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/bench"
	"hypertoken/host"
)

func newBench() *cobra.Command {
	var c bench.Config
	var only, profile string
	var asJSON, debug bool
	cmd := &cobra.Command{
		Use:   "bench [flags]",
		Short: "Measure what engines cost here, and a pipe, Node and go-plugin beside them",
		Long: `bench measures engines on workers and in this process: how long actions take, how many run a
second, how fast workers start, how long a recovery takes after a worker was killed, how much
memory all of it needs, and how much more workers bring. It also measures the store on disk,
'serve --data' with as many as a million games, and a cluster: three NATS servers that sync each
write, and three nodes, as processes of this program. It kills and stops some of these nodes.

Every figure is warmed up and taken in several rounds, in turn with its baselines in the same
run. The baselines are a bare pipe between two processes, go-plugin's net/rpc and gRPC, direct
calls of the core, and Node's worker_threads if node is on the PATH; for the store on disk they are
the store in memory, a bare write and fdatasync, and SQLite with --sqlite; for a cluster they are bare
publishes to the same stream. A figure has its least, its median and its greatest value over the
rounds. Ratios are taken round by round.

All measurements share the time of --for. Below a minute figures are coarse. If the share of a
figure is too short, the figure is left out, and the report says so. A signal ends the run;
then the report has the figures up to then. Figures of the disk need minutes: it takes some twenty
seconds to store a million games, and what the store writes shows only once there were compactions.

Exit status: 0 whatever the figures are; 1 if something could not be measured that should be;
2 for wrong usage.`,
		Example: `  hypertoken bench
  hypertoken bench --for 10s --only roundtrip
  hypertoken bench --json | jq '.figures[] | select(.id == "dispatch_worker.p50")'
  hypertoken bench --core game.wasm
  hypertoken bench --for 10m --only ^written --dir /var/lib/hypertoken
  hypertoken bench --for 4m --only ^cluster_ --dir /var/lib/hypertoken`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.For <= 0 || c.For > 24*time.Hour {
				return usageError{fmt.Errorf("--for is %v, want more than 0 and at most 24h", c.For)}
			}
			if only != "" {
				var err error
				if c.Only, err = regexp.Compile(only); err != nil {
					return usageError{fmt.Errorf("--only: %w", err)}
				}
			}
			if debug {
				c.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(),
					&slog.HandlerOptions{Level: slog.LevelDebug}))
			}
			if profile != "" {
				f, err := os.Create(profile)
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }()
				if err := pprof.StartCPUProfile(f); err != nil {
					return err
				}
				defer pprof.StopCPUProfile()
			}
			var err error
			if c.Program, err = os.Executable(); err != nil {
				return err
			}
			show, clear := benchProgress(cmd.ErrOrStderr())
			c.Progress = show
			r, err := bench.Run(cmd.Context(), c)
			clear()
			switch {
			case errors.Is(err, bench.ErrNothing), errors.Is(err, host.ErrBadInput):
				return usageError{err}
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), r)
			}
			_, err = r.WriteTo(cmd.OutOrStdout())
			return err
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&c.For, "for", 60*time.Second, "about how long the run takes")
	flags.StringVar(&only, "only", "",
		"measure only what this regular `expression` matches, such as roundtrip or /pipe$")
	flags.StringVar(&c.CorePath, "core", "", "run the core in this WebAssembly `file` instead of the built-in one")
	flags.StringVar(&c.Dir, "dir", "",
		"measure the stores in this `directory`, on the disk that counts (default the directory for temporary files)")
	flags.StringVar(&c.SQLite, "sqlite", "",
		"measure SQLite, too, by this `program`: that of examples/sqlitestore/measure")
	flags.StringVar(&profile, "cpuprofile", "",
		"write a CPU profile of the host's process to this `file`, for go tool pprof")
	flags.BoolVar(&asJSON, "json", false, "write the report as JSON")
	flags.BoolVar(&debug, "debug", false, "log what the hosts do to standard error")
	return cmd
}

// benchProgress shows the progress of a run: in place on a terminal, elsewhere a line every ten
// seconds.
func benchProgress(w io.Writer) (show func(bench.Progress), clear func()) {
	p := newProgress(w)
	next := 10 * time.Second
	return func(b bench.Progress) {
		line := fmt.Sprintf("%v of %v: %s (%d of %d slices)", b.Elapsed.Round(time.Second), b.For, b.Probe, b.Done,
			b.Slices)
		if p.out == nil && b.Elapsed >= next {
			next = b.Elapsed.Truncate(10*time.Second) + 10*time.Second
			fmt.Fprintln(w, line)
		}
		p.show("%s", line)
	}, p.clear
}
