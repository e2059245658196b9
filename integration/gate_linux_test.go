package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"hypertoken/internal/tap"
	"hypertoken/ipc"
)

// stage is a scenario as it runs: the gates in front of its workers, and what has happened so far.
type stage struct {
	*scenario
	names []string // of the requests, sorted: a request's mark is its index here, plus one

	mu      sync.Mutex    // guards what follows, and the gates
	changed chan struct{} // closed, and made anew, whenever something happens
	gates   map[*gate]bool
	paused  bool // no worker begins anything
	gone    bool // no worker can be started
	// dispatched, begun, arrived: by request. placings and snapshots: by engine.
	dispatched                          map[string]bool
	begun, arrived, placings, snapshots map[string]int
	outcomes                            map[string]string
	results                             map[string][]byte
	// suspects are the requests that ran on a worker when it died: they have to run alone.
	suspects   map[string]bool
	violations []string
	placements map[uint64]string // the engine of each placement
}

func newStage(s *scenario) *stage {
	return &stage{
		scenario: s, names: slices.Sorted(maps.Keys(s.Requests)), changed: make(chan struct{}), gates: map[*gate]bool{},
		dispatched: map[string]bool{}, begun: map[string]int{}, arrived: map[string]int{},
		placings: map[string]int{}, snapshots: map[string]int{}, outcomes: map[string]string{},
		results: map[string][]byte{}, suspects: map[string]bool{}, placements: map[uint64]string{},
	}
}

// changedLocked wakes those that wait for something to happen. mu is held.
func (s *stage) changedLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// scenarioPatience is for how long a scenario waits for something that has to happen. A busy
// machine takes its time.
const scenarioPatience = time.Minute

// until waits until something holds, which is looked at with mu held.
func (s *stage) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limited, cancel := context.WithTimeout(t.Context(), scenarioPatience)
	defer cancel()
	for {
		s.mu.Lock()
		ok, changed := holds(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limited.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("waited in vain for: %s; begun %v, outcomes %v, placings %v", what, s.begun, s.outcomes,
				s.placings)
		}
	}
}

func (s *stage) entropyOf(name string) (entropy [16]byte) {
	entropy[0] = byte(1 + slices.Index(s.names, name))
	return entropy
}

// namesInLocked returns the requests in a frame: one for an action or a question, one for each
// member of a batch, none for the host's own.
func (s *stage) namesInLocked(f *gateFrame) (names []string) {
	mark := func(entropy [16]byte) string {
		if at := int(entropy[0]) - 1; at >= 0 && at < len(s.names) {
			return s.names[at]
		}
		return ""
	}
	switch f.Kind {
	case ipc.Dispatch:
		if a, err := ipc.ReadAction(f.body); err == nil {
			names = append(names, mark(a.Entropy))
		}
	case ipc.Batch:
		members, _ := ipc.ReadBatch(f.body, nil)
		for k := range members {
			names = append(names, mark(members[k].Action.Entropy))
		}
	case ipc.Digest:
		for _, name := range s.names {
			if s.Requests[name].Ask == "digest" && s.dispatched[name] && s.outcomes[name] == "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// nth returns what happens the n-th time, from 1. The last word of the list holds for all times
// that follow.
func nth(list []string, n int) string {
	if len(list) == 0 {
		return "answer"
	}
	return list[min(n, len(list))-1]
}

// beginLocked says what happens to a frame that a worker begins now.
func (s *stage) beginLocked(g *gate, f *gateFrame) (what string) {
	what = "answer"
	if f.Kind == ipc.Feed && s.placements[f.Placement] == "" {
		for name := range s.Engines {
			if bytes.Contains(f.body, []byte(name+":t0")) {
				s.placements[f.Placement] = name
				s.placings[name]++
				what = nth(s.Engines[name].Placings, s.placings[name])
			}
		}
	}
	if engine := s.placements[f.Placement]; f.Kind == ipc.Snapshot {
		s.snapshots[engine]++
		what = nth(s.Engines[engine].Snapshots, s.snapshots[engine])
	}
	suspect := false
	for _, name := range f.names {
		s.begun[name]++
		if own := nth(s.Requests[name].Runs, s.begun[name]); what == "answer" {
			what = own
		}
		suspect = suspect || s.suspects[name]
	}
	if suspect {
		f.suspect = true
		g.checkAloneLocked()
	}
	s.changedLocked()
	return what
}

// suspectLocked takes note that a worker has died of its own while it ran some requests. If
// they ran alone, the others are no suspects any more.
func (s *stage) suspectLocked(names []string) {
	for _, name := range names {
		if s.suspects[name] {
			clear(s.suspects)
			break
		}
	}
	for _, name := range names {
		s.suspects[name] = true
	}
}

func (s *stage) removeWorkersLocked() {
	s.gone = true
	for g := range s.gates {
		g.dieLocked()
	}
}

// gateFrame is a frame on its way to a worker.
type gateFrame struct {
	ipc.Header
	body      []byte
	names     []string
	behaviour string
	suspect   bool
	released  bool
}

// gate stands between a host and a worker process. The stage's lock guards it.
type gate struct {
	stage   *stage
	process tap.Process
	to      *ipc.Writer
	frames  *ipc.Reader // what the host sends
	queue   []*gateFrame
	running *gateFrame
	held    []heldFrame // answers of the one that runs
	lost    map[uint64]bool
	over    bool // nothing more goes to the worker, and nothing of it is handed on
	// ready has what the host may read, and then err.
	ready []byte
	err   error
}

type heldFrame struct {
	ipc.Header
	body []byte
}

// gate makes a gate for a process that the host has started. The goroutine that reads from the
// process ends with it.
func (s *stage) gate(p tap.Process) (ipc.Sink, ipc.Source) {
	g := &gate{stage: s, process: p, to: ipc.NewWriter(p.In), frames: ipc.NewReader(1<<30, true),
		lost: map[uint64]bool{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates[g] = true
	if s.gone {
		g.dieLocked()
	}
	go g.read()
	return g, g
}

// TryWrite takes frames of the host.
func (g *gate) TryWrite(b []byte) (int, error) {
	s := g.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	for rest := b; len(rest) > 0 && !g.over; {
		n := copy(g.frames.Space(), rest)
		g.frames.Filled(n)
		rest = rest[n:]
		for {
			f, ok, err := g.frames.Next()
			if err != nil {
				return 0, err
			}
			if !ok {
				break
			}
			g.arrivedLocked(&gateFrame{Header: f.Header, body: bytes.Clone(g.frames.Body(f))})
		}
		g.frames.ReleaseAll()
	}
	if g.running != nil && g.running.suspect {
		g.checkAloneLocked()
	}
	s.changedLocked()
	g.advanceLocked()
	return len(b), nil
}

// WriteAll takes what did not fit, which never happens.
func (g *gate) WriteAll(b []byte, done func(error)) {
	_, err := g.TryWrite(b)
	go done(err)
}

func (g *gate) arrivedLocked(f *gateFrame) {
	if f.Kind == ipc.Recall {
		g.recallLocked(f)
		return
	}
	f.names = g.stage.namesInLocked(f)
	for _, name := range f.names {
		g.stage.arrived[name]++
	}
	g.queue = append(g.queue, f)
}

// recallLocked drops a request that the worker has not begun, as a worker does. One that has
// begun runs on.
func (g *gate) recallLocked(f *gateFrame) {
	for k, q := range g.queue {
		if q.Request == f.Request && q.Kind != ipc.Close {
			g.queue = slices.Delete(g.queue, k, k+1)
			g.handOnLocked(ipc.Header{Kind: ipc.Dropped, Request: q.Request, Placement: q.Placement}, nil)
			return
		}
	}
}

// checkAloneLocked takes note if anything else is at the worker while a suspect runs.
func (g *gate) checkAloneLocked() {
	for _, q := range g.queue {
		if len(q.names) > 0 {
			g.stage.violations = append(g.stage.violations,
				fmt.Sprintf("%v runs as a suspect, and %v is at the worker with it", g.running.names, q.names))
		}
	}
}

// advanceLocked lets the worker begin the next request, if it runs none.
func (g *gate) advanceLocked() {
	for g.running == nil && !g.stage.paused && !g.over && len(g.queue) > 0 {
		f := g.queue[0]
		g.queue = g.queue[1:]
		if f.Kind == ipc.Close {
			g.forwardLocked(f.Header, f.body)
			continue
		}
		g.running = f
		f.behaviour = "answer"
		if !g.lost[f.Placement] {
			f.behaviour = g.stage.beginLocked(g, f)
		}
		switch f.behaviour {
		case "die":
			g.dieLocked()
		case "die for good":
			g.stage.removeWorkersLocked()
		case "hang":
		case "hang for good":
			g.stage.gone = true
		default:
			g.forwardLocked(f.Header, f.body)
		}
	}
}

func (g *gate) forwardLocked(h ipc.Header, body []byte) {
	g.to.Append(h, body)
	g.to.Flush()
}

// handOnLocked lets the host read a frame.
func (g *gate) handOnLocked(h ipc.Header, body []byte) {
	g.ready = append(g.ready, frame(h.Kind, h.Flags, h.Request, h.Placement, body)...)
	g.stage.changedLocked()
}

// dieLocked kills the process, as something other than the host would.
func (g *gate) dieLocked() {
	if g.over {
		return
	}
	g.over = true
	if g.running != nil {
		g.stage.suspectLocked(g.running.names)
	}
	g.process.Kill()
}

// read takes what the worker writes, until it has ended.
func (g *gate) read() {
	s, from, b := g.stage, ipc.NewReader(1<<30, false), make([]byte, 64<<10)
	for {
		n, err := g.process.Out.Read(b)
		s.mu.Lock()
		for rest := b[:n]; len(rest) > 0 && !g.over; {
			k := copy(from.Space(), rest)
			from.Filled(k)
			rest = rest[k:]
			for {
				f, ok, err := from.Next()
				if err != nil || !ok {
					break
				}
				g.answeredLocked(f.Header, bytes.Clone(from.Body(f)))
			}
			from.ReleaseAll()
		}
		if err != nil {
			g.err, g.over = io.EOF, true
			delete(s.gates, g)
			s.changedLocked()
			s.mu.Unlock()
			return
		}
		s.changedLocked()
		s.mu.Unlock()
	}
}

// answeredLocked takes a frame of the worker.
func (g *gate) answeredLocked(h ipc.Header, body []byte) {
	f := g.running
	if f == nil || h.Kind == ipc.Hello || g.over {
		if !g.over {
			g.handOnLocked(h, body)
		}
		return
	}
	switch {
	case f.behaviour == "run and die":
		g.dieLocked()
		return
	case f.behaviour == "late" && !f.released:
		g.held = append(g.held, heldFrame{h, body})
		g.stage.changedLocked()
		return
	case h.Kind == ipc.Chunk:
		g.handOnLocked(h, body)
		return
	case f.behaviour == "garble":
		// The host ends the worker for it.
		h.Request += 1000
		g.stage.suspectLocked(f.names)
		g.handOnLocked(h, body)
		g.over = true
		return
	case f.behaviour == "refuse":
		failure := ipc.Failure{Code: ipc.CodeNotPlaced, Message: "the scenario says so", Index: -1}
		h.Flags, body = ipc.FlagFailed|ipc.FlagLost, failure.Append(nil)
		g.forwardLocked(ipc.Header{Kind: ipc.Close, Placement: f.Placement}, nil)
	}
	if h.Flags&ipc.FlagLost != 0 {
		g.lost[f.Placement] = true
	}
	for _, name := range f.names {
		delete(g.stage.suspects, name)
	}
	g.running = nil
	g.handOnLocked(h, body)
	g.advanceLocked()
}

// holdsLocked reports whether the worker has run a request whose answer is held back.
func (g *gate) holdsLocked(name string) bool {
	return len(g.held) > 0 && slices.Contains(g.running.names, name)
}

func (g *gate) releaseLocked() {
	g.running.released = true
	held := g.held
	g.held = nil
	for _, a := range held {
		g.answeredLocked(a.Header, a.body)
	}
}

// TryRead hands on what is there.
func (g *gate) TryRead(b []byte) (int, error) {
	n, _, err := g.take(b)
	return n, err
}

// Read waits for something to hand on.
func (g *gate) Read(b []byte) (int, error) {
	for {
		n, changed, err := g.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		<-changed
	}
}

// take hands on what is there. If that is nothing, changed is closed when there may be more.
func (g *gate) take(b []byte) (n int, changed chan struct{}, err error) {
	s := g.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	n = copy(b, g.ready)
	g.ready = g.ready[n:]
	if n == 0 {
		err = g.err
	}
	return n, s.changed, err
}
