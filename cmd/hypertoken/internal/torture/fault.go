package torture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	// Kill: a worker gets SIGKILL.
	Kill Kind = "kill"
	// Exit: a worker reads bytes that are no frame, logs that, and exits by itself.
	Exit Kind = "exit"
	// Stop: a worker gets SIGSTOP, and SIGCONT once callers have gone on or given up, so that
	// answers come late.
	Stop Kind = "stop"
	// Hang: a worker gets SIGSTOP and no SIGCONT.
	Hang Kind = "hang"
	// Garbage: between a worker's answers, bytes arrive that are no frame.
	Garbage Kind = "garbage"
	// Repeat: an answer comes twice.
	Repeat Kind = "repeat"
	// Truncate: a worker's output ends in the middle of an answer, although the worker lives.
	Truncate Kind = "truncate"
	// Start: every worker dies, and every new one at its start, until they are given up.
	Start Kind = "start"
	// Store: an append to the journal fails, although it may have been stored.
	Store Kind = "store"
	// Cancel: callers give up, by a deadline or by a cancellation.
	Cancel Kind = "cancel"
)

// faults are all kinds, each with its description.
var faults = []struct {
	kind   Kind
	weight int // how often it strikes, relative to the others
	about  string
}{
	{Kill, 40, "a worker gets SIGKILL"},
	{Exit, 6, "a worker reads bytes that are no frame, and exits by itself"},
	{Stop, 8, "a worker gets SIGSTOP, and SIGCONT later, so that stale answers come"},
	{Hang, 3, "a worker gets SIGSTOP and nothing more"},
	{Garbage, 4, "bytes that are no frame come between a worker's answers"},
	{Repeat, 4, "an answer comes twice"},
	{Truncate, 2, "a worker's output ends in the middle of an answer, though it lives"},
	{Start, 1, "every worker dies, and no new one survives its start until an engine goes on in process"},
	{Store, 0, "an append to the journal fails, though it may have been stored"},
	{Cancel, 0, "callers give up, by deadlines and cancellations"},
}

// Kinds returns the kinds of faults that there are on this system.
func Kinds() []Kind {
	var kinds []Kind
	for _, f := range faults {
		if f.kind.possible() {
			kinds = append(kinds, f.kind)
		}
	}
	return kinds
}

// About explains the kinds, a line each.
func About() string {
	var b strings.Builder
	for _, f := range faults {
		if f.kind.possible() {
			fmt.Fprintf(&b, "  %-9s %s\n", f.kind, f.about)
		}
	}
	return b.String()
}

// ParseKinds reads a list of kinds, separated by commas; "all" is every one.
func ParseKinds(list string) ([]Kind, error) {
	if list == "all" {
		return Kinds(), nil
	}
	var kinds []Kind
	for _, name := range strings.Split(list, ",") {
		k := Kind(strings.TrimSpace(name))
		if !slices.Contains(Kinds(), k) {
			return nil, fmt.Errorf("%q is no fault: want all, or some of %v", name, Kinds())
		}
		if !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds, nil
}

// moment is a step of a worker's session at which a fault strikes.
type moment uint8

const (
	// sent: a whole request is in the pipe. halfSent: a part of a request is in the pipe.
	sent moment = iota
	halfSent
	// halfRead: a part of an answer was read. unread: an answer has arrived, and no byte of it was
	// read.
	halfRead
	unread
	// batch, placing, replay, snapshot: a request of this kind is in the pipe. chunk: a piece of a
	// stream was read, and the stream goes on.
	batch
	placing
	replay
	snapshot
	chunk
	// idle: no request is unanswered.
	idle
	moments
)

func (m moment) String() string {
	return [...]string{"a request is sent", "half a request is sent", "half an answer is read", "an answer is unread",
		"a batch is sent",
		"an engine is placed", "a journal is replayed", "a snapshot is asked for", "a snapshot is half read",
		"the worker is idle"}[m]
}

// rarity is the most moments of a kind that pass before a fault strikes. It is higher for frequent
// kinds.
var rarity = [moments]int{sent: 800, halfSent: 800, halfRead: 800, unread: 800, batch: 100, placing: 6, replay: 3,
	snapshot: 12, chunk: 6, idle: 100}

// fault is a fault that will strike. It strikes at the after-th moment of the kind at. share is
// the part of the frame that passes before it, from 0 to 1.
type fault struct {
	kind  Kind
	at    moment
	after int
	share float64
	// resume is how many calls end before a stopped worker goes on. If it is 0, the worker goes on
	// when a caller has given up.
	resume int
}

// anywhere reports whether the fault may strike at any moment.
func (f fault) anywhere() bool {
	return f.kind == Kill || f.kind == Stop || f.kind == Hang || f.kind == Start
}

func (f fault) String() string { return fmt.Sprintf("%s when %v", f.kind, f.at) }

// schedule is a sequence of faults that depends on its seed alone.
type schedule struct {
	rand  *rand.Rand
	kinds []Kind
}

func newSchedule(seed uint64, kinds []Kind) *schedule {
	s := &schedule{rand: rand.New(rand.NewPCG(seed, 0xfa017))}
	for _, f := range faults {
		if slices.Contains(kinds, f.kind) {
			s.kinds = append(s.kinds, slices.Repeat([]Kind{f.kind}, f.weight)...)
		}
	}
	return s
}

// next returns the next fault; false if no kind strikes a worker.
func (s *schedule) next() (fault, bool) {
	if len(s.kinds) == 0 {
		return fault{}, false
	}
	f := fault{kind: s.kinds[s.rand.IntN(len(s.kinds))], at: moment(s.rand.IntN(int(moments))), share: s.rand.Float64()}
	switch f.kind {
	case Exit:
		f.at = sent
	case Garbage, Repeat:
		f.at = unread
	case Truncate:
		f.at = halfRead
	case Stop:
		if s.rand.IntN(2) == 0 {
			f.resume = 1 + s.rand.IntN(2000)
		}
	}
	f.after = 1 + s.rand.IntN(rarity[f.at])
	return f, true
}

const (
	// pace is how long it is from one fault to the next at least.
	pace = 120 * time.Millisecond
	// patience is how many frames pass before a fault strikes at any moment, because its own does
	// not come.
	patience = 3_000
)
