// Package deploy holds what is shipped for operating a host against what the code exports: every
// query, every line of the tables in docs/observability.md.
package deploy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"hypertoken/host"
	"hypertoken/internal/require"
	"hypertoken/journal/disk"
	"hypertoken/metrics"
	"hypertoken/workerproc"
)

func TestMain(m *testing.M) {
	workerproc.Main()
	os.Exit(m.Run())
}

// exported is a metric as the code exports it.
type exported struct {
	kind   string
	labels []string
}

var description = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// export returns every metric that a host and its store on disk export: as the collectors describe
// them, and with the types that are gathered.
func export(t *testing.T) map[string]exported {
	t.Helper()
	store, err := disk.Open(t.TempDir(), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	h, err := host.New(t.Context(), host.Options{Workers: 1, Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	e, err := h.Open(t.Context(), "e",
		host.EngineOptions{Setup: map[string]any{"stack": []map[string]any{{"id": "a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	collectors := []prometheus.Collector{metrics.NewCollector(h, nil), disk.NewCollector(store)}
	if _, err := e.Dispatch(t.Context(), "stack:shuffle", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.DispatchBatch(t.Context(), host.BatchAtomic, []host.Action{{Type: "stack:draw"}}); err != nil {
		t.Fatal(err)
	}
	all := map[string]exported{}
	descs := make(chan *prometheus.Desc, 1000)
	for _, c := range collectors {
		c.Describe(descs)
	}
	close(descs)
	for d := range descs {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("a description that is not understood: %v", d)
		}
		all[m[1]] = exported{labels: split(m[2])}
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectors...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		x := all[f.GetName()]
		x.kind = strings.ToLower(dto.MetricType_name[int32(f.GetType())])
		all[f.GetName()] = x
	}
	for name, x := range all {
		if x.kind == "" {
			t.Errorf("%s was not gathered", name)
		}
	}
	return all
}

// exportServe returns the metrics of the server's own and of its store, as a scrape of the program
// has them.
func exportServe(t *testing.T) map[string]exported {
	t.Helper()
	program := filepath.Join(t.TempDir(), "hypertoken.exe")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program,
		"../cmd/hypertoken").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := exec.CommandContext(t.Context(), program, "serve", "--listen", "127.0.0.1:0", "--in-process",
		"--data", t.TempDir())
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	said, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Wait() }) // the context of the test has ended by then
	line, err := bufio.NewReader(said).ReadString('\n')
	url, listens := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !listens {
		t.Fatalf("the server says %q: %v", line, err)
	}
	ask := func(method, path string) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = answer.Body.Close() })
		return answer
	}
	if refused := ask(http.MethodPost, "/v1/engines/table"); refused.StatusCode/100 != 4 { // it has no body
		t.Fatal(refused.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(ask(http.MethodGet, "/metrics").Body)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]exported{}
	for name, f := range families {
		if !strings.HasPrefix(name, "hypertoken_serve_") && !strings.HasPrefix(name, "hypertoken_store_") {
			continue
		}
		x := exported{kind: strings.ToLower(dto.MetricType_name[int32(f.GetType())])}
		for _, l := range f.GetMetric()[0].GetLabel() {
			x.labels = append(x.labels, l.GetName())
		}
		all[name] = x
	}
	for _, name := range []string{"hypertoken_serve_connections", "hypertoken_store_healthy"} {
		if _, there := all[name]; !there {
			t.Fatalf("the server does not export %s", name)
		}
	}
	return all
}

// metricRow is a row of a table of metrics: a name, or several, then type, labels and meaning.
var metricRow = regexp.MustCompile("(?m)^\\| `(hypertoken_\\w+)`([^|]*)\\| (\\w+)[^|]*\\| ([^|]*)\\|")

// documented returns the metrics that a document has in its tables.
func documented(t *testing.T, file string) map[string]exported {
	t.Helper()
	docs, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]exported{}
	for _, m := range metricRow.FindAllStringSubmatch(string(docs), -1) {
		for _, name := range append([]string{m[1]}, regexp.MustCompile(`hypertoken_\w+`).FindAllString(m[2], -1)...) {
			list[name] = exported{m[3], split(m[4])}
		}
	}
	return list
}

// exportCluster returns the metrics of a node of a cluster. The tests of journal/jetstream and of the
// server's peers hold these documents to what is exported.
func exportCluster(t *testing.T) map[string]exported {
	t.Helper()
	all := documented(t, "../journal/jetstream/README.md")
	maps.Copy(all, documented(t, "../docs/cluster.md"))
	for _, name := range []string{"hypertoken_jetstream_lease_held", "hypertoken_serve_forwarded_lines_total"} {
		if _, there := all[name]; !there {
			t.Fatalf("no document has %s", name)
		}
	}
	return all
}

func split(list string) (names []string) {
	for _, name := range strings.Split(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

type rules struct {
	Groups []struct {
		Rules []struct {
			Record, Alert, Expr string
			Annotations         map[string]string
		}
	}
}

func readRules(t *testing.T) (r rules) {
	t.Helper()
	b, err := os.ReadFile("prometheus/rules.yml")
	if err == nil {
		err = yaml.Unmarshal(b, &r)
	}
	if err != nil || len(r.Groups) == 0 {
		t.Fatalf("%d groups, %v", len(r.Groups), err)
	}
	return r
}

// checker finds what queries ask for that is not there.
type checker struct {
	metrics  map[string]exported
	recorded map[string]bool
}

// targets are the labels that Prometheus adds to what it scrapes.
var targets = []string{"job", "instance"}

func (c *checker) check(query string) error {
	query = strings.NewReplacer("$__rate_interval", "5m").Replace(query)
	e, err := metricsql.Parse(query)
	if err != nil {
		return err
	}
	known, used := slices.Clone(targets), map[string]bool{}
	var problem error
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		switch x := e.(type) {
		case *metricsql.MetricExpr:
			for _, filters := range x.LabelFilterss {
				labels, err := c.series(filters)
				if err != nil {
					problem = err
				}
				known = append(known, labels...)
			}
		case *metricsql.AggrFuncExpr:
			for _, l := range x.Modifier.Args {
				used[l] = true
			}
		case *metricsql.BinaryOpExpr:
			for _, l := range append(slices.Clone(x.GroupModifier.Args), x.JoinModifier.Args...) {
				used[l] = true
			}
		}
	})
	for l := range used {
		if !slices.Contains(known, l) {
			problem = fmt.Errorf("the label %s is of none of its metrics", l)
		}
	}
	return problem
}

// series returns the labels of what a selector selects.
func (c *checker) series(filters []metricsql.LabelFilter) ([]string, error) {
	name := ""
	for _, f := range filters {
		if f.Label == "__name__" {
			name = f.Value
		}
	}
	var labels []string
	x, there := c.metrics[name]
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(name, suffix); cut && c.metrics[base].kind == "histogram" {
			x, there = c.metrics[base], true
			if suffix == "_bucket" {
				labels = append(labels, "le")
			}
		}
	}
	switch {
	case there && x.kind == "histogram" && len(labels) == 0 && c.metrics[name].kind == "histogram":
		return nil, fmt.Errorf("%s is a histogram: ask for its _bucket, _sum or _count", name)
	case there:
		labels = append(labels, x.labels...)
	case name == "up", name == "process_start_time_seconds": // of Prometheus, and of every Go program
	case c.recorded[name]:
		return append(labels, "action", "worker"), nil
	default:
		return nil, fmt.Errorf("there is no metric %q", name)
	}
	for _, f := range filters {
		if f.Label != "__name__" && !slices.Contains(targets, f.Label) && !slices.Contains(labels, f.Label) {
			return nil, fmt.Errorf("%s has no label %s", name, f.Label)
		}
	}
	return labels, nil
}

func newChecker(t *testing.T) *checker {
	c := &checker{export(t), map[string]bool{}}
	maps.Copy(c.metrics, exportCluster(t))
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			c.recorded[r.Record] = r.Record != ""
		}
	}
	return c
}

func TestTheRulesAskForWhatIsExported(t *testing.T) {
	c := newChecker(t)
	docs := map[string][]byte{}
	for _, name := range []string{"docs/observability.md", "docs/cluster.md"} {
		b, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		docs[name] = b
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			name := r.Record + r.Alert
			if err := c.check(r.Expr); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if r.Alert == "" {
				continue
			}
			file, anchor, _ := strings.Cut(r.Annotations["runbook_url"], "#")
			heading := regexp.MustCompile(`(?mi)^### ` + strings.ReplaceAll(regexp.QuoteMeta(anchor), "-", " ") + `$`)
			if anchor == "" || !heading.Match(docs[file]) {
				t.Errorf("%s: there is no runbook %q", name, r.Annotations["runbook_url"])
			}
		}
	}
}

type panel struct {
	Title   string
	Panels  []panel
	Targets []struct{ Expr string }
}

func TestTheDashboardAsksForWhatIsExported(t *testing.T) {
	c := newChecker(t)
	b, err := os.ReadFile("grafana/hypertoken.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels      []panel
		Annotations struct {
			List []struct{ Name, Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	check := func(where, query string) {
		if err := c.check(query); err != nil {
			t.Errorf("%s: %v\n%s", where, err, query)
		}
		for name := range c.metrics {
			asked[name] = asked[name] || regexp.MustCompile(`\b`+name+`(_bucket|_sum|_count)?\b`).MatchString(query)
		}
	}
	var walk func([]panel)
	walk = func(list []panel) {
		for _, p := range list {
			walk(p.Panels)
			for _, target := range p.Targets {
				check(p.Title, target.Expr)
			}
		}
	}
	walk(d.Panels)
	for _, a := range d.Annotations.List {
		check(a.Name, a.Expr)
	}
	values := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if v.Definition == "" {
			continue
		}
		m := values.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("the variable %s: %q is not understood", v.Name, v.Definition)
			continue
		}
		check(v.Name, "max by ("+m[2]+") ("+m[1]+")")
	}
	for _, name := range slices.Sorted(maps.Keys(c.metrics)) {
		if !asked[name] && name != "hypertoken_actions_in_flight" {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// A query of what is not there has to be found, or the tests above say nothing.
func TestWhatIsNotExportedIsFound(t *testing.T) {
	c := newChecker(t)
	for query, want := range map[string]string{
		`rate(hypertoken_actions_total[5m])`:                             "",
		`sum by (le, action) (hypertoken_action_run_seconds_bucket)`:     "",
		`instance:hypertoken_queue_used:ratio > 0.8`:                     "",
		`rate(hypertoken_action_total[5m])`:                              "no metric",
		`hypertoken_actions_total{worker="1"}`:                           "no label worker",
		`sum by (worker) (hypertoken_actions_total)`:                     "label worker",
		`hypertoken_action_run_seconds`:                                  "is a histogram",
		`hypertoken_actions_total_bucket`:                                "no metric",
		`hypertoken_workers + on (action) hypertoken_fallback_active`:    "label action",
		`histogram_quantile(0.9, hypertoken_action_run_seconds_bucket{x`: "parse",
	} {
		err := c.check(query)
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
}

// The tables of the documentation are what the code exports, and nothing else.
func TestEveryMetricIsDocumented(t *testing.T) {
	got := documented(t, "../docs/observability.md")
	all := export(t)
	maps.Copy(all, exportServe(t))
	for name, x := range all {
		if g, there := got[name]; !there || g.kind != x.kind || !slices.Equal(g.labels, x.labels) {
			t.Errorf("%s is a %s with the labels %v; docs/observability.md has %+v (%v)", name, x.kind, x.labels, g,
				there)
		}
	}
	for name := range got {
		if _, there := all[name]; !there {
			t.Errorf("docs/observability.md has %s, which is not exported", name)
		}
	}
}

// So are the messages of the log, above debug level.
func TestEveryLogMessageIsDocumented(t *testing.T) {
	docs, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`(?:log|Log|logger|Logger)\.(Info|Warn|Error)\("([^"]+)"[,)]`)
	found := map[string]bool{}
	for _, dir := range []string{"host", "workerproc", "internal/driver", "internal/inproc", "internal/pool",
		"internal/process", "journal/disk"} {
		files, err := filepath.Glob("../" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range call.FindAllStringSubmatch(string(b), -1) {
				found[m[2]] = true
				if row := fmt.Sprintf("| %s | %s |", strings.ToLower(m[1]), m[2]); !strings.Contains(string(docs),
					row) {
					t.Errorf("%s: docs/observability.md has no row %q", file, row)
				}
			}
		}
	}
	if len(found) < 15 {
		t.Errorf("only %d messages were found", len(found))
	}
}

// promtool runs the tests of the rules.
func TestTheRulesFireWhenTheyShould(t *testing.T) {
	promtool := require.Tool(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "rules.yml"},
		{"test", "rules", "rules_test.yml"}} {
		c := exec.CommandContext(t.Context(), promtool, args...)
		c.Dir = "prometheus"
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	tests, err := os.ReadFile("prometheus/rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert != "" && strings.Count(string(tests), "alertname: "+r.Alert+"\n") < 2 {
				t.Errorf("%s has no test of both sides", r.Alert)
			}
		}
	}
}
