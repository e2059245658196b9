package driver

import (
	"errors"
	"slices"
	"time"

	"hypertoken/internal/engine"
	"hypertoken/internal/fault"
	"hypertoken/internal/pool"
	"hypertoken/journal"
)

// performer carries out what an engine's machine asks for. It is the engine under another name, so
// that these methods are not among the engine's own. The engine's lock is held in all of them.
type performer Driver

// worker returns the worker of the engine's place, nil in this process.
func (p *performer) worker(at engine.Place) *pool.Worker {
	if at.IsLocal() {
		return nil
	}
	return p.at
}

// Send sends a request, or the next piece of a placing.
func (p *performer) Send(at engine.Place, s engine.Sending) (id uint64, ok bool) {
	e, w := (*Driver)(p), p.worker(at)
	switch {
	case w != nil:
		if id, ok = w.Send((*tenant)(e), s.Kind, s.Flags, at.Placement, s.Body); ok {
			e.flushToLocked(w)
		}
	case e.local != nil:
		if id, ok = e.local.Put(s.Kind, s.Flags, s.Body); ok {
			e.work.run = e.local
		}
	}
	if c, isCall := ownerOf(s.Request); ok && isCall {
		if c.at.Load() != w {
			c.at.Store(w)
		}
		if c.times.began > 0 {
			s.Request.Sent = e.engines.stamp()
		}
	}
	return id, ok
}

// ownerOf returns the call of a request, if it has one.
func ownerOf(r *engine.Request) (*Call, bool) {
	if r == nil {
		return nil, false
	}
	c, ok := r.Owner.(*Call)
	return c, ok
}

func (p *performer) Recall(at engine.Place, id uint64) {
	e, w := (*Driver)(p), p.worker(at)
	switch {
	case w != nil:
		w.Recall(id)
		e.flushToLocked(w)
	case e.local != nil && e.local.Recall(id):
		e.mail.post(func() {
			e.m.Dropped(e.now(), at, id)
			e.m.Room(e.now())
		})
	}
}

func (p *performer) Abandon(at engine.Place) {
	if w := p.worker(at); w != nil {
		w.Abandon(at.Placement)
		(*Driver)(p).flushToLocked(w)
	}
}

func (p *performer) PlaceLeft(at engine.Place) {
	e := (*Driver)(p)
	switch w := p.worker(at); {
	case w != nil:
		w.RemoveTenant(at.Placement)
		e.work.room, e.work.assign = w, true
		e.at = nil
	case e.local != nil && e.local.Placement() == at.Placement:
		e.local.Close()
		e.local = nil
	}
}

func (p *performer) ReleaseAlone(at engine.Place) {
	if w := p.worker(at); w != nil {
		w.EndReservation(at.Placement)
		p.work.room = w
	}
	p.work.assign = true
}

func (p *performer) Overdue(at engine.Place, id uint64) {
	e, w := (*Driver)(p), p.worker(at)
	if w != nil {
		if w.Condemn(id) {
			return
		}
		w.Abandon(at.Placement)
		e.flushToLocked(w)
	}
	e.mail.post(func() { e.m.PlaceLost(e.now(), at, nil) })
}

func (p *performer) Violation(at engine.Place, err error) { p.worker(at).EndForViolation(err) }

func (p *performer) AskPlace(alone bool) {
	p.engines.scheduler.Ask((*applicant)(p), alone)
	p.work.assign = true
}

func (p *performer) TakeAskBack() {
	p.engines.scheduler.TakeAskBack((*applicant)(p))
	p.work.assign = true
}

func (p *performer) Load(asNewOwner bool) {
	e := (*Driver)(p)
	if asNewOwner {
		e.owner.Number = e.engines.owners.Add(1)
	}
	e.calls++
	call := e.calls
	e.loadCall = call
	e.engines.config.Store.Load(e.name, e.owner, func(s *journal.Stored, err error) {
		e.mail.post(func() {
			if call != e.loadCall {
				return
			}
			isForeign := s != nil && s.Owner.Host != e.owner.Host
			if s != nil {
				e.keys.Load(s)
				e.noteMarker(&s.Base)
				e.work.shed = e.work.shed || e.engines.keyBytes.Load() > e.engines.config.MaxKeyBytes
			}
			e.m.Loaded(e.now(), s, isForeign, err)
		})
	})
}

func (p *performer) Append(after uint64, records []journal.Record) {
	e := (*Driver)(p)
	e.calls++
	e.appendCall = e.calls
	e.engines.config.Store.Append(e.name, e.owner, after, records, journal.DoneFor((*appendEnd)(e), e.calls))
}

func (p *performer) Barrier() {
	e := (*Driver)(p)
	e.calls++
	e.appendCall = e.calls
	e.engines.verifier.Barrier(e.name, e.owner, journal.DoneFor((*appendEnd)(e), e.calls))
}

// noteMarker notes whether the newest base is a marker. The engine's lock is held.
func (e *Driver) noteMarker(base *journal.Base) {
	e.marker = nil
	if base.IsMarker {
		e.marker = &journal.Base{Sequence: base.Sequence, Details: base.Details}
	}
}

// appendEnd is told how an append ended. It is the engine under another name.
type appendEnd Driver

// CallEnded implements journal.Receiver.
func (a *appendEnd) CallEnded(call uint64, err error) { a.mail.postAppendEnd(call, err) }

func (p *performer) Install(sequence uint64, snapshot []byte) {
	e := (*Driver)(p)
	e.calls++
	call := e.calls
	e.installCall = call
	e.engines.log.Debug("snapshot taken", "engine", e.name, "sequence", sequence, "bytes", len(snapshot))
	base := journal.Base{Sequence: sequence, Snapshot: true, Data: snapshot, Core: e.engines.config.CoreHash}
	base.Keys, base.KeyNumber = e.keys.UpTo(sequence)
	if m := e.marker; m != nil && m.Sequence == sequence {
		base.IsMarker, base.Details = true, m.Details // it stays one, with fewer keys
	}
	e.engines.config.Store.Install(e.name, e.owner, base, journal.DoneFunc(func(err error) {
		e.mail.post(func() {
			if call == e.installCall {
				e.m.Installed(e.now(), err)
			}
		})
	}))
}

// Rewind has the base looked for of which the rewind has to be stored behind the present sequence.
func (p *performer) Rewind(r *engine.Request) {
	e := (*Driver)(p)
	find := e.engines.config.FindBase
	if find == nil {
		find = (*Driver).findInBackground
	}
	find(e, r, e.m.View().Sequence, func(base *journal.Base, result Raw, err error) {
		e.step(func(m *engine.Machine, now time.Duration) { m.Rewound(now, r, base, result, err) })
	})
}

// Mark has the base of a rewind stored, with the keys that are remembered and that of the rewind.
func (p *performer) Mark(r *engine.Request) {
	e := (*Driver)(p)
	e.calls++
	e.appendCall = e.calls
	base := *r.Base
	base.Core = e.engines.config.CoreHash
	imported := base.Keys
	base.Keys, base.KeyNumber = e.keys.UpTo(base.Sequence - 1)
	if r.Keyed != nil {
		base.Keys, base.KeyNumber = append(base.Keys, *r.Keyed), r.Keyed.Number
	}
	for _, k := range imported {
		if !slices.ContainsFunc(base.Keys, func(old journal.KeyRecord) bool { return old.Key == k.Key }) {
			base.KeyNumber++
			k.Number = base.KeyNumber
			base.Keys = append(base.Keys, k)
		}
	}
	e.noteMarker(&base)
	e.engines.config.Store.Install(e.name, e.owner, base, journal.DoneFor((*appendEnd)(e), e.calls))
}

func (p *performer) Resolve(r *engine.Request, err error) { r.Owner.Complete(r, err) }

func (p *performer) RecordsStored(records uint64, bytes int) {
	if m := p.engines.measure.Load(); m != nil {
		m.Records.Add(records)
		m.RecordBytes.Add(uint64(bytes))
	}
}

func (p *performer) SnapshotStored(bytes int) {
	if m := p.engines.measure.Load(); m != nil {
		m.Snapshots.Add(1)
		m.SnapshotBytes.Add(uint64(bytes))
	}
}

func (p *performer) SnapshotFailed(err error) {
	if !errors.Is(err, fault.ErrShutdown) && !errors.Is(err, fault.ErrMoved) {
		p.engines.log.Warn("no snapshot could be stored", "engine", p.name, "error", err)
	}
}

func (p *performer) Placed(at engine.Place, replayed uint64) {
	e := (*Driver)(p)
	e.engines.counts.Placed.Add(1)
	e.meter.placed(at, replayed)
	if e.engines.config.IsDebug {
		e.engines.log.Debug("engine placed", "engine", e.name, "at", placeName(at), "sequence", e.m.View().Sequence)
	}
}

func (p *performer) Broken(err error) {
	if p.isPast { // the question about the past returns the error
		return
	}
	if !p.isOpening { // Open returns the error
		p.engines.log.Error("an engine is broken", "engine", p.name, "error", err)
	}
	(*Driver)(p).reportError(err)
}

func (p *performer) Superseded(err error) {
	p.lostTo = err
	p.engines.forget((*Driver)(p))
	p.engines.log.Warn("an engine is closed: another owner has its journal", "engine", p.name, "error", err)
	(*Driver)(p).reportError(fault.Moved("the engine", err))
}

func (p *performer) Held(until, length time.Duration, kills int, err error) {
	p.engines.counts.Holds.Add(1)
	p.heldUntil.Store(int64(until))
	p.engines.log.Warn("an engine is held back: workers are killed for its actions", "engine", p.name, "kills", kills,
		"for", length)
	(*Driver)(p).reportError(err)
}

func (p *performer) Closed() {
	e := (*Driver)(p)
	e.heldUntil.Store(0)
	e.loadCall = 0 // what a load that is under way still reports is not wanted: keys would stay
	e.keys.Clear()
	if !e.isPast && e.lostTo == nil {
		e.release()
	}
	e.engines.forget(e)
	e.emit(Event{Name: eventShutdown})
	e.listeners.End()
	close(e.closed)
}
