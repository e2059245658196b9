package main

import (
	"errors"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/clusterdev"
)

func newCluster() *cobra.Command {
	c := &cobra.Command{
		Use:   "cluster",
		Short: "Try a cluster on this machine, and say which core a cluster runs",
		Long: `A cluster is several 'hypertoken serve' that keep their journals on the same NATS servers. Any of
them answers for every game, and games go on if one of them dies.

  hypertoken cluster dev                 start a whole cluster on this machine, to try it
  hypertoken serve --cluster nats://...  start a node of a real one
  hypertoken cluster core set FILE       have all nodes of a real one run another core`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newClusterDev(), newClusterCore())
	return c
}

func newClusterDev() *cobra.Command {
	o := clusterdev.Options{}
	c := &cobra.Command{
		Use:   "dev [flags]",
		Short: "Start NATS servers and nodes on this machine, and kill them by name",
		Long: `dev starts three NATS servers and three nodes, each as a process of this program. Nothing has to be
installed. The servers are n1, n2 and n3, the nodes a, b and c. It prints the address of each,
and then takes lines from standard input:

` + clusterdev.Commands + `
To see what a cluster is for: open the address of a in a browser and play, then 'kill a' and play
on. The page connects to another node, and the game goes on there after a second or two. The page
says where it is, what came of it, and whether anything is lost.

A node that is stopped for more than a second is declared dead by the others. It ends when it
goes on, and says so; 'restart' starts it again. While two of three servers are gone, nothing can
be stored: lines wait, and fail after their timeout.

All listen on 127.0.0.1 only. The servers have no password, so every program of this machine can
use them: keep nothing of value there.

Without --dir, everything is in a temporary directory that is removed at the end. With --dir, the
games are there when it is started again, and the logs, a file for each name.

It ends with its input, or at INT, TERM, HUP or QUIT, and leaves no process. Also if it is killed,
its processes end.`,
		Example: `  hypertoken cluster dev
  hypertoken cluster dev --dir games --listen-from 9500
  hypertoken cluster dev --servers 1 --nodes 2`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out = c.OutOrStdout()
			cluster, err := clusterdev.Start(c.Context(), o)
			var bad clusterdev.OptionError
			if errors.As(err, &bad) {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			defer cluster.Close()
			cluster.Talk(c.Context(), c.InOrStdin())
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.Dir, "dir", "", "keep everything in this `directory` (default a temporary one)")
	flags.IntVar(&o.Servers, "servers", 3, "how many NATS servers to start: 1 or 3")
	flags.IntVar(&o.Nodes, "nodes", 3, "how many nodes to start")
	flags.IntVar(&o.FirstPort, "listen-from", 0,
		"use the ports from this `port` on: two for each node, then two for each server (default free ones)")
	flags.IntVar(&o.Workers, "workers", 1, "how many worker processes each node has")
	return c
}
