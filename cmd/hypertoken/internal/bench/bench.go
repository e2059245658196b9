// Package bench measures the host, and baselines to compare it with. A figure and its baseline are
// measured in the same run: in each round, all probes of a group are measured one after the other.
// So other work on the machine disturbs both in the same way.
//
// All probes of a group are prepared at its beginning, and each gets a slice of each round. The
// first tenth of a slice does not count. A figure has the least, the median and the greatest value
// over the rounds; a ratio is taken within each round.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"hypertoken/host"
)

// Config selects the figures to measure, and the time for them.
type Config struct {
	// For is about how long the whole run takes. Below a minute, figures are coarse, and probes
	// that can't be measured in their share of the time are left out.
	For time.Duration
	// Only selects the probes whose name, GROUP/PROBE, it matches; they share the time. Default
	// all.
	Only *regexp.Regexp
	// CorePath names a file with a core, Core holds one; neither is the built-in core.
	CorePath string
	Core     []byte
	// Dir is the directory for the stores on disk that are measured. Default os.TempDir.
	Dir string
	// SQLite is a program that measures the store on SQLite: that of examples/sqlitestore/measure.
	// Default none.
	SQLite string
	// Program is this program, whose command serve is measured. Its first argument is "hypertoken".
	// Default none.
	Program string
	// Logger gets the logs of the hosts.
	Logger *slog.Logger
	// Progress, if it is set, is called before each slice.
	Progress func(Progress)
}

// Progress is the progress of a run.
type Progress struct {
	Elapsed, For time.Duration
	// Probe is the probe that is measured next. Done of Slices slices are done.
	Probe        string
	Done, Slices int
}

// group has probes that are measured in turn.
type group struct {
	name string
	// weight is the group's share of the time, relative to the weights of the other groups.
	weight int
	// least is the least time for the group. If its share is shorter, the group is left out.
	least time.Duration
	// rounds is the number of rounds.
	rounds int
	probes []probe
	// derive adds figures that are computed from other figures of the round.
	derive func(round map[string]float64, add func(id, unit string, value float64))
}

// probe is one thing that is measured.
type probe struct {
	name, about string
	// needs are actions that the core must have. Without them the probe is left out.
	needs []string
	// histogram is true if the report has a histogram of all laps.
	histogram bool
	// open prepares the probe. It registers its cleanup with the room's closing.
	open func(ctx context.Context, r *room) (slice, error)
}

// slice measures a probe for about the time d.
type slice func(ctx context.Context, d time.Duration, s *sample) error

// unavailable is the error for a probe that can't be measured here. It has the reason.
type unavailable struct{ why string }

func (u unavailable) Error() string { return u.why }

// room has the things that the probes of a group share while it runs.
type room struct {
	config  *Config
	time    time.Duration // the group's share of the time
	hosts   map[int]*host.Host
	stores  map[string]*storeHost
	sqlite  measureStore // nil until a probe needs it
	games   *storedGames // nil until a probe needs it
	nodes   *testCluster // nil until a probe needs it
	log     *logHost     // nil until a probe needs it
	idle    *idleCluster // nil until a probe needs it
	engines int
	closers []func()
}

// closing registers a function that is called when the group ends.
func (r *room) closing(f func()) { r.closers = append(r.closers, f) }

func (r *room) close() {
	for _, f := range slices.Backward(r.closers) {
		f()
	}
	r.closers, r.hosts, r.stores = nil, nil, nil
}

// inProcess is the number of workers that stands for a host without workers.
const inProcess = 0

// newHost starts a host that no other probe uses. The caller shuts it down.
func (r *room) newHost(ctx context.Context, workers int, o host.Options) (*host.Host, error) {
	o.Workers, o.InProcess = max(1, workers), workers == inProcess
	o.CorePath, o.Core, o.Logger = r.config.CorePath, r.config.Core, r.config.Logger
	return host.New(ctx, o)
}

// host returns a host at default settings that the probes of the group share.
func (r *room) host(ctx context.Context, workers int) (*host.Host, error) {
	if h := r.hosts[workers]; h != nil {
		return h, nil
	}
	h, err := r.hostWith(ctx, workers, host.Options{})
	if err == nil {
		r.hosts[workers] = h
	}
	return h, err
}

// hostWith starts a host that is shut down when the group ends.
func (r *room) hostWith(ctx context.Context, workers int, o host.Options) (*host.Host, error) {
	h, err := r.newHost(ctx, workers, o)
	if err == nil {
		r.closing(func() { shutdown(h) })
	}
	return h, err
}

func shutdown(h *host.Host) { _ = h.Shutdown(context.Background()) }

// engine opens one with a stack of its own, and makes sure that it is at the place that is to be
// measured.
func (r *room) engine(ctx context.Context, h *host.Host, tokens int) (*host.Engine, error) {
	r.engines++
	e, err := h.Open(ctx, fmt.Sprint("bench-", r.engines), host.EngineOptions{Setup: stackOf(tokens)})
	var refused *host.ActionError
	if errors.As(err, &refused) {
		return nil, unavailable{fmt.Sprintf("the core refuses a stack of %d tokens: %v", tokens, err)}
	}
	return e, err
}

// Run measures, and returns the report. If ctx ends, the report has the figures measured up to
// then.
func Run(ctx context.Context, c Config) (*Report, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	chosen := choose(c.Only)
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%w: no probe matches %q; they are in the groups %s", ErrNothing, c.Only, names())
	}
	report := &Report{Machine: machine(), Command: "hypertoken bench", For: c.For.Seconds()}
	has, err := actions(ctx, &c, report)
	if err != nil {
		return nil, err
	}
	began := time.Now() // the core is compiled
	b := &run{config: &c, report: report, began: began, has: has}
	weights := 0
	for _, g := range chosen {
		weights += g.weight
		b.slices += g.rounds * len(g.probes)
	}
	for _, g := range chosen {
		// The time that one group has left is for the groups after it.
		share := (c.For - time.Since(began)) * time.Duration(g.weight) / time.Duration(weights)
		weights -= g.weight
		if err := b.group(ctx, &g, share); err != nil {
			if ctx.Err() == nil {
				return nil, fmt.Errorf("%s: %w", g.name, err)
			}
		}
		if ctx.Err() != nil {
			report.skip(g.name, "interrupted, and all after it")
			break
		}
	}
	report.Elapsed = time.Since(began).Seconds()
	report.finish()
	return report, nil
}

// ErrNothing is returned if no probe is chosen.
var ErrNothing = errors.New("nothing to measure")

// choose returns the groups with those of their probes that are wanted.
func choose(only *regexp.Regexp) (chosen []group) {
	for _, g := range groups() {
		var probes []probe
		for _, p := range g.probes {
			if only == nil || only.MatchString(g.name+"/"+p.name) {
				probes = append(probes, p)
			}
		}
		if g.probes = probes; len(probes) > 0 {
			chosen = append(chosen, g)
		}
	}
	return chosen
}

// names are those of the groups.
func names() string {
	var list []string
	for _, g := range groups() {
		list = append(list, g.name)
	}
	return strings.Join(list, ", ")
}

// actions returns the names of the core's actions, and writes the core's hash into the report. It
// also compiles the core, for workers and for this process, so that the probes start with a warm
// cache.
func actions(ctx context.Context, c *Config, report *Report) (map[string]bool, error) {
	r := room{config: c}
	h, err := r.newHost(ctx, 1, host.Options{})
	if err != nil {
		return nil, err
	}
	defer shutdown(h)
	report.Machine.Core = h.CoreHash()
	e, err := h.Open(ctx, "warm", host.EngineOptions{})
	if err != nil {
		return nil, err
	}
	if err := e.Close(ctx); err != nil {
		return nil, err
	}
	list, err := h.Actions(ctx)
	if err != nil {
		return nil, err
	}
	has := map[string]bool{}
	for _, a := range list {
		has[a.Name] = true
	}
	return has, nil
}

// run is a run under way.
type run struct {
	config *Config
	report *Report
	began  time.Time
	has    map[string]bool
	// slices is the number of slices. done is how many of them were measured or left out.
	done, slices int
}

// group measures a group in its share of the time.
func (b *run) group(ctx context.Context, g *group, share time.Duration) error {
	if g.least > 0 && share < g.least {
		b.report.skip(g.name, fmt.Sprintf("there are %v for it, and it takes %v: give the run more time, or only this to do",
			share.Round(10*time.Millisecond), g.least))
		b.done += g.rounds * len(g.probes)
		return nil
	}
	began := time.Now()
	r := &room{config: b.config, time: share, hosts: map[int]*host.Host{},
		stores: map[string]*storeHost{}}
	defer r.close()
	type opened struct {
		*probe
		slice slice
	}
	var list []opened
	for k := range g.probes {
		p := &g.probes[k]
		b.progress(g.name + "/" + p.name)
		s, err := b.open(ctx, r, p)
		var why unavailable
		switch {
		case errors.As(err, &why):
			b.report.skip(g.name+"/"+p.name, why.why)
			b.done += g.rounds
			continue
		case err != nil:
			return fmt.Errorf("%s: %w", p.name, err)
		}
		list = append(list, opened{p, s})
	}
	if len(list) == 0 {
		return nil
	}
	each := max((share-time.Since(began))/time.Duration(g.rounds*len(list)), 2*time.Millisecond)
	for n := range g.rounds {
		round := map[string]float64{}
		add := func(id, unit string, value float64) {
			round[id] = value
			b.report.add(g.name, id, unit, n, value)
		}
		for _, p := range list {
			b.progress(g.name + "/" + p.name)
			if each >= 50*time.Millisecond {
				runtime.GC() // so that the probe does not pay for the garbage of others
			}
			s := sample{}
			if err := p.slice(ctx, each, &s); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			s.figures(p.name, add)
			if p.histogram {
				b.report.histogram(p.name, p.about, s.laps)
			}
			b.report.about(p.name, p.about)
			b.done++
		}
		if g.derive != nil {
			g.derive(round, add)
		}
	}
	return nil
}

func (b *run) open(ctx context.Context, r *room, p *probe) (slice, error) {
	for _, a := range p.needs {
		if !b.has[a] {
			return nil, unavailable{"the core has no " + a}
		}
	}
	return p.open(ctx, r)
}

func (b *run) progress(probe string) {
	if b.config.Progress != nil {
		b.config.Progress(Progress{Elapsed: time.Since(b.began), For: b.config.For, Probe: probe, Done: b.done,
			Slices: b.slices})
	}
}

// childVariable is set for the children that a run starts. They are this program itself; the
// variable says which child it is.
const childVariable = "HYPERTOKEN_BENCH_CHILD"

// Main runs this process as a child, and exits, if a run has started it as one. Otherwise it
// returns. Call it in main after workerproc.Main.
func Main() {
	switch kind := os.Getenv(childVariable); kind {
	case "":
		return
	case childPipe:
		os.Exit(pipeChild())
	case childNetRPC, childGRPC:
		pluginChild(kind)
		os.Exit(0)
	default:
		fmt.Fprintf(os.Stderr, "%s is for the children of hypertoken bench: unset it\n", childVariable)
		os.Exit(2)
	}
}
