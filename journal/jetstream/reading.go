package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hypertoken/journal"
)

const (
	// readSilence is how long a replica may say nothing before another one is asked. A replica that
	// stands still is still asked.
	readSilence = 400 * time.Millisecond
)

// errBehind says that a replica does not have what is known to be stored.
var errBehind = errors.New("a replica is behind")

// errChanged says that what is read was deleted or trimmed meanwhile.
var errChanged = errors.New("the journal was deleted or trimmed while it was read")

// lastOf returns the last message of a subject; nil if there is none. It asks any replica, which
// counts only if it has the stream sequence atLeast. witness is a subject that has a message in any
// case, so that the replica says how far it is, which is seen.
func (s *stream) lastOf(ctx context.Context, subject, witness string, atLeast uint64) (last *message, seen uint64,
	err error) {
	return s.store.lastOf(ctx, s.name, subject, witness, atLeast)
}

func (s *Store) lastOf(ctx context.Context, stream, subject, witness string, atLeast uint64) (last *message,
	seen uint64, err error) {
	list, seen, err := s.conn.read(ctx, stream, query{Last: []string{subject, witness}}, readSilence)
	if err != nil {
		return nil, 0, err
	}
	if seen < atLeast {
		s.stats.staleReads.Add(1)
		return nil, 0, errBehind
	}
	for k := range list {
		if list[k].subject == subject {
			return &list[k], seen, nil
		}
	}
	return nil, seen, nil
}

// journalReader reads one engine's journal from replicas of its stream.
type journalReader struct {
	s       *stream
	slot    int
	name    string
	token   string
	subject string
	// witness and atLeast say which replicas count.
	witness string
	atLeast uint64
	// tail are the records of the slot's tail, as it was before the engine's subject is read.
	tail []bundled
	// end are the records of the newest message on the engine's subject, and behind them those of tail
	// that follow. last fills it.
	end []record
	// first are the journal's first records; nil until a call has needed them.
	first []record
}

func (s *stream) reader(slot int, name, token, witness string, atLeast uint64) *journalReader {
	return &journalReader{s: s, slot: slot, name: name, token: token,
		subject: s.store.layout.engineSubject(slot, token), witness: witness, atLeast: atLeast}
}

// damaged says that an engine's journal is not what was written.
func (r *journalReader) damaged(format string, args ...any) error {
	return fmt.Errorf("the journal %q in the stream %s: %w: "+format,
		append([]any{r.name, r.s.name, journal.ErrDamaged}, args...)...)
}

// missing says that something is not there which a record names, or which has to be between two records. If
// that is read again and is still missing, the journal is damaged: see again.
func (r *journalReader) missing(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errChanged}, args...)...)
}

// try calls f until it succeeds or fails for good: by what is stored, or because the store's patience
// is at its end.
func (s *Store) try(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Patience)
	defer cancel()
	for try := 0; ; try++ {
		err := f(ctx)
		if err == nil || errors.Is(err, journal.ErrDamaged) || errors.Is(err, journal.ErrRefused) ||
			errors.Is(err, errChanged) {
			return err
		}
		if !s.pause(ctx, try) {
			return unavailable("reading: %v", err)
		}
	}
}

// last returns the newest record; nil if there is none. One that is absent is none of a journal. If the
// record is damaged, it returns one that has its stream sequence alone, and the error.
func (r *journalReader) last(ctx context.Context) (*record, error) {
	last, err := r.settledLast(ctx)
	if err != nil || last.isAbsent() {
		return last, err
	}
	if err := r.addTail(); err != nil {
		return nil, err
	}
	return &r.end[len(r.end)-1], nil
}

// settledLast returns the newest record on the engine's subject, as last does.
func (r *journalReader) settledLast(ctx context.Context) (last *record, err error) {
	r.end = nil
	err = r.s.store.try(ctx, func(ctx context.Context) error {
		m, _, err := r.s.lastOf(ctx, r.subject, r.witness, r.atLeast)
		if err != nil || m == nil {
			return err
		}
		r.end, err = readMessage(m)
		if err != nil {
			return r.damaged("record %d: %v", m.at, err)
		}
		return nil
	})
	if len(r.end) == 0 {
		return nil, err
	}
	return &r.end[len(r.end)-1], err
}

// addTail adds to end the records of the tail that are not on the engine's subject. Those that are
// there were settled between the two readings, or are of a former engine of the name. It gives them stream
// sequences behind those of the subject.
func (r *journalReader) addTail() error {
	for k := range r.tail {
		got, err := readRecord(r.tail[k].data, r.subject, 0)
		if err != nil {
			return r.damaged("a record of the slot's tail: %v", err)
		}
		last := &r.end[len(r.end)-1]
		switch {
		case got.incarnation != last.incarnation || got.ordinal <= last.ordinal:
			continue
		case got.ordinal != last.ordinal+1:
			return r.damaged("the record %d of the slot's tail follows the record %d", got.ordinal, last.ordinal)
		}
		got.at = last.at + 1
		r.end = append(r.end, got)
	}
	return nil
}

// between returns the records from the stream sequence from on up to the record last, oldest first. It
// sees that none is missing: each record has the next ordinal.
func (r *journalReader) between(ctx context.Context, from uint64, last *record) ([]record, error) {
	var records []record
	for next := from; ; {
		part, err := r.part(ctx, next, last)
		if err != nil {
			return nil, err
		}
		for k := range part {
			n := len(records)
			if n > 0 && part[k].ordinal <= records[n-1].ordinal {
				// Its message came to the servers twice.
				back := records[n-1].ordinal - part[k].ordinal
				if back < uint64(n) && part[k].id == records[n-1-int(back)].id {
					records[n-1-int(back)] = part[k]
					continue
				}
			}
			if n > 0 && part[k].ordinal != records[n-1].ordinal+1 {
				return nil, r.missing("the record %d at %d follows the record %d at %d", part[k].ordinal, part[k].at,
					records[n-1].ordinal, records[n-1].at)
			}
			records = append(records, part[k])
		}
		end := records[len(records)-1].at
		if end >= last.at {
			return records, nil
		}
		next = end + 1
	}
}

// part returns at least one record from the stream sequence from on, and none behind last.
func (r *journalReader) part(ctx context.Context, from uint64, last *record) ([]record, error) {
	return r.partOf(ctx, from, last, queryBatch, queryBytes)
}

// partOf returns the records of one to n messages. It stops once they have as many bytes as bytes says.
func (r *journalReader) partOf(ctx context.Context, from uint64, last *record, n, bytes int) (part []record,
	err error) {
	if from >= r.end[0].at {
		return r.endFrom(from, last), nil
	}
	err = r.s.store.try(ctx, func(ctx context.Context) error {
		part = part[:0]
		q := query{Next: r.subject, Seq: from, Batch: n, MaxBytes: bytes}
		list, _, err := r.s.store.conn.read(ctx, r.s.name, q, readSilence)
		if err != nil {
			return err
		}
		for k := range list {
			m := &list[k]
			if m.at >= r.end[0].at || m.at > last.at {
				break
			}
			got, err := readMessage(m)
			if err != nil {
				return r.damaged("record %d: %v", m.at, err)
			}
			part = append(part, got...)
		}
		switch {
		case len(part) > 0:
		case len(list) == 0:
			return errBehind
		case list[0].at == r.end[0].at && last.at >= r.end[0].at:
			part = append(part, r.endFrom(from, last)...)
		default:
			return fmt.Errorf("%w: no record from %d to %d", errChanged, from, last.at)
		}
		return nil
	})
	return part, err
}

// endFrom returns the records of end from a stream sequence on, up to the record last.
func (r *journalReader) endFrom(from uint64, last *record) (list []record) {
	for k := range r.end {
		if r.end[k].at >= from && r.end[k].at <= last.at {
			list = append(list, r.end[k])
		}
	}
	return list
}

// body returns what a record has, also if it lies in pieces.
func (r *journalReader) body(ctx context.Context, rec *record) ([]byte, error) {
	if rec.pieces.count == 0 {
		return rec.body, nil
	}
	p := rec.pieces
	subject := r.s.store.layout.pieceSubject(r.slot, r.token, rec.incarnation, p.acquisition, p.number)
	isThere := func(ctx context.Context) (bool, error) { return r.isThere(ctx, rec.at) }
	b, err := r.s.store.getPieces(ctx, r.s.store.layout.pieceStream(r.s.number), subject, p, isThere)
	if err != nil {
		return nil, fmt.Errorf("record %d of the journal %q: %w", rec.at, r.name, err)
	}
	return b, nil
}

// isThere returns whether the engine's subject still begins at or before a stream sequence. A replica that
// is behind may say so of what was removed.
func (r *journalReader) isThere(ctx context.Context, at uint64) (bool, error) {
	q := query{Next: r.subject, Seq: 1, Batch: 1}
	list, _, err := r.s.store.conn.read(ctx, r.s.name, q, readSilence)
	return err == nil && (len(list) == 0 || list[0].at <= at), err
}

// again calls f once more if what it reads was deleted or trimmed meanwhile. If the journal still begins
// where it began before, and something is missing again and again, it is damaged.
func (r *journalReader) again(f func() error) error {
	begin, err := uint64(0), error(nil)
	for try := 0; try < 3; try++ {
		r.first = nil
		if err = f(); !errors.Is(err, errChanged) {
			return err
		}
		if len(r.first) > 0 && r.first[0].at != begin {
			begin, try = r.first[0].at, 0
		}
	}
	return r.damaged("records are missing: %v", err)
}

// assemble returns what is stored from a base on up to the sequence upTo, and the head
// that the journal has if that is its newest one. records are all records from the first one that the
// base needs.
func (r *journalReader) assemble(ctx context.Context, base *record, records []record, upTo uint64) (*journal.Stored,
	*head, error) {
	body, err := r.body(ctx, base)
	if err != nil {
		return nil, nil, err
	}
	stored := &journal.Stored{}
	if stored.Base, err = readBaseBody(body); err != nil {
		return nil, nil, r.damaged("the base %d: %v", base.at, err)
	}
	stored.Sequence, stored.IsMarker = base.baseSequence, base.kind == kindMarker
	h := &head{incarnation: base.incarnation, created: base.created, base: base.at, baseSequence: base.baseSequence,
		newest: base.baseSequence, last: r.end[0].at, bytes: base.bytes, keyNumber: stored.KeyNumber,
		isMarker: stored.IsMarker}
	isFirst := true
	for k := range records {
		g := &records[k]
		h.ordinal, h.bytes = g.ordinal, g.bytes
		if g.kind != kindGroup {
			continue
		}
		if g.sequence > upTo {
			break
		}
		if g.sequence > h.newest || !isFirst && g.sequence < h.newest {
			return nil, nil, r.damaged("the group %d follows the sequence %d, want %d", g.at, g.sequence, h.newest)
		}
		body, err := r.body(ctx, g)
		if err != nil {
			return nil, nil, err
		}
		group, err := readGroupBody(body)
		if err != nil {
			return nil, nil, r.damaged("the group %d: %v", g.at, err)
		}
		keyed, entries, key := group.keyed, group.entries, h.newestKey()
		for j := range keyed {
			key = max(key, keyed[j].Number)
			if keyed[j].Number > stored.KeyNumber && keyed[j].Sequence <= upTo {
				stored.Recent = append(stored.Recent, keyed[j])
			}
		}
		if g.newest() > h.newest {
			if h.newest > g.sequence || g.newest() > upTo {
				entries, err = cut(entries, h.newest-g.sequence, min(g.newest(), upTo)-h.newest)
			}
			if err != nil {
				return nil, nil, r.damaged("the group %d: %v", g.at, err)
			}
			stored.Entries = append(stored.Entries, entries...)
			h.newest = min(g.newest(), upTo)
			isFirst = false
		}
		h.marks = append(h.marks, mark{g.at, g.ordinal, g.newest(), key})
	}
	stored.Count = h.newest - stored.Sequence
	return stored, h, nil
}

// cut returns n entries behind the first skip.
func cut(entries []byte, skip, n uint64) ([]byte, error) {
	for range skip {
		_, rest, err := journal.ReadEntry(entries)
		if err != nil {
			return nil, err
		}
		entries = rest
	}
	rest := entries
	for range n {
		_, after, err := journal.ReadEntry(rest)
		if err != nil {
			return nil, err
		}
		rest = after
	}
	return entries[:len(entries)-len(rest)], nil
}

// load reads the newest base and what is behind it; nothing if the name is not known.
func (r *journalReader) load(ctx context.Context) (result loadResult) {
	result.err = r.again(func() error {
		last, err := r.last(ctx)
		if err != nil || last.isAbsent() {
			return err
		}
		base, records, err := r.fromBase(ctx, last)
		if err != nil {
			return err
		}
		for k := range records {
			result.epoch = max(result.epoch, records[k].epoch)
		}
		result.stored, result.head, err = r.assemble(ctx, base, records, last.newest())
		return err
	})
	return result
}

// fromBase returns the newest base as of the record last, and all records that it needs up to last.
func (r *journalReader) fromBase(ctx context.Context, last *record) (*record, []record, error) {
	from := last.newestBase()
	if last.start > 0 {
		from = min(from, last.start)
	}
	records, err := r.between(ctx, from, last)
	if err != nil {
		return nil, nil, err
	}
	for k := range records {
		if records[k].isBaseOf(last) {
			return &records[k], records, nil
		}
	}
	return nil, nil, r.missing("the base %d that the record %d names is not there", last.newestBase(), last.at)
}

// isBaseOf returns whether the record is the newest base of the record last. A creation that came to the
// servers twice has removed itself, and lies behind the place that records name.
func (r *record) isBaseOf(last *record) bool {
	return r.isBase() && r.at >= last.newestBase() && r.baseSequence == last.baseSequence
}
