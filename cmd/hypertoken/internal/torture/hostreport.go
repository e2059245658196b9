package torture

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// HostReport is the result of a torture whose victim is the host, so far or at its end.
type HostReport struct {
	Seed    uint64        `json:"seed"`
	Elapsed time.Duration `json:"elapsed_ns"`
	// Acknowledged counts actions whose result a caller got. Failed counts those of checked
	// engines that failed, by the code of their error.
	Acknowledged uint64            `json:"acknowledged"`
	Failed       map[string]uint64 `json:"failed"`
	// Deaths counts the hosts that were killed, by the moment, and Killed all of them. InFlight
	// counts those that had unanswered questions, Questions these questions. Shutdowns counts
	// hosts that ended without being killed.
	Deaths    map[HostMoment]int `json:"deaths"`
	Killed    int                `json:"killed"`
	InFlight  int                `json:"deaths_in_flight"`
	Questions int                `json:"questions_in_flight"`
	Shutdowns int                `json:"shutdowns"`
	// Openings has a time for each host that has answered: from its start to its first answer.
	Openings []time.Duration `json:"-"`
	OpenP50  time.Duration   `json:"open_p50_ns"`
	OpenP99  time.Duration   `json:"open_p99_ns"`
	// Repeated counts keys that were sent again to a later host, Compared the digests that were
	// compared with those of before.
	Repeated uint64 `json:"repeated"`
	Compared uint64 `json:"compared"`
	// Histories counts engines that were checked, from their creation to their end, Operations the
	// calls in them.
	Histories  int `json:"histories"`
	Operations int `json:"operations"`
	// Dir is the directory of the journals.
	Dir string `json:"dir"`
	Findings

	recent []string // the last deaths
}

// LeastDeaths is the least number of deaths of the host, per minute. With fewer, a torture has not
// tested enough.
const LeastDeaths = 100

// hostFates are the fates that a torture of the host can find.
var hostFates = []Fate{Lost, Duplicated, Diverged, Disordered, Visible, Leaked, Stuck}

// snapshot returns the report as it is now.
func (t *hostTorture) snapshot() HostReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.report
	r.Failed, r.Violated, r.Deaths = maps.Clone(r.Failed), maps.Clone(r.Violated), maps.Clone(r.Deaths)
	r.Violations, r.Openings = slices.Clone(r.Violations), slices.Clone(r.Openings)
	r.Elapsed = min(time.Since(t.epoch), t.config.For)
	if at := t.stopped.Load(); at > 0 {
		r.Elapsed = min(time.Duration(at), t.config.For)
	}
	r.Acknowledged, r.Repeated, r.Compared = t.acknowledged.Load(), t.repeated.Load(), t.compared.Load()
	for _, n := range r.Deaths {
		r.Killed += n
	}
	r.Dir = t.config.Dir
	return r
}

// finish computes the figures that only the last report has.
func (r *HostReport) finish() {
	slices.Sort(r.Openings)
	if n := len(r.Openings); n > 0 {
		r.OpenP50, r.OpenP99 = r.Openings[n/2], r.Openings[min(n-1, n*99/100)]
	}
}

// Err returns nil if the torture that c describes was passed. It fails if a guarantee did not
// hold, or if too few hosts were killed: fewer than c.Deaths, or fewer than LeastDeaths a minute
// if that is 0.
func (r *HostReport) Err(c HostConfig) error {
	least, rate := c.Deaths, ""
	if least == 0 {
		least, rate = int(LeastDeaths*r.Elapsed.Minutes()), fmt.Sprintf(" (%d a minute)", LeastDeaths)
	}
	if err := r.err(r.Seed); err != nil {
		return err
	}
	if r.Killed < least {
		return fmt.Errorf("only %d hosts were killed, want %d%s: give it more time, or leave the machine to it",
			r.Killed, least, rate)
	}
	return nil
}

// WriteTo writes the report for people.
func (r *HostReport) WriteTo(w io.Writer) (int64, error) {
	t := beginText(r.Seed, r.Elapsed, r.Acknowledged, r.Failed)
	t.line("deaths", "%d, %.0f a minute, %d with calls in flight (%d calls)", r.Killed,
		float64(r.Killed)/max(r.Elapsed.Minutes(), 1e-9), r.InFlight, r.Questions)
	t.line("moments", "%s; %d hosts had shut down before they were killed", counted(r.Deaths), r.Shutdowns)
	t.line("to serve again", "p50 %v, p99 %v (%d starts)", r.OpenP50.Round(100*time.Microsecond),
		r.OpenP99.Round(100*time.Microsecond), len(r.Openings))
	t.line("repeated", "%d keys that an earlier host had answered, %d digests", r.Repeated, r.Compared)
	t.line("checked", "%d engines from start to end, %d calls: linearizable, replayed, digests compared", r.Histories,
		r.Operations)
	r.write(&t.b, hostFates)
	if len(r.Violations) > 0 {
		t.line("journals", "are left in %s", r.Dir)
	}
	return t.writeTo(w)
}
