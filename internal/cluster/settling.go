package cluster

import "slices"

// How a slot's tail gets to the subjects of its engines. The package's comment says why that is
// safe.

// isSettlingDue reports whether the tail is long enough, or old enough, to be settled.
func (t *Tenure) isSettlingDue() bool {
	c := t.slots.config
	return t.groups > 0 && (t.groups >= c.SettleGroups || t.bytes >= c.SettleBytes || t.slots.now >= t.settleAt)
}

// settle adds the copies of the oldest messages of the tail to a part, as many messages as have
// room copies at most. It copies in the order of the tail, so that an engine that is idle keeps
// nothing in it.
func (t *Tenure) settle(part *Part, room int) {
	c := copies{index: map[string]int{}}
	for k := range t.tail {
		m := &t.tail[k]
		if !c.hasRoom(m.Entries, room, t.slots.config.MaxBytes) {
			break
		}
		c.add(m.Entries)
		part.Tail.Settled = m.Sequence
	}
	part.Engines = append(part.Engines, c.messages...)
}

// copies are the messages that settle a part of a tail, one for each engine. index and bytes have
// their places and sizes.
type copies struct {
	messages []EngineMessage
	index    map[string]int
	bytes    []int
}

// hasRoom reports whether the entries of one more message of the tail make no more than room
// messages, and none of more than most bytes. A message that is its engine's first may have more.
func (c *copies) hasRoom(entries []Entry, room, most int) bool {
	bytes := map[string]int{}
	for k := range entries {
		bytes[entries[k].Engine] += len(entries[k].Data)
	}
	n := len(c.messages)
	for engine, more := range bytes {
		if at, ok := c.index[engine]; !ok {
			n++
		} else if c.bytes[at]+more > most {
			return false
		}
	}
	return n <= room
}

// add adds the entries of a message of the tail.
func (c *copies) add(entries []Entry) {
	for _, e := range entries {
		at, ok := c.index[e.Engine]
		if !ok {
			at = len(c.messages)
			c.index[e.Engine] = at
			c.messages = append(c.messages, EngineMessage{Engine: e.Engine})
			c.bytes = append(c.bytes, 0)
		}
		c.messages[at].Entries = append(c.messages[at].Entries, e)
		c.bytes[at] += len(e.Data)
	}
}

// extendTail takes in a message of the slot's subject that is stored now.
func (t *Tenure) extendTail(m StoredTail) {
	t.tail = append(t.tail, m)
	t.noteSettled(m.Settled)
}

// takeTail takes in the whole tail, as it was read.
func (t *Tenure) takeTail(tail []StoredTail) {
	t.tail = append([]StoredTail(nil), tail...)
	t.noteSettled(settledBy(tail))
}

// noteSettled drops from the tail what is on the engines' subjects, and has it removed from the
// log. It is called only with what a stored message says.
func (t *Tenure) noteSettled(through uint64) {
	s := t.slots
	t.settled = max(t.settled, through)
	for len(t.tail) > 0 && t.tail[0].Sequence <= t.settled {
		t.tail = t.tail[1:]
	}
	if through > 0 {
		s.emit(effect{kind: removeTail, slot: t.slot.number, sequence: t.settled})
	}
	had := t.groups
	t.groups, t.bytes = 0, 0
	for k := range t.tail {
		t.groups += len(t.tail[k].Entries)
		for _, e := range t.tail[k].Entries {
			t.bytes += len(e.Data)
		}
	}
	if had == 0 || through > 0 {
		t.settleAt = s.now + s.config.SettleAfter
	}
}

// engineCopy is a message on an engine's subject that has groups up to end.
type engineCopy struct{ sequence, end uint64 }

// baseMessage returns the message for a base. Groups after the base may have been settled before
// the base is stored: it names the first message that has one.
func (t *Tenure) baseMessage(base Entry) EngineMessage {
	m := EngineMessage{Engine: base.Engine, Entries: []Entry{base}}
	for _, c := range t.copies[base.Engine] {
		if c.end > base.After {
			m.From = c.sequence
			break
		}
	}
	return m
}

// noteCopies notes where the messages of a stored part are on the engines' subjects, and has
// removed what a new base makes history, unless history is kept.
func (t *Tenure) noteCopies(part *Part, tail uint64) {
	sequence := tail - uint64(len(part.Engines))
	for k := range part.Engines {
		m := &part.Engines[k]
		last := &m.Entries[len(m.Entries)-1]
		list, isLoaded := t.copies[m.Engine]
		switch {
		case last.IsBase:
			t.copies[m.Engine] = slices.DeleteFunc(list, func(c engineCopy) bool { return c.end <= last.After })
			if !t.slots.config.KeepsHistory {
				from := sequence
				if m.From != 0 {
					from = m.From
				}
				t.slots.emit(effect{kind: trimEngine, engine: m.Engine, sequence: from})
			}
		case isLoaded:
			t.copies[m.Engine] = append(list, engineCopy{sequence, last.end()})
		}
		sequence++
	}
}

// foundCopies takes in where the groups are that a load has read.
func (t *Tenure) foundCopies(engine string, subject []StoredEngine) {
	var list []engineCopy
	for k := range subject {
		m := &subject[k]
		if last := &m.Entries[len(m.Entries)-1]; !last.IsBase {
			list = append(list, engineCopy{m.Sequence, last.end()})
		}
	}
	for _, c := range t.copies[engine] {
		if len(list) == 0 || c.sequence > list[len(list)-1].sequence {
			list = append(list, c)
		}
	}
	t.copies[engine] = list
}

// Forget says that an engine of the slot is closed. Before it is used again, it is loaded again.
func (t *Tenure) Forget(engine string) { delete(t.copies, engine) }
