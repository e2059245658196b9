package torture

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// ClusterReport is the result of a torture whose victims are the nodes and the servers of a cluster, so far
// or at its end.
type ClusterReport struct {
	Seed    uint64        `json:"seed"`
	Elapsed time.Duration `json:"elapsed_ns"`
	// Acknowledged counts actions whose result a caller got. Unknown counts calls without a key that may
	// have run or not, as far as their callers know.
	Acknowledged uint64 `json:"acknowledged"`
	Unknown      uint64 `json:"unknown"`
	// Failed counts failures that callers were told of, by their code; no_answer are connections that were
	// lost. What has a key, and questions, are sent again after one.
	Failed map[string]uint64 `json:"failed"`
	// Faults counts the faults that have struck, by kind, and Deaths the nodes and servers that they have
	// ended.
	Faults map[ClusterKind]int `json:"faults"`
	// Skipped says which kinds of faults this machine does not allow, and why.
	Skipped map[ClusterKind]string `json:"skipped,omitempty"`
	Deaths  int                    `json:"deaths"`
	// Waits has the longest time from the first sending of a call to its end, by the kind of the newest
	// fault before the end.
	Waits map[ClusterKind]time.Duration `json:"longest_waits_ns"`
	// Repeated counts keys that were sent again after they had been answered.
	Repeated uint64 `json:"repeated"`
	// Histories counts engines that were checked, from their creation to their end, Operations the calls in
	// them that had an effect or an answer.
	Histories  int `json:"histories"`
	Operations int `json:"operations"`
	// Dir is the directory of the logs.
	Dir string `json:"dir"`
	Findings

	recent []string // the last faults
}

// LeastClusterDeaths is the least number of nodes and servers that faults have to end, per minute. With
// fewer, a torture has not tested enough.
const LeastClusterDeaths = 4

// clusterFates are the fates that a torture of a cluster can find.
var clusterFates = []Fate{Lost, Duplicated, Diverged, Disordered, Stale, Visible, Leaked, Stuck}

// snapshot returns the report as it is now.
func (t *clusterTorture) snapshot() ClusterReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.report
	r.Failed, r.Violated, r.Faults = maps.Clone(r.Failed), maps.Clone(r.Violated), maps.Clone(r.Faults)
	r.Violations, r.Waits = slices.Clone(r.Violations), maps.Clone(r.Waits)
	r.Elapsed = min(time.Since(t.epoch), t.config.For)
	if at := t.stopped.Load(); at > 0 {
		r.Elapsed = min(time.Duration(at), t.config.For)
	}
	r.Repeated, r.Dir = t.repeated.Load(), t.config.Dir
	return r
}

// Err returns nil if the torture that c describes was passed. It fails if a guarantee did not hold, or if
// too few processes died: fewer than c.Deaths, or fewer than LeastClusterDeaths a minute if that is 0.
func (r *ClusterReport) Err(c ClusterConfig) error {
	if err := r.err(r.Seed); err != nil {
		return err
	}
	least, rate := c.Deaths, ""
	if least == 0 && Kills(c.Faults) {
		least, rate = int(LeastClusterDeaths*r.Elapsed.Minutes()), fmt.Sprintf(" (%d a minute)", LeastClusterDeaths)
	}
	if r.Deaths < least {
		return fmt.Errorf("only %d nodes and servers died, want %d%s: give it more time, or leave the machine to it",
			r.Deaths, least, rate)
	}
	return nil
}

// WriteTo writes the report for people.
func (r *ClusterReport) WriteTo(w io.Writer) (int64, error) {
	t := beginText(r.Seed, r.Elapsed, r.Acknowledged, r.Failed)
	t.line("unknown", "%d calls without a key", r.Unknown)
	t.line("faults", "%s", counted(r.Faults))
	for _, k := range slices.Sorted(maps.Keys(r.Skipped)) {
		t.line("skipped", "%s: %s", k, r.Skipped[k])
	}
	t.line("deaths", "%d nodes and servers", r.Deaths)
	var waits []string
	for _, k := range slices.Sorted(maps.Keys(r.Waits)) {
		waits = append(waits, fmt.Sprintf("%s %v", k, r.Waits[k].Round(time.Millisecond)))
	}
	t.line("longest waits", "%s", strings.Join(waits, ", "))
	t.line("repeated", "%d keys that had been answered", r.Repeated)
	t.line("checked", "%d engines from start to end, %d calls: linearizable, replayed, digests compared", r.Histories,
		r.Operations)
	r.write(&t.b, clusterFates)
	if len(r.Violations) > 0 {
		t.line("logs", "are left in %s", r.Dir)
	}
	return t.writeTo(w)
}
