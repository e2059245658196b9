//go:build !unix

package bench

import "context"

func pipeChild() int { return 1 }

func openPipe(context.Context, *room) (slice, error) {
	return nil, unavailable{"this system has no non-blocking pipes of that kind"}
}
