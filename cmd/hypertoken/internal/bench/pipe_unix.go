//go:build unix

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pipeSpin is how long a side reads again and again before it parks: so long that neither parks
// within a slice. If both do they may end up on one core, each hop waiting until the other parks,
// and this is to be the floor.
const pipeSpin = 5 * time.Millisecond

// readAll fills b. It spins before it parks.
func readAll(fd int, b []byte) error {
	tries, began := 0, time.Time{}
	for len(b) > 0 {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if tries++; tries%16 != 0 {
				continue
			}
			if began.IsZero() {
				began = time.Now()
			} else if time.Since(began) > pipeSpin {
				if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != nil &&
					!errors.Is(err, unix.EINTR) {
					return err
				}
			}
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		default:
			b, tries, began = b[n:], 0, time.Time{}
		}
	}
	return nil
}

// writeAll writes b. It is so short that a pipe takes all of it at once.
func writeAll(fd int, b []byte) error {
	for {
		if _, err := unix.Write(fd, b); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// pipeChild echoes until its input ends.
func pipeChild() int {
	runtime.LockOSThread()
	b := make([]byte, messageSize)
	if err := unix.SetNonblock(0, true); err != nil {
		fmt.Fprintln(os.Stderr, "the bare pipe's child:", err)
		return 1
	}
	for {
		if readAll(0, b) != nil || writeAll(1, b) != nil {
			return 0
		}
	}
}

func openPipe(_ context.Context, r *room) (slice, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), childVariable+"="+childPipe)
	c.Stderr = os.Stderr
	detach(c)
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), in.Close())
	}
	c.Stdin, c.Stdout = childIn, childOut
	err = errors.Join(c.Start(), childIn.Close(), childOut.Close())
	r.closing(func() {
		_, _ = in.Close(), out.Close()
		if c.Process != nil {
			_ = c.Wait()
		}
	})
	// Fd takes the files out of the runtime's poller.
	from, to := int(out.Fd()), int(in.Fd())
	if err = errors.Join(err, unix.SetNonblock(from, true)); err != nil {
		return nil, err
	}
	b := make([]byte, messageSize)
	return func(ctx context.Context, d time.Duration, s *sample) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return each(ctx, d, s, func() error {
			if err := writeAll(to, b); err != nil {
				return err
			}
			return readAll(from, b)
		})
	}, nil
}
