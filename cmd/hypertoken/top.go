package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hypertoken/cmd/hypertoken/internal/top"
)

// topClock is the clock of top, and topTimeout is how long top waits for a server. Tests that pin
// screens replace both.
var (
	topClock   = time.Now
	topTimeout = top.DefaultTimeout
)

const defaultTopURL = "http://127.0.0.1:9464"

func newTop() *cobra.Command {
	c := top.Config{In: os.Stdin}
	var tokenFile, caFile string
	var plain, asJSON bool
	cmd := &cobra.Command{
		Use:   "top [flags] [URL]",
		Short: "Show the workers of a running server, live",
		Long: `top shows the condition of a host and of its workers. It reads the metrics that 'hypertoken
serve', or any application that registers hypertoken/metrics, exports at URL. The default is
` + defaultTopURL + `; if URL has no path, /metrics is added.

It shows the workers, with state, restarts, actions a second, p50, p99, queue, memory and CPU,
the slowest actions, and recent errors. 'hypertoken serve' reports the errors themselves; for
other applications top shows counts by code. Figures are over the last interval.

If the server is a node of a cluster, top also shows the nodes, with their slots, the lease, and
the streams of the NATS servers.

In a terminal it is live: s, S and the arrows sort, r reverses, n shows the nodes of a cluster,
p pauses, ? explains, q quits.
Elsewhere, or with --plain, it writes a block of text after each interval, as 'top -b' does,
until it is stopped or has written --count blocks. With --json it writes an object a line
instead, with null for unknown figures. If the server does not answer, the object has
gone_since and error.

If the server is gone, top waits for it, and marks its last figures as old. If the server wants
a token, top reads it from --token-file or from the variable HYPERTOKEN_TOKEN. A server has 5s
to answer, with at most 32 MiB.

Exit status: 0 if it was stopped or has written the blocks; 1 if there is no such server, or it
was gone in the last block; 2 for wrong usage.`,
		Example: `  hypertoken top
  hypertoken top --interval 5s https://games.example:9464 --token-file token --ca ca.pem
  hypertoken top --plain --count 1
  hypertoken top --json | jq -c '.workers[] | select(.state != "ready")'`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			address := defaultTopURL
			if len(args) == 1 {
				address = args[0]
			}
			var err error
			if c.URL, err = top.ParseURL(address); err != nil {
				return usageError{err}
			}
			counted := cmd.Flags().Changed("count")
			switch {
			case c.Interval < top.MinInterval || c.Interval > top.MaxInterval:
				return usageError{fmt.Errorf("--interval is %v, want %v to %v", c.Interval, top.MinInterval,
					top.MaxInterval)}
			case plain && asJSON:
				return usageError{errors.New("--plain and --json exclude each other")}
			case counted && c.Count < 1:
				return usageError{fmt.Errorf("--count is %d, below 1; leave it out to go on until stopped", c.Count)}
			case caFile != "" && c.URL.Scheme != "https":
				return usageError{fmt.Errorf("--ca is for https, and %s is not", c.URL.Redacted())}
			}
			if c.Token, err = readToken(tokenFile); err != nil {
				return usageError{err}
			}
			if c.CA, err = certificates(caFile); err != nil {
				return usageError{err}
			}
			switch {
			case asJSON:
				c.Mode = top.JSON
			case plain || counted || !onTerminal():
				c.Mode = top.Plain
			}
			c.Out, c.Now, c.Timeout = os.Stdout, topClock, topTimeout
			if c.Mode != top.Live {
				c.Out = cmd.OutOrStdout()
			}
			return top.Run(cmd.Context(), c)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&c.Interval, "interval", time.Second, "how often top reads the metrics, 100ms to 1h")
	flags.StringVar(&tokenFile, "token-file", "",
		"send the token in this `file` (default the variable HYPERTOKEN_TOKEN)")
	flags.StringVar(&caFile, "ca", "", "trust servers whose certificate this PEM `file` signed, and no others")
	flags.BoolVar(&plain, "plain", false, "write blocks of text, even in a terminal")
	flags.BoolVar(&asJSON, "json", false, "write a JSON object a line")
	flags.IntVar(&c.Count, "count", 0,
		"write this many `blocks` or lines, then end; a block is plain text unless --json is given")
	return cmd
}

// onTerminal reports whether there is a terminal that can be drawn on, and that has keys.
func onTerminal() bool {
	return term.IsTerminal(int(os.Stdout.Fd())) && term.IsTerminal(int(os.Stdin.Fd())) && os.Getenv("TERM") != "dumb"
}

// certificates reads the authorities that may sign the certificate of a server. It returns nil if
// file is empty.
func certificates(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := readBounded(file)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("--ca: %s has no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----",
			file)
	}
	return pool, nil
}
