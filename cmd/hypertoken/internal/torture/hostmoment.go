package torture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"hypertoken/journal"
	"hypertoken/journal/disk"
)

// HostMoment is a moment at which a host is killed.
type HostMoment string

// The moments at which hosts are killed.
const (
	// AtOpening: while the host opens the directory, starts its workers and places its first
	// engines.
	AtOpening HostMoment = "opening"
	// AtLoad: right after the store got a load.
	AtLoad HostMoment = "load"
	// AtAppend: after the store got a group of records, for example while it writes the group.
	AtAppend HostMoment = "append"
	// AtStored: when the store has reported a group as stored, and the host does not know it yet.
	AtStored HostMoment = "stored"
	// AtCommit: when the host has just been told that a group is stored.
	AtCommit HostMoment = "commit"
	// AtBase: after the store got a base, for example while it writes the base.
	AtBase HostMoment = "base"
	// AtInstalled: when the store has reported a base as installed, and the host does not know it
	// yet.
	AtInstalled HostMoment = "installed"
	// AtAnswer: when a caller has just got an answer.
	AtAnswer HostMoment = "answer"
	// AtShutdown: during Shutdown.
	AtShutdown HostMoment = "shutdown"
)

// hostMoments are all moments.
var hostMoments = []struct {
	moment HostMoment
	weight int // how often hosts are killed then, relative to the other moments
	most   int // the host is killed at one of so many of them
	about  string
}{
	{AtOpening, 12, 1, "while it opens the directory and places its first engines"},
	{AtLoad, 8, 12, "while the store loads a journal"},
	{AtAppend, 24, 150, "while the store writes a group of records"},
	{AtStored, 10, 150, "when a group is stored, and the host does not know it yet"},
	{AtCommit, 6, 150, "when the host has just learnt that a group is stored"},
	{AtBase, 12, 12, "while the store writes a base"},
	{AtInstalled, 6, 12, "when a base is stored, and the host does not know it yet"},
	{AtAnswer, 16, 300, "when a caller has just got an answer"},
	{AtShutdown, 6, 100, "while it shuts down"},
}

// AboutHost describes the moments for the help text, one a line.
func AboutHost() string {
	var b strings.Builder
	for _, m := range hostMoments {
		fmt.Fprintf(&b, "  %-10s %s\n", m.moment, m.about)
	}
	return b.String()
}

// doom says when a host is killed. The zero value is a host that is not killed.
type doom struct {
	Moment HostMoment
	// Count is at how many such moments: 1 for the first one. For AtShutdown, it counts the
	// answers before the shutdown.
	Count int64
	// Delay is the time between the moment and the kill.
	Delay time.Duration
}

func (d doom) String() string {
	if d.Moment == "" {
		return "no death"
	}
	return fmt.Sprintf("%s %d, %v later", d.Moment, d.Count, d.Delay)
}

// drawDoom draws when a host is killed. opening is the time that a host needs for its first
// answer.
func drawDoom(r *rand.Rand, opening time.Duration) doom {
	sum := 0
	for _, m := range hostMoments {
		sum += m.weight
	}
	n := r.IntN(sum)
	k := 0
	for ; n >= hostMoments[k].weight; k++ {
		n -= hostMoments[k].weight
	}
	// Squares make early moments frequent, so that there are many deaths.
	count, share := r.Float64(), r.Float64()
	d := doom{Moment: hostMoments[k].moment, Count: 1 + int64(count*count*float64(hostMoments[k].most))}
	switch d.Moment {
	case AtOpening:
		d.Delay = time.Duration(share * float64(opening))
	case AtShutdown:
		d.Delay = time.Duration(share * share * float64(100*time.Millisecond))
	case AtLoad, AtAppend, AtBase:
		if share > 0.3 { // below, at once
			d.Delay = time.Duration(share * share * float64(4*time.Millisecond))
		}
	}
	return d
}

// doomedStore is the store of a host that is killed at a moment of its store.
type doomedStore struct {
	*disk.Store
	doom doom
	seen atomic.Int64 // how many such moments there were
	die  func(after time.Duration)
}

// reaches reports whether this moment is the one at which the host is killed.
func (s *doomedStore) reaches(m HostMoment) bool {
	return s.doom.Moment == m && s.seen.Add(1) == s.doom.Count
}

// Append kills the host behind an append, or at the end of one.
func (s *doomedStore) Append(name string, owner journal.Owner, newest uint64, group []journal.Record,
	done journal.Done) {
	switch {
	case s.reaches(AtStored):
		done = journal.DoneFunc(func(error) { s.die(0) })
	case s.reaches(AtCommit):
		told := done
		done = journal.DoneFunc(func(err error) { told.Report(err); s.die(0) })
	}
	s.Store.Append(name, owner, newest, group, done)
	if s.reaches(AtAppend) {
		s.die(s.doom.Delay)
	}
}

// Install kills the host behind an install, or at the end of one.
func (s *doomedStore) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	if s.reaches(AtInstalled) {
		done = journal.DoneFunc(func(error) { s.die(0) })
	}
	s.Store.Install(name, owner, base, done)
	if s.reaches(AtBase) {
		s.die(s.doom.Delay)
	}
}

// Load kills the host behind a load.
func (s *doomedStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	s.Store.Load(name, owner, done)
	if s.reaches(AtLoad) {
		s.die(s.doom.Delay)
	}
}
