package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hypertoken/host"
	"hypertoken/internal/leaks"
	"hypertoken/internal/require"
	"hypertoken/journal/disk"
	"hypertoken/metrics"
)

// scraped is a real Prometheus that scrapes this process, with the rules of deploy/.
type scraped struct {
	t        *testing.T
	ctx      context.Context // ends when it takes too long
	registry *prometheus.Registry
	address  string // of the Prometheus
	client   http.Client

	mu     sync.Mutex // guards what follows
	looked chan struct{}
	alerts []alert
	fired  map[string]bool // by name, whatever it was of
}

type alert struct {
	Labels map[string]string
	State  string
}

// faster has the rules look back seconds instead of minutes, and a worker count as large at 16 MiB.
// Nothing else of them changes.
var faster = []struct{ from, to string }{
	{`\[(5m|15m)\]`, "[3s]"},
	{`\[1h\]`, "[5s]"},
	{`for: \d+m`, "for: 1s"},
	{`4 \* 3600`, "20"},
	{`256 \* 1024 \* 1024`, "16 * 1024 * 1024"},
	{`(scrape|evaluation)_interval: 15s`, "${1}_interval: 500ms"},
	{`\['127\.0\.0\.1:9464'\]`, "[TARGETS]"},
}

// newScraped serves metrics, and starts a Prometheus that scrapes them, and other targets.
func newScraped(t *testing.T, others ...string) *scraped {
	program := require.Tool(t, "prometheus")
	s := &scraped{t: t, registry: prometheus.NewRegistry(), looked: make(chan struct{}), fired: map[string]bool{}}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	s.client.Transport = &http.Transport{DisableKeepAlives: true}
	dir, err := os.MkdirTemp("", "prometheus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	targets := append([]string{serve(t, promhttp.HandlerFor(s.registry,
		promhttp.HandlerOpts{EnableOpenMetrics: true}))}, others...)
	for _, name := range []string{"prometheus.yml", "rules.yml"} {
		b, err := os.ReadFile(filepath.Join("../deploy/prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, f := range faster {
			text = regexp.MustCompile(f.from).ReplaceAllString(text, f.to)
		}
		text = strings.Replace(text, "TARGETS", "'"+strings.Join(targets, "', '")+"'", 1)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	_ = l.Close()
	var log text
	c := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+s.address, "--log.level=warn", "--enable-feature=exemplar-storage")
	c.Stdout, c.Stderr = &log, &log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(done) })
	t.Cleanup(func() {
		close(done)
		watching.Wait()
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("Prometheus said:\n%s", log.String())
		}
	})
	return s
}

// serve serves HTTP until the test ends, and returns where.
func serve(t *testing.T, h http.Handler) (address string) {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// ask asks Prometheus' API.
func (s *scraped) ask(path string, into any) error {
	r, err := s.client.Get("http://" + s.address + path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return json.NewDecoder(r.Body).Decode(into)
}

// watch looks which alerts there are, again and again, and tells who waits.
func (s *scraped) watch(done <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-done:
			return
		}
		var answer struct{ Data struct{ Alerts []alert } }
		if s.ask("/api/v1/alerts", &answer) != nil {
			continue // it is starting
		}
		s.mu.Lock()
		s.alerts = answer.Data.Alerts
		for _, a := range s.alerts {
			if a.State == "firing" {
				s.fired[a.Labels["alertname"]] = true
			}
		}
		close(s.looked)
		s.looked = make(chan struct{})
		s.mu.Unlock()
	}
}

// fires reports whether an alert does, of the host or the instance of that name.
func (s *scraped) fires(name, of string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.alerts {
		if a.Labels["alertname"] == name && (a.Labels["host"] == of || a.Labels["instance"] == of) &&
			a.State == "firing" {
			return true
		}
	}
	return false
}

// look waits until it has been looked which alerts there are, and reports whether there is time left.
func (s *scraped) look() bool {
	s.mu.Lock()
	looked := s.looked
	s.mu.Unlock()
	select {
	case <-looked:
	case <-s.ctx.Done():
	}
	return s.ctx.Err() == nil
}

// until waits until alerts fire, or none of them any more, and does something meanwhile, each time that it has looked.
func (s *scraped) until(fire bool, of string, meanwhile func(), names ...string) {
	for {
		waits := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return s.fires(name, of) == fire })
		if len(waits) == 0 {
			return
		}
		if meanwhile != nil {
			meanwhile()
		}
		if !s.look() {
			s.t.Errorf("%s: of %v it was to be %v that they fire, and it is not of %v", of, names, fire, waits)
			return
		}
	}
}

// value returns what a query gives, -1 where that is nothing.
func (s *scraped) value(query string) float64 {
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := s.ask("/api/v1/query?query="+url.QueryEscape(query), &answer); err != nil ||
		len(answer.Data.Result) != 1 {
		return -1
	}
	v, err := strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
	if err != nil {
		return -1
	}
	return v
}

// agrees waits until Prometheus has exactly what the test did.
func (s *scraped) agrees(query string, want int) {
	for s.value(query) != float64(want) {
		if !s.look() {
			s.t.Errorf("%s is %v, want %d", query, s.value(query), want)
			return
		}
	}
}

// scene is a host that something happens to.
type scene struct {
	*scraped
	name   string
	host   *host.Host
	engine *host.Engine
	told   map[string]int // outcomes of actions
}

func (s *scraped) scene(name string, o host.Options) *scene {
	x := &scene{scraped: s, name: name, host: newHost(s.t, o), told: map[string]int{}}
	s.registry.MustRegister(metrics.NewCollector(x.host, prometheus.Labels{"host": name}))
	x.engine = open(s.t, x.host, "e", deck(5))
	return x
}

func (x *scene) take(err error) error {
	if err == nil {
		x.told["ok"]++
	} else {
		x.told[host.CodeOf(err)]++
	}
	return err
}

// worker waits for a worker that is ready and no other process than one that was there, and returns its process.
func (x *scene) worker(other int) int {
	for {
		for _, w := range x.host.Stats().Workers {
			if w.State == host.WorkerReady && w.PID != 0 && w.PID != other {
				return w.PID
			}
		}
		if !x.look() {
			x.t.Errorf("%s: no worker is ready: %+v", x.name, x.host.Stats().Workers)
			return 0
		}
	}
}

// Each alert fires when it should, and resolves when it is over; and what Prometheus has counted is what was done.
func TestAlertsOfARealPrometheus(t *testing.T) {
	require.Deep(t)
	leaks.Check(t)
	var down atomic.Bool
	empty := promhttp.HandlerFor(prometheus.NewRegistry(), promhttp.HandlerOpts{})
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		empty.ServeHTTP(w, r)
	}))
	failing := prometheus.NewRegistry()
	failingAt := serve(t, promhttp.HandlerFor(failing, promhttp.HandlerOpts{}))
	s := newScraped(t, other, failingAt)
	var scenes sync.WaitGroup
	spin := func(x *scene, limit time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_, err := x.engine.Dispatch(ctx, "test:spin", nil)
		_ = x.take(err)
	}
	play := func(name string, o host.Options, f func(x *scene)) {
		x := s.scene(name, o)
		scenes.Go(func() {
			s.agrees(fmt.Sprintf(`hypertoken_actions_dispatched_total{host=%q}`, x.name), 0) // what is there at the first look is no increase
			f(x)
			for outcome, n := range x.told {
				s.agrees(fmt.Sprintf(`sum(hypertoken_actions_total{host=%q,outcome=%q})`, x.name, outcome), n)
			}
			s.agrees(fmt.Sprintf(`hypertoken_actions_dispatched_total{host=%[1]q} - sum without (action, outcome) (hypertoken_actions_total{host=%[1]q}) - hypertoken_actions_in_flight{host=%[1]q}`, x.name), 0)
		})
	}

	play("restarting", host.Options{Workers: 1, MaxRestarts: 1 << 20, RestartWindow: 1}, func(x *scene) {
		killed, last := 0, 0
		s.until(true, x.name, func() {
			last = x.worker(last)
			if last != 0 {
				signal(t, last, syscall.SIGKILL)
				killed++
			}
			_ = x.take(ignored(x.engine.Dispatch(context.Background(), "stack:shuffle", nil)))
		}, "HypertokenWorkerRestarting")
		s.until(false, x.name, nil, "HypertokenWorkerRestarting")
		s.agrees(`hypertoken_worker_exits_total{host="restarting",reason="died"}`, killed)
		s.agrees(`sum(hypertoken_worker_restarts_total{host="restarting"})`, killed)
	})

	program := newReplaceable(t)
	program.be(honest)
	play("fallback", host.Options{Workers: 1, WorkerPath: program.path, MaxRestarts: 1}, func(x *scene) {
		program.be(script("exit 1"))
		signal(t, x.worker(0), syscall.SIGKILL)
		s.until(true, x.name, func() {
			_ = x.take(ignored(x.engine.Dispatch(context.Background(), "stack:shuffle", nil)))
		}, "HypertokenFallbackActive", "HypertokenNoWorker")
		program.be(honest)
		// A scrape that takes too long resolves alerts too, so that the engine may have to wait for its worker still.
		s.until(false, x.name, nil, "HypertokenFallbackActive", "HypertokenNoWorker")
		for x.engine.Place() != host.PlaceWorker && s.look() {
			_ = x.take(ignored(x.engine.Dispatch(context.Background(), "stack:shuffle", nil)))
		}
		s.agrees(`hypertoken_fallback_switches_total{host="fallback",to="in_process"}`, 1)
		s.agrees(`hypertoken_fallback_switches_total{host="fallback",to="worker"}`, 1)
	})

	play("deadlines", host.Options{Workers: 1, KillGrace: time.Millisecond}, func(x *scene) {
		s.until(true, x.name, func() { spin(x, 20*time.Millisecond) }, "HypertokenDeadlineMisses")
		s.until(false, x.name, nil, "HypertokenDeadlineMisses")
		s.agrees(`hypertoken_action_outcomes_total{host="deadlines",outcome="timeout"}`, x.told["timeout"])
	})

	play("overload", host.Options{Workers: 1, MaxQueue: 10, StallAfter: time.Hour}, func(x *scene) {
		pid := x.worker(0)
		stop(t, pid)
		var accepted []*host.Future
		ask := func() {
			f := x.engine.DispatchAsync(context.Background(), "stack:shuffle", nil)
			if _, err, ended := f.Result(); ended {
				_ = x.take(err)
			} else {
				accepted = append(accepted, f)
			}
		}
		s.until(true, x.name, ask, "HypertokenOverloaded", "HypertokenQueueNearlyFull")
		signal(t, pid, syscall.SIGCONT)
		for _, f := range accepted {
			_ = x.take(ignored(f.Wait(context.Background())))
		}
		s.until(false, x.name, nil, "HypertokenOverloaded", "HypertokenQueueNearlyFull")
		if x.told["ok"] != 10 || x.told["overloaded"] == 0 {
			t.Errorf("the queue holds 10, and callers were told %v", x.told)
		}
	})

	play("poisoned", host.Options{Workers: 1, MaxAttempts: 2, MaxRestarts: 1 << 20, RestartWindow: 1, Timeout: -1},
		func(x *scene) {
			poisons := 0
			// Again and again: on a busy machine, one increase may be over before it was looked at twice.
			s.until(true, x.name, func() {
				poisons++
				f := x.engine.DispatchAsync(context.Background(), "test:spin", nil)
				for last := 0; ; {
					if _, _, ended := f.Result(); ended || !s.look() {
						break
					}
					for _, w := range x.host.Stats().Workers {
						if w.Pending > 0 && w.Engines > 0 && w.PID != last {
							last = w.PID
							signal(t, last, syscall.SIGKILL)
						}
					}
				}
				_ = x.take(ignored(f.Wait(s.ctx)))
			}, "HypertokenPoisonedActions")
			if x.told["poisoned"] != poisons || poisons == 0 {
				t.Errorf("callers were told %v of %d", x.told, poisons)
			}
			s.until(false, x.name, nil, "HypertokenPoisonedActions")
		})

	play("broken", host.Options{Workers: 1, MaxAttempts: 2, MaxRestarts: 1 << 20, RestartWindow: 1}, func(x *scene) {
		// It counts in the instance, not in the state: the batch that fails leaves the next one another
		// result than a replay has.
		_, err := x.engine.DispatchBatch(context.Background(), host.BatchAtomic,
			[]host.Action{{Type: "test:differ"}, {Type: "no:such"}})
		x.told["batch_aborted"]++
		x.told[host.CodeOf(errors.Unwrap(err))]++
		_ = x.take(ignored(x.engine.Dispatch(context.Background(), "test:differ", nil)))
		signal(t, x.worker(0), syscall.SIGKILL)
		s.until(true, x.name, func() {
			_ = x.take(ignored(x.engine.Dispatch(context.Background(), "stack:shuffle", nil)))
		}, "HypertokenEngineBroken")
		s.until(false, x.name, nil, "HypertokenEngineBroken")
	})

	play("slow", host.Options{Workers: 1}, func(x *scene) {
		spin(x, 10*time.Millisecond)
		s.agrees(`hypertoken_action_duration_seconds_count{host="slow",action="test:spin"}`, 1) // what is there at the first look is no increase
		s.until(true, x.name, func() { spin(x, 1200*time.Millisecond) }, "HypertokenSlowActions")
		s.until(false, x.name, nil, "HypertokenSlowActions")
	})

	play("growing", host.Options{Workers: 1}, func(x *scene) {
		n := 0
		s.until(true, x.name, func() {
			n++
			_ = x.take(ignored(x.engine.Dispatch(context.Background(), "game:setProperty",
				dict{"key": fmt.Sprint("k", n), "value": strings.Repeat("x", 2<<20)})))
		}, "HypertokenMemoryGrowing")
		s.until(false, x.name, nil, "HypertokenMemoryGrowing")
	})

	if !require.IsRaced() { // the race detector takes more memory than the limit
		play("memory", host.Options{Workers: 1, MaxWorkerMemory: 64 << 20, MaxRestarts: 1 << 20, RestartWindow: 1},
			func(x *scene) {
				n := 0
				s.until(true, x.name, func() {
					n++
					_ = x.take(ignored(x.engine.Dispatch(context.Background(), "game:setProperty",
						dict{"key": fmt.Sprint("k", n%16), "value": strings.Repeat("x", 4<<20)})))
				}, "HypertokenWorkerMemory")
				if err := x.engine.Close(context.Background()); err != nil {
					t.Error(err)
				}
				s.until(false, x.name, nil, "HypertokenWorkerMemory")
			})
	}

	scenes.Go(func() { fullDisk(s) })
	scenes.Go(func() { failingDisk(s, failing, failingAt) })
	scenes.Go(func() { failingCluster(s) })
	scenes.Go(func() {
		s.until(false, other, nil, "HypertokenDown")
		down.Store(true)
		s.until(true, other, nil, "HypertokenDown")
		down.Store(false)
		s.until(false, other, nil, "HypertokenDown")
	})
	scenes.Wait()
	rules, err := os.ReadFile("../deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllSubmatch(rules, -1)
	for _, a := range alerts {
		if name := string(a[1]); !s.fired[name] && !(require.IsRaced() && name == "HypertokenWorkerMemory") {
			t.Errorf("%s has never fired", name)
		}
	}
	if len(alerts) == 0 {
		t.Error("there are no alerts")
	}
}

// fullDisk has a store that wants more room than any disk has.
func fullDisk(s *scraped) {
	store, err := disk.Open(s.t.TempDir(), disk.Options{MinFree: 1 << 60})
	if err != nil {
		s.t.Error(err)
		return
	}
	defer func() { _ = store.Close() }()
	const name = "full"
	registry := prometheus.WrapRegistererWith(prometheus.Labels{"host": name}, s.registry)
	collector := disk.NewCollector(store)
	registry.MustRegister(collector)
	s.until(true, name, nil, "HypertokenDiskFull", "HypertokenDiskNearlyFull")
	registry.Unregister(collector)
	s.until(false, name, nil, "HypertokenDiskFull", "HypertokenDiskNearlyFull")
}

// failingDisk shows figures that no store here can be brought to, at an address of their own.
func failingDisk(s *scraped, registry *prometheus.Registry, address string) {
	failed := prometheus.NewGauge(prometheus.GaugeOpts{Name: "hypertoken_store_failed"})
	damages := prometheus.NewCounter(prometheus.CounterOpts{Name: "hypertoken_store_damages_total"})
	started := prometheus.NewGauge(prometheus.GaugeOpts{Name: "process_start_time_seconds"})
	syncs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hypertoken_store_sync_seconds",
		Buckets: []float64{0.1, 0.2}})
	registry.MustRegister(failed, damages, started, syncs)
	all := []string{"HypertokenStoreFailed", "HypertokenSlowSyncs", "HypertokenFileDamaged",
		"HypertokenServerRestarting"}
	s.until(true, address, func() {
		failed.Set(1)
		damages.Inc()
		started.Inc()
		syncs.Observe(0.15)
	}, all...)
	failed.Set(0)
	s.until(false, address, nil, all...)
}

// failingCluster shows figures of a node of a cluster that goes wrong in every way.
func failingCluster(s *scraped) {
	const name = "cluster"
	registry := prometheus.WrapRegistererWith(prometheus.Labels{"host": name}, s.registry)
	gauge := func(name string, labels prometheus.Labels) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "hypertoken_jetstream_" + name, ConstLabels: labels})
		registry.MustRegister(g)
		return g
	}
	stream := prometheus.Labels{"stream": "journals"}
	lease, healthy, members := gauge("lease_held", nil), gauge("healthy", nil), gauge("members", nil)
	leader := gauge("stream_has_leader", stream)
	offline := gauge("stream_replicas", prometheus.Labels{"stream": "journals", "state": "offline"})
	lacking := gauge("members_without_core", nil)
	var counters []prometheus.Counter
	for _, name := range []string{"member_deaths_total", "failed_batches_total", "doubts_total"} {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "hypertoken_jetstream_" + name})
		registry.MustRegister(c)
		counters = append(counters, c)
	}
	set := func(isWell float64) {
		lease.Set(isWell)
		healthy.Set(isWell)
		leader.Set(isWell)
		offline.Set(1 - isWell)
		lacking.Set(1 - isWell)
	}
	set(1)
	members.Set(3)
	all := []string{"HypertokenNoLease", "HypertokenMemberDied", "HypertokenFewerMembers", "HypertokenNothingStored",
		"HypertokenAppendsRefused", "HypertokenBatchesInDoubt", "HypertokenStreamWithoutLeader",
		"HypertokenReplicaBehind", "HypertokenMemberLacksCore"}
	s.agrees(`hypertoken_jetstream_members{host="cluster"}`, 3)
	looks := 0
	s.until(true, name, func() {
		set(0)
		// The number of members falls again and again: only what was more a moment ago counts.
		if looks++; looks%80 < 20 {
			members.Set(3)
		} else {
			members.Set(2)
		}
		for _, c := range counters {
			c.Add(5)
		}
	}, all...)
	set(1)
	members.Set(3)
	s.until(false, name, nil, all...)
}

func ignored(_ host.Result, err error) error { return err }
