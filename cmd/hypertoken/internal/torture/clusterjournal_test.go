package torture

import (
	"errors"
	"strings"
	"testing"

	"hypertoken/host"
)

// entropyOf makes the entropy of an action of these tests.
func entropyOf(n byte) (e [16]byte) {
	e[0] = n
	return e
}

// storedActions is a journal with actions of these numbers.
func storedActions(numbers ...byte) (list []host.Entry) {
	for k, n := range numbers {
		list = append(list, host.Entry{Sequence: uint64(k + 1), Type: "game:start", Entropy: entropyOf(n),
			Checksum: uint64(n)})
	}
	return list
}

// acted is a call of actions with these numbers.
func acted(f form, start, end int64, numbers ...byte) *clusterCall {
	x := &clusterCall{call: &call{form: f, start: start, end: end}, failed: errNoAnswer}
	for _, n := range numbers {
		x.actions = append(x.actions, action{kind: "game:start", entropy: entropyOf(n)})
		x.outcomes = append(x.outcomes, outcome{err: errNoAnswer})
	}
	return x
}

// told says that the caller was told of the sequence.
func (x *clusterCall) told(sequence uint64, changed bool) *clusterCall {
	x.wasTold, x.failed, x.sequence, x.changed = true, nil, sequence, changed
	for k := range x.outcomes {
		x.outcomes[k] = outcome{sequence: sequence, changed: changed && x.form == single}
		if len(x.actions) > 0 {
			x.outcomes[k].hash = uint64(x.actions[k].entropy[0])
		}
	}
	return x
}

// refused says that the caller was told of an error.
func (x *clusterCall) refused(err error) *clusterCall {
	x.failed, x.wasTold = err, !isRefusal(err)
	for k := range x.outcomes {
		x.outcomes[k] = outcome{err: err}
	}
	return x
}

// unknown says that a sending of the call may have had an effect.
func (x *clusterCall) unknown() *clusterCall {
	x.isUnknown = true
	return x
}

func looked(start, end int64, sequence uint64) *clusterCall {
	x := &clusterCall{call: &call{form: wholeDigest, start: start, end: end, outcomes: make([]outcome, 1)}}
	return x.told(sequence, false)
}

// The check takes from the journal what no caller was told, and finds each breach.
func TestSettle(t *testing.T) {
	core := &host.ActionError{Code: "not_found"}
	for _, row := range []struct {
		name    string
		calls   []*clusterCall
		journal []host.Entry
		want    string // a part of what is found
		left    int    // how many outcomes the history has
	}{
		{"an action that was answered", []*clusterCall{acted(single, 1, 2, 1).told(1, true)}, storedActions(1), "", 1},
		{"an unknown action that is stored", []*clusterCall{acted(single, 1, 2, 1).unknown()}, storedActions(1), "", 1},
		{"an unknown action that is not stored", []*clusterCall{acted(single, 1, 2, 1).unknown()}, nil, "", 0},
		{"a refused action", []*clusterCall{acted(single, 1, 2, 1).refused(host.ErrTimeout)}, nil, "", 0},
		{"a refused action that is stored", []*clusterCall{acted(single, 1, 2, 1).refused(host.ErrTimeout)}, storedActions(1),
			"duplicated: e: game:start failed with timeout: timed out, and is change 1", 0},
		{"a failed action that is stored", []*clusterCall{acted(single, 1, 2, 1).refused(core)}, storedActions(1),
			"duplicated", 0},
		{"an action that failed after it was lost on the way",
			[]*clusterCall{acted(single, 1, 2, 1).unknown().refused(core)}, storedActions(1), "", 1},
		{"an action that is stored twice", []*clusterCall{acted(single, 1, 2, 1).told(1, true)}, storedActions(1, 1),
			"duplicated: e: game:start is in the journal as change 1 and as change 2", 1},
		{"a journal with a gap", nil, storedActions(1, 2, 3)[1:], "lost: e: the journal has 2 as its entry 1", 0},
		{"a batch that was answered", []*clusterCall{acted(atomicBatch, 1, 2, 1, 2, 3).told(2, true)}, storedActions(1, 3),
			"", 3},
		{"a batch of which nobody knows where it looked",
			[]*clusterCall{acted(independentBatch, 1, 2, 1, 2, 3).told(2, true)}, storedActions(1, 3), "", 2},
		{"a batch that is lost", []*clusterCall{acted(atomicBatch, 1, 2, 1, 2).told(2, true)}, storedActions(7, 8),
			"lost: e: a batch was acknowledged at 2, and the journal has none of it", 2},
		{"a batch whose end is lost", []*clusterCall{acted(atomicBatch, 1, 2, 1, 2).told(2, true)}, storedActions(1),
			"lost: e: a batch was acknowledged at 2, and the journal has the last of it at 1", 2},
		{"a batch that failed and is stored", []*clusterCall{acted(atomicBatch, 1, 2, 1, 2).refused(core)},
			storedActions(1), "duplicated: e: a batch failed", 2},
		{"an unknown batch of which a part is stored", []*clusterCall{acted(independentBatch, 1, 2, 1, 2).unknown()},
			storedActions(2), "", 1},
		{"a stale question", []*clusterCall{acted(single, 1, 2, 1).told(1, true), looked(3, 4, 0)}, storedActions(1),
			"stale", 2},
		{"a question at the same time", []*clusterCall{acted(single, 1, 4, 1).told(1, true), looked(2, 3, 0)},
			storedActions(1), "", 2},
		{"a question behind another one", []*clusterCall{looked(1, 2, 1), looked(3, 4, 0)}, storedActions(1), "stale", 2},
	} {
		h := &history{engine: "e"}
		var got []string
		for _, v := range settle(h, [][]*clusterCall{row.calls}, row.journal, 9) {
			got = append(got, v.String())
		}
		all := strings.Join(got, "; ")
		if row.want == "" && all != "" || !strings.Contains(all, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, all, row.want)
		}
		left := 0
		for _, calls := range h.callers {
			for _, x := range calls {
				left += len(x.outcomes)
			}
		}
		if left != row.left {
			t.Errorf("%s: the history has %d outcomes, want %d", row.name, left, row.left)
		}
	}
}

// An answer to a line becomes the outcome of its call.
func TestReadAnswer(t *testing.T) {
	hash := func(value string) uint64 {
		h, err := hashOf([]byte(value))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	x := acted(single, 1, 2, 1)
	if err := x.readAnswer([]byte(`{"n":1,"result":{"id":"a"},"sequence":3,"changed":true}`)); err != nil ||
		x.outcomes[0] != (outcome{sequence: 3, changed: true, hash: hash(`{"id":"a"}`)}) || x.failed != nil {
		t.Errorf("an action: %+v %v", x, err)
	}
	if err := x.readAnswer([]byte(`{"n":1,"error":{"code":"outcome_unknown","message":"who knows"}}`)); err != nil ||
		!errors.Is(x.failed, host.ErrOutcomeUnknown) || !errors.Is(x.outcomes[0].err, host.ErrOutcomeUnknown) {
		t.Errorf("an error of the server: %+v %v", x, err)
	}
	var core *host.ActionError
	if err := x.readAnswer([]byte(`{"n":1,"error":{"code":"not_found","message":"no"}}`)); err != nil ||
		!errors.As(x.failed, &core) || core.Code != "not_found" {
		t.Errorf("an error of the core: %+v %v", x, err)
	}
	if err := x.readAnswer([]byte(`{"error":{"code":"","message":"the store"}}`)); err != nil || !isRefusal(x.failed) {
		t.Errorf("an error without a code: %+v %v", x, err)
	}
	if err := x.readAnswer([]byte(`gone`)); err == nil {
		t.Error("what is no JSON was taken")
	}
	x = acted(independentBatch, 1, 2, 1, 2)
	line := `{"results":[{"n":1,"result":7},{"n":2,"error":{"code":"empty","message":"no"}}],"sequence":9,"changed":true}`
	if err := x.readAnswer([]byte(line)); err != nil || x.sequence != 9 || !x.changed || x.failed != nil ||
		x.outcomes[0].hash != hash(`7`) || !errors.As(x.outcomes[1].err, &core) {
		t.Errorf("a batch: %+v %v", x, err)
	}
	if err := x.readAnswer([]byte(`{"results":[],"sequence":9}`)); err == nil {
		t.Error("a batch without results was taken")
	}
	x = looked(1, 2, 0)
	if err := x.readAnswer([]byte(`{"digest":"00000000000000ff","sequence":4,"changed":false}`)); err != nil ||
		x.outcomes[0] != (outcome{sequence: 4, hash: 0xff}) {
		t.Errorf("a digest: %+v %v", x, err)
	}
}
