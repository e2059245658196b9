package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"hypertoken/host"
	"hypertoken/internal/storeload"
	"hypertoken/journal"
	"hypertoken/journal/disk"
)

const (
	// mostStored engines are stored, if there is the time to store as many, and leastStored in any
	// case.
	mostStored, leastStored = 1_000_000, 1000
	// storedActions is how many actions each of them has played.
	storedActions = 3
	// storing is how many engines are being stored at once.
	storing = 4096
)

// storedGames is a directory with many games, for the server's process.
type storedGames struct {
	dir string
	n   int
}

func storedName(k int) string { return fmt.Sprintf("stored-%07d", k) }

// storedGames makes the directory that the probes of the group share. Half of the group's time
// is for that.
func (r *room) storedGames(ctx context.Context) (*storedGames, error) {
	if r.config.Program == "" {
		return nil, unavailable{"the program whose serve is measured is not named"}
	}
	if runtime.GOOS == "windows" {
		return nil, unavailable{"nothing asks a server to end there"}
	}
	if r.config.Core != nil {
		return nil, unavailable{"another program can't have this core"}
	}
	if r.games != nil {
		return r.games, nil
	}
	parent, err := r.dir()
	if err != nil {
		return nil, err
	}
	g := &storedGames{dir: filepath.Join(parent, "games")}
	store, err := disk.Open(g.dir, disk.Options{Sync: disk.SyncInterval})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(g.fill(ctx, r, store), store.Close()); err != nil {
		return nil, err
	}
	r.games = g
	return g, nil
}

// fill plays one game, and stores it under all the names.
func (g *storedGames) fill(ctx context.Context, r *room, store *disk.Store) error {
	model, err := playOne(ctx, r, store)
	if err == nil {
		g.n, err = storeCopies(ctx, model, store, mostStored, time.Now().Add(r.time/2))
	}
	return err
}

// releaser is a store to which a host says that nobody has an engine open any more.
type releaser interface {
	journal.Store
	journal.Releaser
}

// storeCopies stores a game under so many of the names as there is time for, and returns how many.
func storeCopies(ctx context.Context, model *journal.Stored, store releaser, most int, until time.Time) (n int,
	err error) {
	var group []journal.Record
	for e, err := range journal.Entries(model.Entries) {
		if err != nil {
			return 0, err
		}
		group = append(group, journal.Record{
			Action: journal.AppendAction(nil, &e.Action, string(e.Type), e.Payload), Checksum: e.Checksum})
	}
	owner := journal.Owner{Number: 1}
	room := make(chan struct{}, storing)
	var under sync.WaitGroup
	var mu sync.Mutex // guards failed
	var failed error
	for n < most && (n < leastStored || time.Now().Before(until)) && ctx.Err() == nil {
		name := storedName(n)
		n++
		room <- struct{}{}
		under.Add(1)
		ended := func(err error) {
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
			<-room
			under.Done()
		}
		next := func(f func(journal.Done)) journal.Done {
			return journal.DoneFunc(func(err error) {
				if err != nil {
					ended(err)
					return
				}
				f(journal.DoneFunc(ended))
			})
		}
		store.Install(name, owner, model.Base, next(func(done journal.Done) {
			if len(group) == 0 { // a busy host has stored a snapshot at its end
				store.Release(name, owner, done)
				return
			}
			store.Append(name, owner, model.Sequence, group, next(func(done journal.Done) {
				store.Release(name, owner, done)
			}))
		}))
	}
	under.Wait()
	return n, errors.Join(failed, ctx.Err())
}

// playOne plays a short game on the store, and returns its journal.
func playOne(ctx context.Context, r *room, store journal.Store) (*journal.Stored, error) {
	h, err := r.newHost(ctx, inProcess, host.Options{Store: store})
	if err != nil {
		return nil, err
	}
	const name = "model"
	e, err := h.Open(ctx, name, host.EngineOptions{Setup: storeload.Setup()})
	for played := 0; err == nil && played < storedActions; played++ {
		_, err = e.Dispatch(ctx, storeload.Next(played), nil)
	}
	if err := errors.Join(err, h.Shutdown(ctx)); err != nil {
		return nil, err
	}
	var stored *journal.Stored
	ended := make(chan error, 1)
	store.Load(name, journal.Owner{Number: 1}, func(s *journal.Stored, err error) {
		stored = s
		ended <- err
	})
	if err := <-ended; err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, errors.New("the game that was played is not stored")
	}
	return stored, nil
}

// server is a process of serve.
type server struct {
	command *exec.Cmd
	began   time.Time
	url     string
	client  http.Client
}

// startServer starts serve on the directory, and waits until it listens.
func (g *storedGames) startServer(ctx context.Context, r *room) (*server, error) {
	args := []string{"hypertoken", "serve", "--data", g.dir, "--listen", "127.0.0.1:0", "--rate", "0"}
	if r.config.CorePath != "" {
		args = append(args, "--core", r.config.CorePath)
	}
	s := &server{command: exec.CommandContext(ctx, r.config.Program)}
	s.command.Args = args
	var said strings.Builder
	s.command.Stderr = &said
	detach(s.command)
	endWithParent(s.command)
	out, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.began = time.Now()
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, isListening := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !isListening {
		err = errors.Join(err, s.end(os.Kill))
		return nil, fmt.Errorf("serve does not listen: %q, %w: %s", line, err, said.String())
	}
	s.url = url
	return s, nil
}

// end ends the server, and waits for it.
func (s *server) end(by os.Signal) error {
	s.client.CloseIdleConnections()
	err := s.command.Process.Signal(by)
	waited := s.command.Wait()
	if by != os.Kill {
		err = errors.Join(err, waited)
	}
	return err
}

// play sends an action to an engine, and waits for its answer.
func (s *server) play(ctx context.Context, k int) error {
	line := fmt.Sprintf("{\"type\":%q}\n", actionDraw)
	text, err := s.ask(ctx, http.MethodPost, "/v1/engines/"+storedName(k), line)
	if err == nil && !strings.Contains(text, `"result"`) {
		err = fmt.Errorf("%s answered %q", storedName(k), text)
	}
	return err
}

func (s *server) ask(ctx context.Context, method, path, body string) (string, error) {
	q, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	a, err := s.client.Do(q)
	if err != nil {
		return "", err
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, a.Status, b)
	}
	return string(b), err
}

// counted waits until the server has counted its engines.
func (s *server) counted(ctx context.Context) error {
	for {
		text, err := s.ask(ctx, http.MethodGet, "/metrics", "")
		_, rest, isThere := strings.Cut(text, "\nhypertoken_store_engines ")
		if err != nil || isThere && !strings.HasPrefix(rest, "0\n") {
			return err
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// openRestart measures the time from the start of a server's process to its first answer, and the
// memory that it has then. The server before it has played a little, and was ended by a signal.
func openRestart(by os.Signal) func(context.Context, *room) (slice, error) {
	return func(ctx context.Context, r *room) (slice, error) {
		g, err := r.storedGames(ctx)
		if err != nil {
			return nil, err
		}
		once := func(ctx context.Context, lap func(time.Duration)) (all, anonymous uint64, err error) {
			s, err := g.startServer(ctx, r)
			if err != nil {
				return 0, 0, err
			}
			if err = s.play(ctx, rand.IntN(g.n)); err == nil {
				lap(time.Since(s.began))
				err = s.counted(ctx)
			}
			all, anonymous, _ = residentBytes(s.command.Process.Pid) // 0 on systems that do not tell
			for n := 0; err == nil && n < 100; n++ {
				err = s.play(ctx, rand.IntN(g.n))
			}
			return all, anonymous, errors.Join(err, s.end(by))
		}
		return func(ctx context.Context, d time.Duration, s *sample) error {
			// So that this signal has ended the server before the first one that counts.
			if _, _, err := once(ctx, func(time.Duration) {}); err != nil {
				return err
			}
			var resident, own []float64
			for until := time.Now().Add(d); ; {
				all, anonymous, err := once(ctx, s.lap)
				if err != nil {
					return err
				}
				resident, own = append(resident, float64(all)), append(own, float64(anonymous))
				if time.Now().After(until) {
					break
				}
			}
			s.value("engines", "engines", float64(g.n))
			if resident[0] > 0 {
				s.value("resident", "bytes", spread(resident).Median)
				s.value("own", "bytes", spread(own).Median)
			}
			return nil
		}, nil
	}
}

// openNotOpen measures how long an engine that is not open takes to answer over HTTP, and how long
// the next answer takes.
func openNotOpen(ctx context.Context, r *room) (slice, error) {
	g, err := r.storedGames(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, d time.Duration, s *sample) (err error) {
		v, err := g.startServer(ctx, r)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, v.end(os.Interrupt)) }()
		if err := v.counted(ctx); err != nil {
			return err
		}
		last, isPlayed := -1, map[int]bool{}
		var again []int64
		err = eachAfter(ctx, d, s, func() (bool, error) {
			if last < 0 {
				return true, nil
			}
			began := time.Now()
			err := v.play(ctx, last)
			again = append(again, int64(time.Since(began)))
			return true, err
		}, func() error {
			last = rand.IntN(g.n)
			for isPlayed[last] && len(isPlayed) < g.n {
				last = rand.IntN(g.n)
			}
			isPlayed[last] = true
			return v.play(ctx, last)
		})
		if slices.Sort(again); len(again) > 0 {
			s.value("again", "us", float64(quantile(again, 0.5))/1e3)
		}
		return err
	}, nil
}
