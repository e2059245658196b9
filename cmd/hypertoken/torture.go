package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hypertoken/cmd/hypertoken/internal/clusterdev"
	"hypertoken/cmd/hypertoken/internal/torture"
	"hypertoken/host"
	"hypertoken/internal/fast"
)

// maxDeaths is the greatest value of --deaths.
const maxDeaths = 1_000_000

func newTorture() *cobra.Command {
	var c torture.Config
	var list, without, victim, dataDir string
	var seed int64
	var isCluster, asJSON, debug bool
	cmd := &cobra.Command{
		Use:   "torture [flags]",
		Short: "Kill workers, the host, or a cluster's nodes under load, and check every answer",
		Long: `torture calls engines from many callers at once. Meanwhile it kills and stops the worker
processes that run them, and garbles their answers, on this machine and with your core. It
records every call and the answer that its caller got. It checks each engine from its opening
to its end:

  - its history is linearizable (checked by porcupine);
  - a fresh engine in this process that gets the acknowledged actions gives the same results,
    and ends with the same state and the same digest;
  - no fault became a caller's error, and no process is left.

Faults strike by progress and not by the clock: for example when half an answer is read, or
while a snapshot is made. The same seed draws the same faults and the same calls. A signal ends
the calls early; the calls up to then are still checked.

Faults:
` + torture.About() + `
With --victim host, the host is killed, and not its workers. It is a process of its own, with its
journals in a directory, as 'hypertoken serve --data' has them. Each time it is killed, another
one is started on the same directory. Callers send what got no answer again, with the same key.
Beside the checks above:

  - no action that a caller was told of is missing, and none has run twice;
  - a key that the dead host had answered gets the same answer from the next one;
  - an engine to which nothing was sent has the sequence and the digest that it had before;
  - engines that were deleted stay deleted, and the workers of dead hosts end.

A kill of the host loses nothing that the operating system has. A loss of power may lose what is
not synced: the tests of journal/disk simulate that.

The host is killed:
` + torture.AboutHost() + `
With --cluster, the victims are three NATS servers and three nodes, as 'hypertoken cluster dev' has
them, each a process of its own. Callers send lines to any node, over HTTP and WebSockets, with
keys and without. What has a key is sent again until it is answered, by any node. The checks are
those above, over all nodes, and:

  - an action whose outcome no caller was told is in the journal once, or has no effect;
  - no node answers with an older state than another one did before;
  - at the end, each node answers for each engine, with the same digest.

What happens to the cluster:
` + torture.AboutCluster() + `
A fault of the kinds cut- lasts up to 5 s. It holds all that is sent until it ends, or it resets
connections. fill-disk needs root on Linux; elsewhere it is skipped, and the report says so.

The logs of all processes are kept if a guarantee did not hold; the report says where. --cluster
needs Unix.

Exit status: 0 if every guarantee held; 1 if one did not, or if there were fewer deaths than
--deaths (without it, 100 a minute, with --cluster 4); 2 for wrong usage. Of workers, only those
deaths count that had requests in flight.`,
		Example: `  hypertoken torture --for 60s
  hypertoken torture --for 10s --faults kill,stop --seed 7
  hypertoken torture --for 5m --deaths 50
  hypertoken torture --core game.wasm --workers 4 --engines 16
  hypertoken torture --victim host --for 60s
  hypertoken torture --victim host --for 5m --deaths 100 --data /mnt/games
  hypertoken torture --cluster --for 5m
  hypertoken torture --cluster --for 10m --deaths 20 --faults kill-node,kill-server --seed 7`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Seed = uint64(seed); !cmd.Flags().Changed("seed") {
				c.Seed = rand.Uint64N(1 << 32)
			}
			if isCluster {
				return tortureCluster(cmd, c, list, dataDir, asJSON)
			}
			var err error
			if c.Faults, err = torture.ParseKinds(list); err != nil {
				return usageError{fmt.Errorf("--faults: %w", err)}
			}
			if c.Without, err = fast.Parse(without); err != nil {
				return usageError{fmt.Errorf("--without: %w", err)}
			}
			if victim != victimWorkers && victim != victimHost {
				return usageError{fmt.Errorf("--victim is %q, want %s or %s", victim, victimWorkers, victimHost)}
			}
			isHost := victim == victimHost
			if err := checkVictim(cmd.Flags(), isHost); err != nil {
				return usageError{err}
			}
			if err := checkTorture(&c); err != nil {
				return usageError{err}
			}
			switch {
			case c.Deaths > 0 && !isHost && !slices.Contains(c.Faults, torture.Kill):
				return usageError{errors.New("--deaths needs the fault kill: without it no worker has to die")}
			case c.Spares < 0 || c.Spares > 64:
				return usageError{fmt.Errorf("--spares is %d, want 0 to 64", c.Spares)}
			}
			if isHost {
				return tortureHost(cmd, c, dataDir, asJSON, debug)
			}
			c.Logger = slog.New(slog.DiscardHandler)
			if debug {
				c.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(),
					&slog.HandlerOptions{Level: slog.LevelDebug}))
			}
			c.Progress = tortureProgress(cmd.ErrOrStderr(), c.For)
			r, err := torture.Run(cmd.Context(), c)
			if err != nil {
				if errors.Is(err, host.ErrBadInput) {
					return usageError{err}
				}
				return fmt.Errorf("seed %d: %w", c.Seed, err)
			}
			return reportTorture(cmd, &r, asJSON, r.Err(c))
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&c.For, "for", 60*time.Second, "how long calls are made")
	flags.IntVar(&c.Deaths, "deaths", 0,
		"end after this many deaths, of workers with requests in flight, of hosts, or of nodes and servers, and fail if "+
			"--for ends before that")
	flags.Int64Var(&seed, "seed", 0,
		"draw faults and calls from this `number` (default a random one, which is printed)")
	flags.IntVar(&c.Workers, "workers", 2, "how many worker processes run the engines; with --cluster, 1 at each node")
	flags.IntVar(&c.Spares, "spares", 0, "how many more workers are kept started, to replace workers that die")
	flags.IntVar(&c.Engines, "engines", 8, "how many engines are called at once, by up to three callers each")
	flags.StringVar(&list, "faults", "all", "the `kinds` of faults, separated by commas")
	flags.StringVar(&without, "without", "",
		"turn off these `ways` to be fast, separated by commas, or all: "+fast.Names())
	flags.StringVar(&c.CorePath, "core", "", "run the core in this WebAssembly `file` instead of the built-in one")
	flags.StringVar(&victim, "victim", victimWorkers, "what is killed: `workers`, or the host")
	flags.BoolVar(&isCluster, "cluster", false, "kill, stop, restart and cut off the nodes and servers of a cluster")
	flags.StringVar(&dataDir, "data", "",
		"with --victim host or --cluster: keep the journals in this `directory` (default a temporary one)")
	flags.BoolVar(&asJSON, "json", false, "write the report as JSON")
	flags.BoolVar(&debug, "debug", false, "log what the host does to standard error")
	return cmd
}

// checkTorture fails if a bound of a torture is no sensible one, whatever the victim.
func checkTorture(c *torture.Config) error {
	switch {
	case c.For <= 0 || c.For > 24*time.Hour:
		return fmt.Errorf("--for is %v, want more than 0 and at most 24h", c.For)
	case c.Deaths < 0 || c.Deaths > maxDeaths:
		return fmt.Errorf("--deaths is %d, want 0 to %d", c.Deaths, maxDeaths)
	case c.Workers < 1 || c.Workers > 64:
		return fmt.Errorf("--workers is %d, want 1 to 64", c.Workers)
	case c.Engines < 1 || c.Engines > 1024:
		return fmt.Errorf("--engines is %d, want 1 to 1024", c.Engines)
	}
	return nil
}

// tortureCluster runs a torture whose victims are the nodes and the servers of a cluster.
func tortureCluster(cmd *cobra.Command, c torture.Config, list, dir string, asJSON bool) error {
	flags := cmd.Flags()
	for _, name := range []string{"victim", "spares", "without", "debug"} {
		if flags.Changed(name) {
			return usageError{fmt.Errorf("--%s does not go with --cluster", name)}
		}
	}
	if err := checkTorture(&c); err != nil {
		return usageError{err}
	}
	kinds, err := torture.ParseClusterKinds(list)
	switch {
	case err != nil:
		return usageError{fmt.Errorf("--faults: %w", err)}
	case c.Deaths > 0 && !torture.Kills(kinds):
		return usageError{errors.New("--deaths needs a fault that kills or terminates: without it nothing has to die")}
	}
	if !flags.Changed("workers") {
		c.Workers = 1
	}
	k := torture.ClusterConfig{Dir: dir, For: c.For, Deaths: c.Deaths, Seed: c.Seed, Workers: c.Workers,
		Engines: c.Engines, Faults: kinds, CorePath: c.CorePath}
	show := showTorture(cmd.ErrOrStderr(), c.For)
	k.Progress = func(r torture.ClusterReport) {
		show(r.Elapsed, fmt.Sprintf("%s actions acknowledged, %d nodes and servers died, %d engines checked",
			humanize.Comma(int64(r.Acknowledged)), r.Deaths, r.Histories), len(r.Violations))
	}
	r, err := torture.RunCluster(cmd.Context(), k)
	if err != nil {
		var bad clusterdev.OptionError
		if errors.Is(err, host.ErrBadInput) || errors.As(err, &bad) {
			return usageError{err}
		}
		return fmt.Errorf("seed %d: %w", c.Seed, err)
	}
	return reportTorture(cmd, &r, asJSON, r.Err(k))
}

// The victims of a torture.
const (
	victimWorkers = "workers"
	victimHost    = "host"
)

// checkVictim fails if a flag was given that does not go with the victim.
func checkVictim(flags *pflag.FlagSet, isHost bool) error {
	if !isHost {
		if flags.Changed("data") {
			return errors.New("--data needs --victim host or --cluster: without them the journals are in memory")
		}
		return nil
	}
	for _, name := range []string{"faults", "spares", "without"} {
		if flags.Changed(name) {
			return fmt.Errorf("--%s does not go with --victim host", name)
		}
	}
	return nil
}

// tortureHost runs a torture whose victim is the host.
func tortureHost(cmd *cobra.Command, c torture.Config, dir string, asJSON, debug bool) error {
	h := torture.HostConfig{Dir: dir, For: c.For, Deaths: c.Deaths, Seed: c.Seed, Workers: c.Workers,
		Engines: c.Engines, CorePath: c.CorePath}
	if debug {
		h.Log = cmd.ErrOrStderr()
	}
	show := showTorture(cmd.ErrOrStderr(), c.For)
	h.Progress = func(r torture.HostReport) {
		show(r.Elapsed, fmt.Sprintf("%s actions acknowledged, the host was killed %d times, %d engines checked",
			humanize.Comma(int64(r.Acknowledged)), r.Killed, r.Histories), len(r.Violations))
	}
	r, err := torture.RunHost(cmd.Context(), h)
	if err != nil {
		if errors.Is(err, host.ErrBadInput) {
			return usageError{err}
		}
		return fmt.Errorf("seed %d: %w", c.Seed, err)
	}
	return reportTorture(cmd, &r, asJSON, r.Err(h))
}

// reportTorture writes the report of a torture, and what has failed.
func reportTorture(cmd *cobra.Command, report io.WriterTo, asJSON bool, failed error) (err error) {
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), report)
	} else {
		_, err = report.WriteTo(cmd.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if failed != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "hypertoken: %v\n", failed)
		return errReported
	}
	return nil
}

// tortureProgress shows the progress of a torture whose victims are workers.
func tortureProgress(w io.Writer, whole time.Duration) func(torture.Report) {
	show := showTorture(w, whole)
	return func(r torture.Report) {
		show(r.Elapsed, fmt.Sprintf("%s actions acknowledged, %d deaths (%d with requests in flight), %d engines checked",
			humanize.Comma(int64(r.Acknowledged)), r.Deaths, r.InFlight, r.Histories), len(r.Violations))
	}
}

// showTorture returns a function that shows progress: in place on a terminal, elsewhere a line
// every ten seconds.
func showTorture(w io.Writer, whole time.Duration) func(elapsed time.Duration, done string, violations int) {
	p := newProgress(w)
	next := 10 * time.Second
	return func(elapsed time.Duration, done string, violations int) {
		line := fmt.Sprintf("%v of %v: %s, %d violations so far", elapsed.Round(time.Second), whole, done, violations)
		if p.out == nil && elapsed >= next {
			next += 10 * time.Second
			fmt.Fprintln(w, line)
		}
		p.show("%s", line)
		if elapsed >= whole {
			p.clear()
		}
	}
}
