package bench

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"
)

//go:embed node.js
var nodeScript string

// openNode measures the round trip through one of Node's worker threads, with depth messages in
// flight.
func openNode(depth int) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		path, err := exec.LookPath("node")
		if err != nil {
			return nil, unavailable{"there is no node on the PATH"}
		}
		c := exec.CommandContext(ctx, path, "-e", nodeScript)
		c.Stderr = os.Stderr
		detach(c)
		in, err := c.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := c.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := c.Start(); err != nil {
			return nil, err
		}
		r.closing(func() {
			_ = in.Close()
			_ = c.Wait()
		})
		answers := json.NewDecoder(out)
		return func(_ context.Context, d time.Duration, s *sample) error {
			if _, err := fmt.Fprintf(in, "{\"depth\":%d,\"ms\":%g}\n", depth, d.Seconds()*1e3); err != nil {
				return err
			}
			var a struct {
				Laps  []int64
				Count int
				NS    int64
			}
			if err := answers.Decode(&a); err != nil {
				return fmt.Errorf("node ended: %w", err)
			}
			s.laps = a.Laps
			s.rate(a.Count, time.Duration(a.NS))
			return nil
		}, nil
	}
}
