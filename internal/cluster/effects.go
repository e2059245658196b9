package cluster

// Effects carries out what the machines of a stream's slots ask for. Perform calls its methods
// after a step, in the order in which the step asked. A method must not call an event of the same
// machine: what it learns at once, it hands over after Perform has returned.
type Effects interface {
	// WriteOwner writes the owner record of a slot, on the condition that the newest one has the
	// sequence expected; 0 if there must be none. The answer goes to Slots.OwnerWritten with
	// r.Nonce.
	WriteOwner(slot int, expected uint64, r OwnerRecord)
	// ReadOwner reads the owner record of a slot, from any replica. What is found goes to
	// Slots.OwnerSeen.
	ReadOwner(slot int)
	// SendBatch sends a batch. The answer goes to Slots.BatchAnswered with its number. b is not
	// changed afterwards, and may be sent again.
	SendBatch(b *Batch)
	// ReadTail reads all messages on a slot's subject, from any replica; the result goes to
	// Slots.TailRead. ReadEngine reads an engine's subject from where the newest base says, if
	// there is a base; the result goes to Slots.EngineRead. Both are told the call. The newest base
	// is the one with the highest sequence, and the first one of these.
	ReadTail(slot int, call uint64)
	ReadEngine(slot int, call uint64, engine string)
	// RemoveTail removes the messages of a slot's subject up to a sequence. TrimEngine removes the
	// messages of an engine's subject before one. Neither has a condition or an answer.
	RemoveTail(slot int, through uint64)
	TrimEngine(engine string, before uint64)
	// TenureBegan says that engines of the slot may be opened.
	TenureBegan(t *Tenure)
	// CloseEngines asks for the end of the slot's engines: no new lines, and Slots.EnginesClosed
	// once nothing runs. StopEngines says that time is up: what still runs is fenced.
	CloseEngines(t *Tenure)
	StopEngines(t *Tenure)
	// TenureEnded says that the slot is not this node's any more. Its engines end, with nothing
	// stored beyond what Done has said or will say.
	TenureEnded(t *Tenure)
	// Done says how a call of a tenure ended.
	Done(call uint64, r Result)
	// RunLine says that a line that arrived runs in a tenure. RefuseLine says that nothing of it
	// ran: the line belongs to another node, of which Slots.Route knows as much as is known here.
	RunLine(t *Tenure, line uint64)
	RefuseLine(line uint64)
	// RouteChanged says that Slots.Route has another answer for a slot.
	RouteChanged(slot int)
}

// Outcome says how a call of a tenure ended.
type Outcome uint8

const (
	// OK: the entry is stored, the journal is loaded, or the barrier is passed.
	OK Outcome = iota
	// Moved: the slot is not this node's any more. The call had no effect.
	Moved
	// Overtaken: a load of the engine was called while the append still waited. It had no effect.
	Overtaken
	// Unknown: the slot was lost while the append was unanswered. It may be stored.
	Unknown
	// NewerCore: the journal runs on a core of a generation that this node does not run yet.
	NewerCore
	// Damaged: the journal lacks a group that its next group names, or has two that do not fit.
	Damaged
)

// String returns the outcome in lower case.
func (o Outcome) String() string {
	return [...]string{"ok", "moved", "overtaken", "unknown", "newer core", "damaged"}[o]
}

// Result is what a call of a tenure ended with. Journal is that of a load that ended with OK.
type Result struct {
	Outcome Outcome
	Journal Journal
}

// effect is a call of Effects: kind says which method, the other fields are its parameters.
type effect struct {
	kind     effectKind
	slot     int
	call     uint64
	sequence uint64
	engine   string
	record   OwnerRecord
	batch    *Batch
	tenure   *Tenure
	result   Result
}

type effectKind uint8

const (
	writeOwner effectKind = iota
	readOwner
	sendBatch
	readTail
	readEngine
	removeTail
	trimEngine
	tenureBegan
	closeEngines
	stopEngines
	tenureEnded
	done
	runLine
	refuseLine
	routeChanged
)

func (s *Slots) emit(e effect) { s.effects = append(s.effects, e) }

func (s *Slots) emitDone(call uint64, o Outcome) {
	s.emit(effect{kind: done, call: call, result: Result{Outcome: o}})
}

// Perform carries out the effects of the steps since it was last called, and sends what can be
// sent, until nothing is left to do.
func (s *Slots) Perform(to Effects) {
	for s.gather(); len(s.effects) > 0; s.gather() {
		list := s.effects
		s.effects = nil
		for k := range list {
			list[k].perform(to)
		}
	}
}

func (e *effect) perform(to Effects) {
	switch e.kind {
	case writeOwner:
		to.WriteOwner(e.slot, e.sequence, e.record)
	case readOwner:
		to.ReadOwner(e.slot)
	case sendBatch:
		to.SendBatch(e.batch)
	case readTail:
		to.ReadTail(e.slot, e.call)
	case readEngine:
		to.ReadEngine(e.slot, e.call, e.engine)
	case removeTail:
		to.RemoveTail(e.slot, e.sequence)
	case trimEngine:
		to.TrimEngine(e.engine, e.sequence)
	case tenureBegan:
		to.TenureBegan(e.tenure)
	case closeEngines:
		to.CloseEngines(e.tenure)
	case stopEngines:
		to.StopEngines(e.tenure)
	case tenureEnded:
		to.TenureEnded(e.tenure)
	case done:
		to.Done(e.call, e.result)
	case runLine:
		to.RunLine(e.tenure, e.call)
	case refuseLine:
		to.RefuseLine(e.call)
	case routeChanged:
		to.RouteChanged(e.slot)
	}
}
