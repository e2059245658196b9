package torture

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"hypertoken/host"
)

// clusterCall is a call that a caller made through nodes of a cluster. If it has a key, or is a question,
// it was sent until there was an answer.
type clusterCall struct {
	*call
	// key is the key of the whole call, "" if it has none.
	key string
	// sequence and changed are those of the answer; of a batch they are of the whole.
	sequence uint64
	changed  bool
	// failed is the error of the whole line, nil if it was answered with a result. Members of a batch may
	// have failed nevertheless.
	failed error
	// isUnknown is true if one of its sendings may have had an effect that no answer has told.
	isUnknown bool
	// wasTold is true if there was an answer that tells the outcome.
	wasTold bool
}

// errNoAnswer is the outcome of an action while there is no answer.
var errNoAnswer = errors.New("there was no answer")

// refusals are the errors with which a cluster refuses a line while faults strike: nothing of it has
// had an effect.
var refusals = []*host.Error{host.ErrTimeout, host.ErrShutdown, host.ErrMoved, host.ErrCanceled,
	host.ErrWorkerUnavailable, host.ErrOverloaded, host.ErrStoreFull, host.ErrStoreRefused, {Code: noCode}}

func isRefusal(err error) bool {
	return slices.ContainsFunc(refusals, func(e *host.Error) bool { return errors.Is(err, e) })
}

// settler finds out from an engine's journal what became of the calls whose callers were not told.
type settler struct {
	engine string
	stored map[[16]byte]host.Entry // the actions of the journal, by their entropy
	untold []host.Entry            // the markers that no caller was told of
	end    int64                   // when the journal was read
	found  []Violation
}

// settle returns the history of an engine from the calls of its callers and its journal. A call whose
// outcome is unknown is in the history if the journal has it, and could have had its effect until the
// end.
func settle(h *history, callers [][]*clusterCall, journal []host.Entry, end int64) []Violation {
	s := &settler{engine: h.engine, stored: map[[16]byte]host.Entry{}, end: end}
	for k, e := range journal {
		if e.Sequence != uint64(k+1) {
			s.find(Lost, "the journal has %d as its entry %d", e.Sequence, k+1)
			break
		}
		if e.Marker != nil {
			continue
		}
		if before, twice := s.stored[e.Entropy]; twice {
			s.find(Duplicated, "%s is in the journal as change %d and as change %d", e.Type, before.Sequence,
				e.Sequence)
		}
		s.stored[e.Entropy] = e
	}
	s.untold = untoldMarkers(callers, journal)
	h.journal, h.callers = journal, nil
	for _, calls := range callers {
		var told []*call
		for _, x := range calls {
			settled := s.settle(x)
			switch {
			case settled == nil:
			case x.wasTold:
				told = append(told, settled)
			default:
				// It may have run at any time after it was sent.
				h.callers = append(h.callers, []*call{settled})
			}
		}
		h.callers = append(h.callers, told)
	}
	s.stale(h.callers)
	return s.found
}

// untoldMarkers returns the markers of a journal that no caller was told of.
func untoldMarkers(callers [][]*clusterCall, journal []host.Entry) []host.Entry {
	told := map[uint64]bool{}
	for _, calls := range callers {
		for _, x := range calls {
			if x.form == single && x.actions[0].isRewind && x.outcomes[0].err == nil {
				told[x.sequence] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(journal), func(e host.Entry) bool {
		return e.Marker == nil || told[e.Sequence]
	})
}

func (s *settler) find(fate Fate, format string, args ...any) {
	if len(s.found) < 5 { // the first ones tell the rest
		s.found = append(s.found, Violation{fate, s.engine, fmt.Sprintf(format, args...)})
	}
}

// settle returns what became of a call, or nil if it had no effect and was told nothing.
func (s *settler) settle(x *clusterCall) *call {
	switch {
	case x.form.isQuestion():
		if !x.wasTold {
			return nil
		}
		return x.call
	case x.actions[0].isRewind:
		return s.settleRewind(x)
	case x.form == single:
		return s.settleAction(x)
	case !x.wasTold:
		return s.settleUnknown(x)
	default:
		return s.settleBatch(x)
	}
}

func (s *settler) settleAction(x *clusterCall) *call {
	o := &x.outcomes[0]
	if x.wasTold && o.err == nil {
		return x.call
	}
	if e, isStored := s.stored[x.actions[0].entropy]; isStored {
		if !x.isUnknown {
			s.find(Duplicated, "%s failed with %v, and is change %d", e.Type, o.err, e.Sequence)
			return nil
		}
		x.wasTold = false
		*o = outcome{sequence: e.Sequence, changed: true, hash: e.Checksum}
		x.end = s.end
		return x.call
	}
	if !x.wasTold {
		return nil
	}
	return x.call
}

// settleRewind returns what became of a step back or forward. If it failed, an earlier sending of it may
// have succeeded afterwards: then there is a marker that no caller was told of.
func (s *settler) settleRewind(x *clusterCall) *call {
	o := &x.outcomes[0]
	if o.err == nil || !x.isUnknown || len(s.untold) == 0 {
		if !x.wasTold {
			return nil
		}
		return x.call
	}
	e := s.untold[0]
	s.untold, x.wasTold = s.untold[1:], false
	*o = outcome{sequence: e.Sequence, changed: true, hash: uint64(e.Marker.Digest)}
	x.end = s.end
	return x.call
}

// settleUnknown returns what the journal has of a batch whose outcome no caller was told.
func (s *settler) settleUnknown(x *clusterCall) *call {
	y := &call{form: x.form, start: x.start, end: s.end}
	for k := range x.actions {
		e, isStored := s.stored[x.actions[k].entropy]
		if !isStored {
			continue
		}
		if !x.isUnknown {
			s.find(Duplicated, "a batch failed with %v, and its %s is change %d", x.outcomes[0].err, e.Type, e.Sequence)
			return nil
		}
		y.actions = append(y.actions, x.actions[k])
		y.outcomes = append(y.outcomes, outcome{sequence: e.Sequence, changed: true, hash: e.Checksum})
	}
	if len(y.actions) == 0 {
		return nil
	}
	return y
}

// settleBatch gives the members of a batch that was answered their sequences.
func (s *settler) settleBatch(x *clusterCall) *call {
	if x.failed != nil {
		if settled := s.settleUnknown(x); settled != nil {
			x.wasTold = false
			return settled
		}
		return x.call
	}
	y := &call{form: x.form, start: x.start, end: x.end}
	at, newest := x.sequence, uint64(0)
	for k := range x.actions {
		if e, isStored := s.stored[x.actions[k].entropy]; isStored {
			if newest == 0 {
				at = e.Sequence - 1
			}
			newest = max(newest, e.Sequence)
		}
	}
	switch {
	case x.changed && newest == 0:
		s.find(Lost, "a batch was acknowledged at %d, and the journal has none of it", x.sequence)
	case x.changed && x.form == atomicBatch && newest != x.sequence:
		s.find(Lost, "a batch was acknowledged at %d, and the journal has the last of it at %d", x.sequence, newest)
	case !x.changed && newest > 0:
		s.find(Duplicated, "a batch that changed nothing is in the journal at %d", newest)
	}
	for k, o := range x.outcomes {
		e, isStored := s.stored[x.actions[k].entropy]
		switch {
		case isStored && o.err != nil:
			s.find(Duplicated, "the member %d of a batch failed with %v, and is change %d", k, o.err, e.Sequence)
			continue
		case isStored:
			at = e.Sequence
			o.sequence, o.changed = at, true
		case o.err == nil && x.form == independentBatch:
			continue // nobody knows at which sequence it looked
		case o.err == nil:
			o.sequence, o.changed = at, false
		case isRefusal(o.err):
			continue
		}
		y.actions, y.outcomes = append(y.actions, x.actions[k]), append(y.outcomes, o)
	}
	return y
}

// stale finds answers that show an older state than one that a caller had got before the call began.
func (s *settler) stale(callers [][]*call) {
	byStart := slices.Concat(callers...)
	byEnd := slices.Clone(byStart)
	slices.SortFunc(byStart, func(a, b *call) int { return cmp.Compare(a.start, b.start) })
	slices.SortFunc(byEnd, func(a, b *call) int { return cmp.Compare(a.end, b.end) })
	newest := uint64(0)
	for _, x := range byStart {
		for ; len(byEnd) > 0 && byEnd[0].end < x.start; byEnd = byEnd[1:] {
			for k := range byEnd[0].outcomes {
				if o := &byEnd[0].outcomes[k]; o.err == nil {
					newest = max(newest, o.sequence)
				}
			}
		}
		for k := range x.outcomes {
			o := &x.outcomes[k]
			if o.err == nil && !x.advances(k) && o.sequence < newest {
				s.find(Stale, "a call that began at %d ns was told of the state at %d, and another one had got %d before",
					x.start, o.sequence, newest)
			}
		}
	}
}

// storedLine is a line of an export: an action, a marker, a note or a base.
type storedLine struct {
	Type     string   `json:"type"`
	Now      int64    `json:"now"`
	Entropy  string   `json:"entropy"`
	Key      string   `json:"key"`
	Sequence uint64   `json:"sequence"`
	Checksum string   `json:"checksum"`
	Marker   string   `json:"marker"`
	Digest   string   `json:"digest"`
	To       uint64   `json:"to"`
	Current  uint64   `json:"current"`
	Redo     []uint64 `json:"redo"`
	Batch    uint64   `json:"batch"`
	Error    *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// entry returns the entry that a line has. A base and a note are none.
func (l *storedLine) entry() (e host.Entry, isEntry bool, err error) {
	switch {
	case l.Error != nil:
		return e, false, fmt.Errorf("%s: %s", l.Error.Code, l.Error.Message)
	case l.Marker != "":
		digest, err := strconv.ParseUint(l.Digest, 16, 64)
		return host.Entry{Sequence: l.Sequence, Marker: &host.Marker{Kind: l.Marker, To: l.To,
			Digest: host.Digest(digest), Current: l.Current, Redo: l.Redo}}, true, err
	case l.Type == "":
		return e, false, nil
	}
	e = host.Entry{Sequence: l.Sequence, Type: l.Type, Now: l.Now, Key: l.Key, Batch: l.Batch}
	b, err := hex.DecodeString(l.Entropy)
	if err == nil && len(b) != len(e.Entropy) {
		err = fmt.Errorf("an entropy of %d bytes", len(b))
	}
	copy(e.Entropy[:], b)
	if err == nil {
		e.Checksum, err = strconv.ParseUint(l.Checksum, 16, 64)
	}
	return e, true, err
}

// readJournal asks a node for the journal of an engine.
func readJournal(ctx context.Context, client *http.Client, node, engine string) ([]host.Entry, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, node+"/v1/engines/"+engine+"/journal?from=0", nil)
	if err != nil {
		return nil, err
	}
	w, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer w.Body.Close()
	if w.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(w.Body)
		return nil, fmt.Errorf("%s: %s", w.Status, b)
	}
	var journal []host.Entry
	for in := json.NewDecoder(bufio.NewReader(w.Body)); ; {
		var l storedLine
		if err := in.Decode(&l); err != nil {
			if errors.Is(err, io.EOF) {
				return journal, nil
			}
			return nil, err
		}
		e, isEntry, err := l.entry()
		if err != nil {
			return nil, err
		}
		if isEntry {
			journal = append(journal, e)
		}
	}
}
