package journals

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// followEvery is how often a server is asked whether an engine has new actions.
const followEvery = 500 * time.Millisecond

// Actions calls each with the lines of the actions behind a sequence, as [Client.Journal] does: up to
// another sequence, or up to the newest if to is 0.
func (c *Client) Actions(ctx context.Context, name string, after, to uint64, each func(line []byte) error) error {
	query := url.Values{"after": {strconv.FormatUint(after, 10)}}
	if to > 0 {
		query.Set("to", strconv.FormatUint(to, 10))
	}
	return c.Journal(ctx, name, query, each)
}

// Follow calls came whenever an engine has new actions behind the sequence after. came returns the
// sequence up to which it has dealt with them. Follow fails if ctx ends, with the first error of came,
// and if the engine is deleted, also if another one has its name by then.
func (c *Client) Follow(
	ctx context.Context, name string, after uint64, came func(after uint64) (uint64, error),
) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	return c.follow(ctx, name, after, came, tick.C)
}

// follow is Follow. It asks at once, and at each tick.
func (c *Client) follow(
	ctx context.Context, name string, after uint64, came func(after uint64) (uint64, error), tick <-chan time.Time,
) error {
	for last := (Info{}); ; {
		info, err := c.Get(ctx, name)
		switch {
		case err != nil:
			return err
		case last.Name != "" && !info.Created.Equal(last.Created), info.Sequence < last.Sequence:
			return fmt.Errorf("%q was deleted, and another engine has its name", name)
		case info.Sequence > after:
			if after, err = came(after); err != nil {
				return err
			}
		}
		last = info
		select {
		case <-tick:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
