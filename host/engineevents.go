package host

import (
	"time"

	"hypertoken/ipc"
	"hypertoken/journal"
)

// engineState is where an engine is. ARCHITECTURE.md has the table of the transitions.
type engineState uint8

const (
	// engineOut: no instance. Its journal is all there is.
	engineOut engineState = iota
	// engineLoading: the store was asked for the journal.
	engineLoading
	// engineWaiting: the host was asked for a place.
	engineWaiting
	// enginePlacing: the journal is on its way to the place.
	enginePlacing
	// engineLive: requests run.
	engineLive
	// engineBroken: placing failed MaxAttempts times; only a reopening leads out.
	engineBroken
	// engineClosed: for good.
	engineClosed
)

func (s engineState) String() string {
	return [...]string{"out", "loading", "waiting", "placing", "live", "broken", "closed"}[s]
}

// place is where an engine is, or is about to be: a worker, nil for this process, and the ID of the placement there.
type place struct {
	worker *worker
	id     uint64
}

type engineEventKind uint8

const (
	// evDispatch: req is new.
	evDispatch engineEventKind = iota
	// evWithdraw: req is to end with err, if it can still be withdrawn.
	evWithdraw
	// evTick: time has passed.
	evTick
	// evPlace: place is granted; alone says that nothing else runs there.
	evPlace
	// evSent: what effSend named is in the pipe, with the ID id. evFull: it is not, there is no room. evRoom: there is again.
	evSent
	evFull
	evRoom
	// evAnswer: the answer to id came, with flags and body. evChunk: a piece of a stream. evDropped: the request had not
	// begun.
	evAnswer
	evChunk
	evDropped
	// evLost: the place is gone; death is set where the worker died by itself.
	evLost
	// evLoaded: the store has answered with stored, or err. evAppended, evInstalled: the store has ended call id.
	evLoaded
	evAppended
	evInstalled
	// evMove: there is a better place: the engine goes at once, or, where later is set, as soon as nothing runs. evTakeOut:
	// the engine is idle.
	evMove
	evTakeOut
	// evForsaken: no worker can run suspects.
	evForsaken
	// evCharge: a worker was killed for what the engine had run there past its deadline.
	evCharge
	// evShed: keys were forgotten that the store's base has.
	evShed
	// evUnable: no worker can run, err says why, and the engine has to wait for one: it must not run in this process.
	evUnable
	// evReopen: a broken engine is to try again. evClose: it is to end, once all it has is answered; evStop: at once.
	evReopen
	evClose
	evStop
)

// engineEvent is something that happened.
type engineEvent struct {
	kind  engineEventKind
	alone bool
	later bool
	// foreign says that another host has owned the journal meanwhile.
	foreign bool
	flags   ipc.Flags
	id      uint64
	now     time.Duration
	// seen is when it was, on the clock of measurements; 0 where nothing is measured.
	seen   time.Duration
	req    *request
	place  place
	body   []byte
	stored *journal.Stored
	death  *death
	err    error
}

type engineEffectKind uint8

const (
	// effSend: send req, or where it is nil the next piece of the placing, to place; step evSent or evFull at once.
	effSend engineEffectKind = iota
	// effRecall: ask place to drop request id. effAbandon: close place, whose answers are not wanted any more.
	effRecall
	effAbandon
	// effOverdue: request id is owed by place past its deadline: if it is what runs there, kill the worker; else step evLost.
	effOverdue
	// effViolation: place, a worker, broke the protocol, err says how.
	effViolation
	// effAsk: ask the host for a place, alone or not. effUnask: it is not wanted any more. effRelease: it needs not be alone
	// any more.
	effAsk
	effUnask
	effRelease
	// effLoad: load the journal, as a new owner where alone is set. effAppend: append machine.records behind sequence id.
	// effInstall: install req.data as the snapshot of sequence id.
	effLoad
	effAppend
	effInstall
	// effResolve: req has ended.
	effResolve
	// effPlaced: the engine is live, id entries were replayed. effLost: it has no place any more. effBroken: err says why. effClosed: for good.
	effPlaced
	effLost
	effBroken
	effClosed
	// effHeld: the engine is held back, err says why.
	effHeld
)

// engineEffect is what an event makes necessary.
type engineEffect struct {
	kind  engineEffectKind
	alone bool
	id    uint64
	req   *request
	place place
	err   error
}
