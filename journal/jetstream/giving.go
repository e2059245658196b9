package jetstream

import (
	"context"
	"fmt"
	"slices"

	"hypertoken/journal"
)

// Heir is the store that a slot is given to: the values of its [Options].
type Heir struct{ Node, Address string }

// giving is a slot on its way to another store. Its stream's loop has all of it.
type giving struct {
	slot *slot
	to   Heir
	// isWriting says that the owner record is being written.
	isWriting bool
	ended     chan given // has room for one
}

// given is how a giving ended.
type given struct {
	owner OwnerRecord
	err   error
}

// Give makes another store the owner of a slot: it writes an owner record that names it, and returns
// the record once it is stored. The other store acquires the slot with its first call for it;
// its Claims should allow that.
//
// From the beginning of Give, appends, barriers and releases in the slot fail with [journal.ErrNotOwner]
// and have no effect. Calls that were made before are waited for. Calls that acquire a slot wait for
// the end of Give. A caller that closes the slot's engines first loses nothing of them.
//
// Give fails with [journal.ErrNotOwner] if the slot is not this store's. If ctx ends while calls are
// waited for, Give fails and the slot stays this store's. If the servers do not say whether the record
// is stored, Give fails with [journal.ErrUnavailable] after Options.Patience. Nobody uses the slot then
// until the next acquisition finds out whose it is.
func (s *Store) Give(ctx context.Context, slot int, to Heir) (OwnerRecord, error) {
	if slot < 0 || slot >= Slots || to.Node == "" || to.Node == s.o.Node {
		return OwnerRecord{}, journal.Refused("the slot %d can't be given to the node %q", slot, to.Node)
	}
	st := s.streams[s.layout.streamOf(slot)]
	g := &giving{to: to, ended: make(chan given, 1)}
	if !st.begin(func() { st.give(slot, g) }) {
		return OwnerRecord{}, errClosed
	}
	defer s.calls.Done()
	select {
	case r := <-g.ended:
		return r.owner, r.err
	case <-ctx.Done():
	}
	st.post(func() {
		if g.slot != nil && !g.isWriting {
			g.slot.keep(fmt.Errorf("jetstream: the slot %d was not given away: %w", slot, ctx.Err()))
		}
	})
	r := <-g.ended
	return r.owner, r.err
}

// Named returns the slots whose owner record names this store, those that it has not acquired yet too.
// A record that is being written may be missing.
func (s *Store) Named(ctx context.Context) (list []int, err error) {
	err = s.readOwners(ctx, func(slot int, r OwnerRecord) {
		if r.Node == s.o.Node {
			list = append(list, slot)
		}
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(list)
	return list, nil
}

// readOwners reads the owner records of all slots, as any replicas have them, and calls take for each.
func (s *Store) readOwners(ctx context.Context, take func(slot int, r OwnerRecord)) error {
	for _, st := range s.streams {
		var found []message
		err := s.try(ctx, func(ctx context.Context) (err error) {
			q := query{Last: []string{s.layout.ownerSubjects(st.number)}}
			found, _, err = s.conn.read(ctx, st.name, q, readSilence)
			return err
		})
		if err != nil {
			return err
		}
		for _, m := range found {
			r, err := parseOwner(m.data, m.at)
			if slot, bad := s.layout.slotOfOwner(m.subject); err == nil && bad == nil {
				take(slot, r)
			}
		}
	}
	return nil
}

// give begins to give a slot.
func (s *stream) give(id int, g *giving) {
	switch sl := s.slots[id]; {
	case s.isClosing:
		g.ended <- given{err: errClosed}
	case sl == nil:
		s.giveUnused(id, g)
	case sl.isClaimed || sl.giving != nil:
		g.ended <- given{err: unavailable("the slot %d is being acquired or given", id)}
	default:
		g.slot, sl.giving = sl, g
		s.givings = append(s.givings, g)
	}
}

// giveUnused gives a slot that this store has not acquired, though the owner record names it.
func (s *stream) giveUnused(id int, g *giving) {
	s.store.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.store.ctx, s.store.o.Patience)
		defer cancel()
		var present OwnerRecord
		err := s.store.try(ctx, func(ctx context.Context) (err error) {
			present, err = s.readOwner(ctx, id)
			return err
		})
		if err == nil && present.Node != s.store.o.Node {
			err = journal.ErrNotOwner
		}
		if err != nil {
			g.ended <- given{err: err}
			return
		}
		owner, isGiven, err := s.writeHeir(ctx, id, present, g.to)
		g.ended <- s.givenTo(id, owner, isGiven, err)
	})
}

// givenTo returns how a giving ended, and counts it.
func (s *stream) givenTo(id int, owner OwnerRecord, isGiven bool, err error) given {
	switch {
	case err != nil:
		return given{err: unavailable("the servers have not said whether the slot %d is given to another node: %v", id, err)}
	case !isGiven:
		return given{err: journal.ErrNotOwner}
	}
	s.store.stats.given.Add(1)
	s.store.o.Logger.Debug("slot given", "slot", id, "to", owner.Address, "epoch", owner.Epoch)
	return given{owner: owner}
}

// writeHeir writes an owner record that names the heir over one that names this store.
func (s *stream) writeHeir(ctx context.Context, id int, former OwnerRecord, to Heir) (owner OwnerRecord,
	isGiven bool, err error) {
	next := OwnerRecord{Node: to.Node, Address: to.Address, Epoch: former.Epoch + 1, Nonce: randomHex(8)}
	owner, isGiven, err = s.replaceOwner(ctx, id, former, next)
	// The heir may have acquired the slot before this store has read its own record.
	return owner, isGiven || owner.Node == to.Node, err
}

// giveQuietSlots writes the owner records of the slots that are being given and have no call under way.
func (s *stream) giveQuietSlots() {
	for _, g := range s.givings {
		sl := g.slot
		if g.isWriting || !sl.isQuiet() {
			continue
		}
		g.isWriting = true
		id, former := sl.id, sl.owner
		s.store.work.Go(func() {
			ctx, cancel := context.WithTimeout(s.store.ctx, s.store.o.Patience)
			defer cancel()
			owner, isGiven, err := s.writeHeir(ctx, id, former, g.to)
			s.post(func() {
				r := s.givenTo(id, owner, isGiven, err)
				sl.endGiving(r)
				sl.endTenure()
			})
		})
	}
}

// isQuiet reports whether no call of the slot is under way.
func (sl *slot) isQuiet() bool {
	if sl.flight != nil || len(sl.pending) > 0 {
		return false
	}
	for _, e := range sl.engines {
		if e.running != nil || len(e.calls) > 0 {
			return false
		}
	}
	return true
}

// endGiving ends the giving of a slot. What waits for it is not taken again yet.
func (sl *slot) endGiving(r given) {
	g := sl.giving
	sl.giving = nil
	sl.s.givings = slices.DeleteFunc(sl.s.givings, func(other *giving) bool { return other == g })
	g.ended <- r
}

// keep ends the giving of a slot that stays this store's.
func (sl *slot) keep(err error) {
	if sl.giving == nil {
		return
	}
	sl.endGiving(given{err: err})
	waiting := sl.waiting
	sl.waiting = nil
	for _, c := range waiting {
		sl.enqueue(c)
	}
}
