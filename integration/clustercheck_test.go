package integration

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// checkHistory compares the calls on an engine with its journal, which has the numbers of the actions
// in order. It returns a sentence for each breach of a guarantee:
//   - what was acknowledged is in the journal, once, at the sequence that the answer gave;
//   - what failed without an effect is not there, and nothing is there twice;
//   - of two calls, the one that ended before the other began is the first, for reads of any node, too.
func checkHistory(engine string, calls []clusterCall, journal []int) (breaches []string) {
	report := func(format string, args ...any) {
		breaches = append(breaches, engine+": "+fmt.Sprintf(format, args...))
	}
	at := map[int]uint64{}
	for k, id := range journal {
		if _, isTwice := at[id]; isTwice {
			report("the action %d is in the journal twice", id)
		}
		at[id] = uint64(k + 1)
	}
	var ordered []clusterCall // those that have a place in the order
	for _, call := range calls {
		sequence, isStored := at[call.id]
		switch {
		case call.id == 0:
			if call.outcome == wasAnswered {
				ordered = append(ordered, call)
				if call.sequence > uint64(len(journal)) {
					report("a read at %v gave the sequence %d; the journal ends at %d", call.began, call.sequence,
						len(journal))
				}
			}
			continue
		case call.outcome == wasAnswered && !isStored:
			report("the action %d was acknowledged at %v with the sequence %d, and is lost", call.id, call.ended, call.sequence)
		case call.outcome == wasAnswered && call.sequence != sequence && call.sendings == 1:
			report("the action %d was acknowledged with the sequence %d, and is at %d", call.id, call.sequence, sequence)
		case call.outcome == hadNoEffect && isStored:
			report("the action %d failed at %v (%s), and is in the journal at %d", call.id, call.ended, call.code, sequence)
		}
		if isStored && call.outcome == wasAnswered {
			call.sequence = sequence
			ordered = append(ordered, call)
		}
	}
	return append(breaches, checkOrder(engine, ordered)...)
}

// checkOrder finds calls that show less than a call did that had ended before they began. Sequences of
// actions differ; a read may show the same as another call.
func checkOrder(engine string, calls []clusterCall) (breaches []string) {
	byEnd, byBegin := slices.Clone(calls), slices.Clone(calls)
	slices.SortFunc(byEnd, func(a, b clusterCall) int { return cmp.Compare(a.ended, b.ended) })
	slices.SortFunc(byBegin, func(a, b clusterCall) int { return cmp.Compare(a.began, b.began) })
	var most clusterCall // of those that ended before the present one began, the one that shows most
	for _, call := range byBegin {
		for len(byEnd) > 0 && byEnd[0].ended < call.began {
			if byEnd[0].sequence > most.sequence {
				most = byEnd[0]
			}
			byEnd = byEnd[1:]
		}
		if call.sequence < most.sequence || call.id != 0 && call.sequence == most.sequence {
			breaches = append(breaches, fmt.Sprintf("%s: what began at %v (action %d, node %d) shows the sequence %d; "+
				"at %v there was the sequence %d (action %d, node %d)",
				engine, call.began, call.id, call.node, call.sequence, most.ended, most.sequence, most.id, most.node))
		}
	}
	return breaches
}

// longestWait returns how long a caller waited at most after a fault for the outcome of a line, as far
// as that wait was before until, when the next fault came.
func longestWait(calls []clusterCall, at, until time.Duration) (longest time.Duration) {
	for _, call := range calls {
		if call.ended > at && call.began < until {
			longest = max(longest, min(call.ended, until)-max(call.began, at))
		}
	}
	return longest
}

// The check finds each kind of breach.
func TestCheckHistory(t *testing.T) {
	acknowledged := func(id int, sequence uint64, began, ended time.Duration) clusterCall {
		return clusterCall{id: id, sequence: sequence, began: began, ended: ended, sendings: 1}
	}
	for _, row := range []struct {
		name    string
		calls   []clusterCall
		journal []int
		want    string
	}{
		{"all is well", []clusterCall{acknowledged(7, 1, 1, 2), acknowledged(0, 1, 3, 4), acknowledged(8, 2, 5, 6),
			{id: 9, outcome: hadNoEffect}, {id: 10, outcome: isUnknown}}, []int{7, 8, 10}, ""},
		{"lost", []clusterCall{acknowledged(7, 1, 1, 2)}, nil, "is lost"},
		{"twice", []clusterCall{acknowledged(7, 1, 1, 2)}, []int{7, 7}, "twice"},
		{"elsewhere", []clusterCall{acknowledged(7, 1, 1, 2)}, []int{8, 7}, "is at 2"},
		{"an error with an effect", []clusterCall{{id: 7, outcome: hadNoEffect}}, []int{7}, "failed at"},
		{"a stale read", []clusterCall{acknowledged(7, 1, 1, 2), acknowledged(0, 0, 3, 4)}, []int{7},
			"shows the sequence 0"},
		{"a read of what is not there", []clusterCall{acknowledged(0, 2, 3, 4)}, []int{7}, "the journal ends at 1"},
		{"a read behind a read", []clusterCall{acknowledged(0, 1, 1, 2), acknowledged(0, 0, 3, 4)}, []int{7},
			"shows the sequence 0"},
		{"actions in another order", []clusterCall{acknowledged(7, 2, 1, 2), acknowledged(8, 1, 3, 4)}, []int{8, 7},
			"shows the sequence 1"},
	} {
		got := strings.Join(checkHistory("e", row.calls, row.journal), "; ")
		if row.want == "" && got != "" || !strings.Contains(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}
