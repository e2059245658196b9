package torture

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hypertoken/host"
)

// tally has the figures of a host at some time that never decrease, by their names.
type tally map[string]uint64

// talliedIn returns the figures of measurements that never decrease.
func talliedIn(m *host.Measurements) tally {
	c := tally{"dispatched": m.Dispatched, "queue": m.Queue.Count, "wire": m.Wire.Count,
		"recoveries": m.Recovery.Count, "placed": m.Placed,
		"fallbacks": m.Fallbacks, "moved back": m.MovedBack, "replayed": m.Replayed, "records": m.Records,
		"record bytes": m.RecordBytes,
		"snapshots":    m.Snapshots, "snapshot bytes": m.SnapshotBytes, "frames sent": m.FramesSent,
		"bytes sent":      m.BytesSent,
		"frames received": m.FramesReceived, "bytes received": m.BytesReceived, "recovered": m.Recovered,
		"takeovers": m.Takeovers}
	for _, a := range m.ByAction {
		for outcome, n := range a.Outcomes {
			c["outcome "+outcome] += n
		}
		c["ended"] += a.Duration.Count
		c["run"] += a.Run.Count
	}
	for reason, n := range m.Restarts {
		c["ends "+reason.String()] = n
	}
	for _, w := range m.MeasuredWorkers {
		worker := fmt.Sprint("worker ", w.ID)
		c[worker+" restarts"], c[worker+" busy"], c[worker+" answered"], c[worker+" answers"] = w.Restarts,
			uint64(w.Busy), w.Answered, w.Answers.Count
	}
	return c
}

// measure checks the host's measurements: no counter goes back, and no action ends that was not
// dispatched.
func (t *torture) measure() {
	t.mu.Lock()
	before := t.measured
	t.mu.Unlock()
	m := t.host.Measure()
	now := talliedIn(&m)
	var found []Violation
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now[name] < before[name] {
			found = append(found, Violation{Fate: Miscounted, What: fmt.Sprintf("%s went from %d to %d", name,
				before[name], now[name])})
		}
	}
	if now["ended"] > m.Dispatched {
		found = append(found, Violation{Fate: Miscounted,
			What: fmt.Sprintf("%d actions were dispatched, and %d have ended", m.Dispatched, now["ended"])})
	}
	t.found(found)
	t.mu.Lock()
	t.measured = now
	t.mu.Unlock()
}

// compare compares the host's measurements, once the host is quiet, with the outcomes that callers
// got.
func (t *torture) compare() {
	m := t.host.Measure()
	t.mu.Lock()
	told := maps.Clone(t.told)
	t.mu.Unlock()
	now := talliedIn(&m)
	measured, total := map[string]uint64{}, uint64(0)
	for name, n := range now {
		if outcome, ok := strings.CutPrefix(name, "outcome "); ok {
			measured[outcome] = n
		}
	}
	for _, n := range told {
		total += n
	}
	found := compareOutcomes(measured, told)
	differs := func(what string, got, want uint64) {
		if got != want {
			found = append(found, Violation{Fate: Miscounted, What: fmt.Sprintf("%d %s; callers were told of %d", got,
				what, want)})
		}
	}
	differs("actions were dispatched", m.Dispatched, total)
	differs("actions ended", now["ended"], total)
	differs("actions are in flight", uint64(m.ActionsInFlight), 0)
	t.found(found)
}

// compareOutcomes compares the numbers of actions that a host has counted, by outcome, with the
// numbers of outcomes that callers got.
func compareOutcomes(measured, told map[string]uint64) (found []Violation) {
	names := maps.Clone(told)
	maps.Copy(names, measured)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if got, want := measured[name], told[name]; got != want {
			found = append(found, Violation{Fate: Miscounted,
				What: fmt.Sprintf("%d actions ended with %s; callers were told of %d", got, name, want)})
		}
	}
	return found
}
