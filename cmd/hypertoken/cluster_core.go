package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/internal/node"
	"hypertoken/internal/printable"
	"hypertoken/journal"
	"hypertoken/journal/jetstream"
	"hypertoken/wasm"
)

// 'hypertoken cluster core' says which core the games of a cluster are to be with. It asks the NATS
// servers and no node: whoever may use these servers may do anything to the games already, while the
// token of a node is what clients have.

func newClusterCore() *cobra.Command {
	c := &cobra.Command{
		Use:   "core",
		Short: "Show or set the core that the nodes of a cluster run",
		Long: `core shows or sets the target core of a cluster: the one core that its games are with, whichever node
they are on.

  hypertoken cluster core show --cluster nats://a,nats://b,nats://c
  hypertoken cluster core set new.wasm --cluster nats://a,nats://b,nats://c

The first node of a cluster sets it to its own core. From then on, a node runs the target core, and
not the one of its --core.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newClusterCoreShow(), newClusterCoreSet())
	return c
}

// coreServers is the help of the flag that names whom the commands ask.
const coreServers = "ask these NATS `servers`, such as nats://a,nats://b,nats://c"

func newClusterCoreShow() *cobra.Command {
	var cl clusterFlags
	c := &cobra.Command{
		Use:   "show [flags]",
		Short: "Show the target core of a cluster, and which members have it",
		Long: `show prints the target core of a cluster with its generation, and a line for each member that lives:
its address, the core that it runs, and whether it has the target core.

A target that is announced is not in force yet: games stay with the former core until all members
have the new one. If a member does not get it, the log of that member says why.

Exit status: 0 if the target is in force and all members run it, 1 if not, or if that could not be
found out, 2 for wrong usage.`,
		Example: `  hypertoken cluster core show --cluster nats://a,nats://b,nats://c`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return cl.withStore(c.Context(), func(s *jetstream.Store) error {
				return showCore(c.Context(), c.OutOrStdout(), s)
			})
		},
	}
	cl.registerServers(c.Flags(), coreServers)
	return c
}

func newClusterCoreSet() *cobra.Command {
	var cl clusterFlags
	var wait time.Duration
	memory := byteSize(1 << 30)
	c := &cobra.Command{
		Use:   "set [flags] FILE|HASH|builtin",
		Short: "Have the nodes of a cluster run another core",
		Long: `set makes a core the target of a cluster. The core is a WebAssembly file, the SHA-256 of a core that
the cluster has already, or 'builtin' for the built-in one of this program.

First the core is announced. Each node takes it from the NATS servers, checks it, and says that it
has it. Once all members have it, it is in force: nodes go over to it while they serve, and a
game goes over when its next line comes: it is replayed from its newest snapshot by the former core,
and goes on with the new one. No line fails. To go back, set the former core, by its hash.

A node whose --core-sha256 does not allow the core holds that up, and so does one that can't run it.
Nothing changes for games then. Start the node again with other flags, or end it; or set the former
core. Check first, on a backup, that games go over: 'hypertoken serve --data COPY --core FILE
--check-upgrade'.

set waits until the core is in force, for --wait at most; what it began goes on after that.

Exit status: 0 if the core is in force, 1 if it is not yet, or could not be set, 2 for wrong usage.`,
		Example: `  hypertoken cluster core set new.wasm --cluster nats://a,nats://b,nats://c
  hypertoken cluster core set builtin --cluster nats://a,nats://b,nats://c --wait 5m`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			hash, code, err := targetOf(c.Context(), args[0], uint64(memory))
			if err != nil {
				return usageError{err}
			}
			if wait < 0 {
				return usageError{fmt.Errorf("--wait is %v, below 0", wait)}
			}
			return cl.withStore(c.Context(), func(s *jetstream.Store) error {
				return setCore(c.Context(), c.OutOrStdout(), s, hash, code, wait)
			})
		},
	}
	cl.registerServers(c.Flags(), coreServers)
	c.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait until the core is in force; 0 for not at all")
	c.Flags().Var(&memory, "max-engine-memory", "how much memory an engine may take when the core is checked")
	return c
}

// withStore calls f with the store of a cluster.
func (f *clusterFlags) withStore(ctx context.Context, do func(*jetstream.Store) error) error {
	if !f.isSet() {
		return usageError{errors.New("name the NATS servers of the cluster with --cluster")}
	}
	o, err := f.connection()
	if err != nil {
		return usageError{err}
	}
	o.MustExist = true
	opening, cancel := context.WithTimeout(ctx, node.JoinPatience)
	defer cancel()
	s, err := jetstream.Open(opening, o)
	if err != nil {
		return fmt.Errorf("--cluster: %w", err)
	}
	return errors.Join(do(s), s.Close())
}

// targetOf returns the hash of the core that an argument names, and its code if the argument is not a
// hash. It fails if the core can't be run.
func targetOf(ctx context.Context, arg string, memory uint64) (hash string, code []byte, err error) {
	if b, err := hex.DecodeString(arg); err == nil && len(b) == sha256.Size {
		return strings.ToLower(arg), nil, nil
	}
	if arg == "builtin" {
		code = wasm.Builtin()
	} else if code, err = os.ReadFile(arg); err != nil {
		return "", nil, fmt.Errorf("%q is no file, no SHA-256 and not 'builtin': %w", arg, err)
	}
	core, err := wasm.Compile(ctx, code, wasm.Options{Interruptible: true, MemoryLimit: memory,
		FirstInstance: time.Minute})
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", arg, err)
	}
	return wasm.Hash(code), code, core.Close(ctx)
}

// showCore prints the target and the members.
func showCore(ctx context.Context, out io.Writer, s *jetstream.Store) error {
	t, err := s.Target(ctx)
	if err != nil {
		return err
	}
	if t.Generation == 0 {
		return errors.New("the cluster has no target core yet: the first node that starts sets it to its own")
	}
	members, err := s.LivingMembers(ctx)
	if err != nil {
		return err
	}
	if err := printTarget(out, t); err != nil {
		return err
	}
	isEverywhere := t.InForce
	for k := range members {
		m := &members[k]
		runs := "a core that it does not name"
		if len(m.Cores) > 0 {
			runs = printable.Line(m.Cores[0], 0)
		}
		has := "does not have it, and runs " + runs
		switch {
		case runs == t.Core:
			has = "runs it"
		case slices.Contains(m.Cores, t.Core):
			has = "has it, and runs " + runs
		}
		isEverywhere = isEverywhere && (runs == t.Core || m.Draining)
		if _, err := fmt.Fprintf(out, "%s %s\n", printable.Line(m.Address, 0), has); err != nil {
			return err
		}
	}
	if !isEverywhere {
		return errReported
	}
	return nil
}

// printTarget prints a target.
func printTarget(out io.Writer, t jetstream.Target) (err error) {
	if t.InForce {
		_, err = fmt.Fprintf(out, "generation %d: the core %s is in force\n", t.Generation, t.Core)
	} else {
		_, err = fmt.Fprintf(out, "generation %d: the core %s is announced; until all members have it, %s is in force\n",
			t.Generation, t.Core, t.Former)
	}
	return err
}

// setCore makes a core the target, and waits until it is in force.
func setCore(ctx context.Context, out io.Writer, s *jetstream.Store, hash string, code []byte,
	wait time.Duration) error {
	former, err := s.Target(ctx)
	if err != nil {
		return err
	}
	if code != nil {
		if err := node.KeepCore(ctx, s, hash, code); err != nil {
			return err
		}
	}
	t := former
	if former.Core != hash {
		t, err = s.Announce(ctx, former, hash)
		switch {
		case errors.Is(err, jetstream.ErrTargetChanged):
			return fmt.Errorf("somebody else has made %s the target meanwhile: look with 'hypertoken cluster core show', "+
				"and give the command again", t.Core)
		case errors.Is(err, journal.ErrRefused):
			return fmt.Errorf("the cluster does not have the core %s: name its file", hash)
		case err != nil:
			return err
		}
	}
	if err := printTarget(out, t); err != nil || t.InForce {
		return err
	}
	return awaitForce(ctx, out, s, t, wait)
}

// awaitForce waits until a target is in force.
func awaitForce(ctx context.Context, out io.Writer, s *jetstream.Store, t jetstream.Target, wait time.Duration) error {
	ticker := time.NewTicker(node.LookEvery)
	defer ticker.Stop()
	for until := time.Now().Add(wait); time.Now().Before(until); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		newest, err := s.Target(ctx)
		switch {
		case err != nil:
			return err
		case newest.Generation != t.Generation:
			return fmt.Errorf("somebody else has set another target meanwhile, %s, of generation %d", newest.Core,
				newest.Generation)
		case newest.InForce:
			return printTarget(out, newest)
		}
	}
	members, err := s.LivingMembers(ctx)
	if err != nil {
		return err
	}
	var lacking []string
	for k := range members {
		if !slices.Contains(members[k].Cores, t.Core) {
			lacking = append(lacking, printable.Line(members[k].Address, 0))
		}
	}
	switch {
	case len(members) == 0:
		return errors.New("no member lives: the core will be in force once nodes are started that have it")
	case len(lacking) == 0:
		return errors.New("all members have the core: it will be in force in a moment")
	}
	return fmt.Errorf("these members do not have the core yet, and their logs say why: %s; it will be in force once they "+
		"have it or have ended", strings.Join(lacking, ", "))
}
