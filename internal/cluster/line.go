package cluster

import "time"

// LineEffects carries out what a [Line] asks for.
type LineEffects interface {
	// RunHere hands the line to this node's own Slots.Arrive, with the epoch that is known.
	RunHere(epoch uint64)
	// Forward sends the line to the node that owns the slot, over HTTP or, if overLog is set, over
	// the servers of the log. attempt counts the sendings from 1.
	Forward(to NodeID, epoch uint64, attempt int, overLog bool)
	// End says that the line has ended. It is the last effect.
	End(o LineOutcome)
}

// LineOutcome says how a line ended at the node that it came to.
type LineOutcome uint8

const (
	// Answered: the answer of the owner is the client's.
	Answered LineOutcome = iota
	// TimedOut: the deadline has passed, and the line had no effect.
	TimedOut
	// OutcomeUnknown: the line may have run, and nobody knows.
	OutcomeUnknown
)

// String returns the outcome in lower case.
func (o LineOutcome) String() string {
	return [...]string{"answered", "timed out", "outcome unknown"}[o]
}

// Line is a line that a client sent to this node: it takes the line to the node that owns the slot,
// and to the next owner if it has moved. Its events are Routed, Answered, Refused, Lost, Unreached
// and Tick.
type Line struct {
	// mayRepeat says that the line has a key, or changes nothing: it may run twice.
	mayRepeat bool
	// isRead says that it changes nothing.
	isRead   bool
	deadline time.Duration
	retry    time.Duration

	self  NodeID
	node  NodeID
	epoch uint64

	attempt int
	// isOut says that the present attempt has no answer yet. mayHaveRun says that an attempt was
	// sent, and that nobody said what became of it.
	isOut, mayHaveRun bool
	overLog           bool
	// triedEpoch is that of the last attempt. retryAt is when the line is sent again though the
	// epoch is the same.
	triedEpoch uint64
	retryAt    time.Duration
	isEnded    bool

	effects []lineEffect
}

// lineEffect is a call of LineEffects.
type lineEffect struct {
	kind    lineEffectKind
	node    NodeID
	epoch   uint64
	attempt int
	overLog bool
	outcome LineOutcome
}

type lineEffectKind uint8

const (
	runHere lineEffectKind = iota
	forward
	endLine
)

// NewLine returns a line that came to the node self. hasKey says that the line has a key, isRead
// that it changes nothing. retry is the wait before it is sent to the same owner again.
func NewLine(self NodeID, hasKey, isRead bool, deadline, retry time.Duration) *Line {
	return &Line{self: self, mayRepeat: hasKey || isRead, isRead: isRead, deadline: deadline, retry: retry}
}

// Routed says who owns the slot, as far as this node knows. It is called at first, and whenever
// that changes.
func (l *Line) Routed(node NodeID, epoch uint64, now time.Duration) {
	l.node, l.epoch = node, epoch
	l.sendIfPossible(now)
}

// sendIfPossible sends the line to the owner, if it is not with one already.
func (l *Line) sendIfPossible(now time.Duration) {
	if l.isEnded || l.isOut || l.node == nobody || (l.epoch <= l.triedEpoch && now < l.retryAt) {
		return
	}
	l.isOut, l.triedEpoch = true, l.epoch
	l.attempt++
	if l.node == l.self {
		l.effects = append(l.effects, lineEffect{kind: runHere, epoch: l.epoch})
		return
	}
	l.effects = append(l.effects,
		lineEffect{kind: forward, node: l.node, epoch: l.epoch, attempt: l.attempt, overLog: l.overLog})
}

// Attempt returns the number of the present attempt. The answer to it is the event that names it.
func (l *Line) Attempt() int { return l.attempt }

// Answered says that the owner has answered, with a result or an error of the line. The answer to
// an earlier attempt counts as well: it is the truth.
func (l *Line) Answered() { l.end(Answered) }

// Refused says that an attempt was refused: nothing of it ran.
func (l *Line) Refused(attempt int, now time.Duration) { l.wait(attempt, false, now) }

// Unreached says that an attempt could not be sent: nothing of it ran. The next one takes the other
// way.
func (l *Line) Unreached(attempt int, now time.Duration) {
	l.overLog = !l.overLog
	l.wait(attempt, false, now)
}

// Lost says that an attempt was sent, and that no answer will come.
func (l *Line) Lost(attempt int, now time.Duration) { l.wait(attempt, true, now) }

// wait ends an attempt without an answer.
func (l *Line) wait(attempt int, mayHaveRun bool, now time.Duration) {
	if l.isEnded || attempt != l.attempt || !l.isOut {
		return
	}
	l.isOut = false
	l.mayHaveRun = l.mayHaveRun || mayHaveRun
	if mayHaveRun && !l.mayRepeat {
		l.end(OutcomeUnknown)
		return
	}
	l.retryAt = now + l.retry
	l.sendIfPossible(now)
}

// Tick says that time has passed.
func (l *Line) Tick(now time.Duration) {
	if l.isEnded {
		return
	}
	if now < l.deadline {
		l.sendIfPossible(now)
		return
	}
	if (l.isOut || l.mayHaveRun) && !l.isRead {
		l.end(OutcomeUnknown)
		return
	}
	l.end(TimedOut)
}

func (l *Line) end(o LineOutcome) {
	if l.isEnded {
		return
	}
	l.isEnded = true
	l.effects = append(l.effects, lineEffect{kind: endLine, outcome: o})
}

// Perform carries out the effects of the steps since it was last called.
func (l *Line) Perform(to LineEffects) {
	for len(l.effects) > 0 {
		list := l.effects
		l.effects = nil
		for _, e := range list {
			switch e.kind {
			case runHere:
				to.RunHere(e.epoch)
			case forward:
				to.Forward(e.node, e.epoch, e.attempt, e.overLog)
			case endLine:
				to.End(e.outcome)
			}
		}
	}
}
