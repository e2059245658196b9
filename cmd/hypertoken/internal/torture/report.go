package torture

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is the result of a torture, so far or at its end.
type Report struct {
	Seed    uint64        `json:"seed"`
	Elapsed time.Duration `json:"elapsed_ns"`
	// Acknowledged counts actions whose result a caller got. Failed counts the others, by the code
	// of their error.
	Acknowledged uint64            `json:"acknowledged"`
	Failed       map[string]uint64 `json:"failed"`
	// Faults counts the faults that have struck, by kind.
	Faults map[Kind]int `json:"faults"`
	// Deaths counts the worker processes that ended, InFlight those of them that had unanswered
	// requests of callers, Requests these requests.
	Deaths   int `json:"deaths"`
	InFlight int `json:"deaths_in_flight"`
	Requests int `json:"requests_in_flight"`
	// Recoveries has a time for each death with requests in flight, sorted: from the death until
	// the last of the waiting engines answered. Deaths after which no worker could start are left
	// out.
	Recoveries []time.Duration `json:"-"`
	RecoverP50 time.Duration   `json:"recovery_p50_ns"`
	RecoverP99 time.Duration   `json:"recovery_p99_ns"`
	// Ends are the ends of workers as the host sees them, by reason. Placed counts placings of
	// engines, Fallbacks those in this process.
	Ends              map[string]uint64 `json:"ends"`
	Placed, Fallbacks uint64            `json:"-"`
	// Takeovers counts workers that a spare replaced.
	Takeovers uint64 `json:"takeovers"`
	// Histories counts engines that were checked, from their opening to their end, Operations the
	// calls in them.
	Histories  int `json:"histories"`
	Operations int `json:"operations"`
	Findings
}

// Findings are the violations that a torture has found.
type Findings struct {
	// Violated counts the violations, by fate. Violations has the first of them.
	Violated   map[Fate]int `json:"violated"`
	Violations []Violation  `json:"violations"`
	// Struck are the faults before the first violation.
	Struck []string `json:"struck,omitempty"`
}

// LeastInFlight is the least number of deaths with requests in flight, per minute. With fewer, a
// torture has not tested enough.
const LeastInFlight = 100

// found adds violations. struck are the last faults before them.
func (f *Findings) found(list []Violation, struck []string) {
	if f.Violated == nil {
		f.Violated = map[Fate]int{}
	}
	if len(list) > 0 && len(f.Violations) == 0 {
		f.Struck = struck
	}
	for _, v := range list {
		f.Violated[v.Fate]++
		if len(f.Violations) < 20 {
			f.Violations = append(f.Violations, v)
		}
	}
}

// err returns an error if there are violations.
func (f *Findings) err(seed uint64) error {
	n := 0
	for _, k := range f.Violated {
		n += k
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d violations; --seed %d draws the same faults", n, seed)
}

// write adds the violations to a report for people.
func (f *Findings) write(b *strings.Builder, about []Fate) {
	for _, fate := range about {
		fmt.Fprintf(b, "%-14s %d\n", fate, f.Violated[fate])
	}
	for _, v := range f.Violations {
		fmt.Fprintf(b, "  %v\n", v)
	}
	if len(f.Struck) > 0 {
		fmt.Fprintf(b, "the last faults before:\n  %s\n", strings.Join(f.Struck, "\n  "))
	}
}

// snapshot returns the report as it is now.
func (t *torture) snapshot() Report {
	stats := t.host.Stats()
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.report
	r.Failed, r.Violated = maps.Clone(r.Failed), maps.Clone(r.Violated)
	r.Violations = slices.Clone(r.Violations)
	r.Elapsed, r.Acknowledged = t.elapsed(), t.acknowledged.Load()
	r.Ends = map[string]uint64{}
	for reason, n := range stats.Restarts {
		r.Ends[reason.String()] = n
	}
	r.Placed, r.Fallbacks, r.Takeovers = stats.Placed, stats.Fallbacks, stats.Takeovers
	t.injector.mu.Lock()
	defer t.injector.mu.Unlock()
	r.Faults = maps.Clone(t.injector.counts)
	if n := r.Failed["canceled"] + r.Failed["timeout"]; n > 0 {
		r.Faults[Cancel] = int(n)
	}
	if n := t.store.failed.Load(); n > 0 {
		r.Faults[Store] = int(n)
	}
	r.Deaths = len(t.injector.deaths)
	for _, d := range t.injector.deaths {
		if d.waiting > 0 {
			r.InFlight++
			r.Requests += d.waiting
		}
	}
	for _, engines := range t.recovered {
		longest := time.Duration(0)
		for _, took := range engines {
			longest = max(longest, took)
		}
		r.Recoveries = append(r.Recoveries, longest)
	}
	return r
}

// elapsed is for how long calls have been made.
func (t *torture) elapsed() time.Duration {
	began, until := t.began.Load(), t.stopped.Load()
	if began == 0 {
		return 0
	}
	if until == 0 {
		until = t.clock()
	}
	return min(time.Duration(until-began), t.config.For)
}

// finish computes the figures that only the last report has.
func (r *Report) finish() {
	slices.Sort(r.Recoveries)
	if n := len(r.Recoveries); n > 0 {
		r.RecoverP50, r.RecoverP99 = r.Recoveries[n/2], r.Recoveries[min(n-1, n*99/100)]
	}
}

// Err returns nil if the torture that c describes was passed. It fails if a guarantee did not
// hold, or if workers were to die and too few deaths had requests in flight: fewer than c.Deaths,
// or fewer than LeastInFlight a minute if that is 0.
func (r *Report) Err(c Config) error {
	least, rate := c.Deaths, ""
	if least == 0 {
		least, rate = int(LeastInFlight*r.Elapsed.Minutes()), fmt.Sprintf(" (%d a minute)", LeastInFlight)
	}
	if err := r.err(r.Seed); err != nil {
		return err
	}
	if slices.Contains(c.Faults, Kill) && r.InFlight < least {
		return fmt.Errorf("only %d deaths had requests in flight, want %d%s: "+
			"give it more time or more engines, or leave the machine to it", r.InFlight, least, rate)
	}
	return nil
}

// WriteTo writes the report for people.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	t := beginText(r.Seed, r.Elapsed, r.Acknowledged, r.Failed)
	t.line("faults", "%s", counted(r.Faults))
	t.line("deaths", "%d, %d with requests in flight (%d requests)", r.Deaths, r.InFlight, r.Requests)
	view := fmt.Sprintf("%s; %d placings, %d of them in this process", counted(r.Ends), r.Placed, r.Fallbacks)
	if r.Takeovers > 0 {
		view += fmt.Sprintf("; %d replaced by a spare", r.Takeovers)
	}
	t.line("host's view", "%s", view)
	t.line("to serve again", "p50 %v, p99 %v (%d recoveries)", r.RecoverP50.Round(100*time.Microsecond),
		r.RecoverP99.Round(100*time.Microsecond), len(r.Recoveries))
	t.line("checked", "%d engines from start to end, %d calls: linearizable, replayed, digests compared", r.Histories,
		r.Operations)
	r.write(&t.b, fates)
	return t.writeTo(w)
}

func counted[K ~string, N int | uint64](m map[K]N) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
