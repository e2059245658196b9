package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsstream "github.com/nats-io/nats.go/jetstream"

	"hypertoken/host"
	"hypertoken/internal/storeload"
	"hypertoken/journal/jetstream"
)

// How a host stores actions in a cluster's log, beside bare publishes to the same stream.

// The shapes in which the log is called.
var shapeCrowd = storeload.Shape{Engines: 4096, InFlight: 1}

// The names of probes: storeCluster is a host on the log, storePublish publishes without a host.
const (
	storeCluster = "cluster"
	storePublish = "publish"
)

// logName is the name of the streams of the hosts that are measured here.
const logName = "bench"

// logHost is a host on a cluster's log, in this process: what a node is without HTTP.
type logHost struct {
	host   *host.Host
	stream natsstream.JetStream
	// size is how many bytes the message has that the store writes for an action by itself.
	size int
}

// clusterLog returns the host that the probes of the group share. No node runs beside it.
func (r *room) clusterLog(ctx context.Context) (*logHost, error) {
	if r.log != nil {
		return r.log, nil
	}
	c, err := r.cluster(ctx)
	if err != nil {
		return nil, err
	}
	store, err := jetstream.Open(ctx, jetstream.Options{Servers: c.urls(), Sync: jetstream.SyncTrusted, Name: logName,
		Patience: patience, Logger: r.config.Logger})
	if err != nil {
		return nil, err
	}
	r.closing(func() { _ = store.Close() })
	l := &logHost{}
	if l.host, err = r.hostWith(ctx, storeload.Workers, host.Options{Store: store, Timeout: -1,
		StoreTimeout: patience}); err != nil {
		return nil, err
	}
	nc, err := nats.Connect(strings.Join(c.urls(), ","))
	if err != nil {
		return nil, err
	}
	r.closing(nc.Close)
	if l.stream, err = natsstream.New(nc); err != nil {
		return nil, err
	}
	if l.size, err = l.sizeOfOne(ctx); err != nil {
		return nil, err
	}
	r.log = l
	return l, nil
}

// sizeOfOne plays an action, and returns the size of the message that has it.
func (l *logHost) sizeOfOne(ctx context.Context) (int, error) {
	const name = "size"
	e, err := l.host.Open(ctx, name, host.EngineOptions{Setup: storeload.Setup()})
	if err == nil {
		_, err = e.Dispatch(ctx, storeload.Next(0), nil)
	}
	if err != nil {
		return 0, err
	}
	s, err := l.stream.Stream(ctx, logName+"-journals-0")
	if err != nil {
		return 0, err
	}
	for until := time.Now().Add(patience); ; {
		m, err := s.GetLastMsgForSubject(ctx, fmt.Sprintf("%s.j.0.tail.%d", logName, jetstream.SlotOf(name)))
		if err == nil {
			return len(m.Data), nil
		}
		// Any server answers, also one that is behind.
		if !errors.Is(err, natsstream.ErrMsgNotFound) || time.Now().After(until) {
			return 0, fmt.Errorf("the message with an action: %w", err)
		}
		if err := sleep(ctx, lookAgain); err != nil {
			return 0, err
		}
	}
}

// openOnLog calls engines of a host on the log in a shape.
func openOnLog(shape storeload.Shape) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		l, err := r.clusterLog(ctx)
		if err != nil {
			return nil, err
		}
		load, err := storeload.Open(ctx, l.host, shape.String()+"-", shape)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, d time.Duration, s *sample) error {
			return errors.Join(s.loadUntilSome(d, func(d time.Duration) (storeload.Result, error) {
				return load.Run(ctx, d)
			}), onWorkers(l.host))
		}, nil
	}
}

// loadUntilSome takes the result of a load of about the time d. If nothing that counts has ended in it, as on
// a busy machine, it gives the load twice the time, and so on.
func (s *sample) loadUntilSome(d time.Duration, load func(time.Duration) (storeload.Result, error)) error {
	for ; ; d *= 2 {
		result, err := load(d)
		if err != nil || len(result.Laps) > 0 && result.Count > 0 {
			s.loaded(&result)
			return err
		}
	}
}

// openPublish publishes as many messages at a time as a shape has engines. Each is stored by itself, in the
// stream that the host's actions are in, and has the size of an action.
func openPublish(shape storeload.Shape) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		l, err := r.clusterLog(ctx)
		if err != nil {
			return nil, err
		}
		data := make([]byte, l.size)
		return func(ctx context.Context, d time.Duration, s *sample) error {
			s.value("size", "bytes", float64(l.size))
			return s.loadUntilSome(d, func(d time.Duration) (storeload.Result, error) {
				return inTurn(ctx, d, shape.Engines, func(k int) error {
					_, err := l.stream.Publish(ctx, fmt.Sprintf("%s.j.0.bare.%d", logName, k), data)
					return err
				})
			})
		}, nil
	}
}

// inTurn has n goroutines call f again and again, for about the time d, of which the first tenth does not
// count. It returns what the calls took that ended in the rest.
func inTurn(ctx context.Context, d time.Duration, n int, f func(k int) error) (r storeload.Result, err error) {
	p, done := newPace(ctx, d)
	defer done()
	laps, failed := make([][]int64, n), make([]error, n)
	var calling sync.WaitGroup
	for k := range n {
		calling.Go(func() {
			for now := time.Now(); now.Before(p.until) && !p.over.Load() && failed[k] == nil; {
				began := now
				failed[k] = f(k)
				if now = time.Now(); now.After(p.from) && now.Before(p.until) {
					laps[k] = append(laps[k], int64(now.Sub(began)))
				}
			}
		})
	}
	calling.Wait()
	for _, some := range laps {
		r.Laps = append(r.Laps, some...)
	}
	r.Count, r.NS = len(r.Laps), int64(p.until.Sub(p.from))
	return r, errors.Join(firstOf(failed), ctx.Err())
}
