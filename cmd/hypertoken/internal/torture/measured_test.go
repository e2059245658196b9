package torture

import (
	"testing"

	"hypertoken/host"
)

// Outcomes are counted as callers were told of them. Codes that only a core has are counted together.
func TestOutcomesAreThoseThatCallersWereToldOf(t *testing.T) {
	type counts = map[string]uint64
	core := host.OutcomeOf(&host.ActionError{Code: "suit"})
	if other := host.OutcomeOf(&host.ActionError{Code: "turn"}); other != core {
		t.Errorf("a core's own codes are counted as %s and as %s", core, other)
	}
	for _, c := range []struct {
		name           string
		measured, told counts
		accused        bool
	}{
		{"all", counts{"ok": 5, core: 2, "timeout": 1}, counts{"ok": 5, core: 2, "timeout": 1}, false},
		{"one that there was none of", counts{"ok": 5, "trap": 0}, counts{"ok": 5}, false},
		{"one too few", counts{"ok": 4}, counts{"ok": 5}, true},
		{"one too many", counts{"ok": 6}, counts{"ok": 5}, true},
		{"one that nobody was told of", counts{"ok": 5, "other": 1}, counts{"ok": 5}, true},
		{"one that is not counted", counts{"ok": 5}, counts{"ok": 5, core: 1}, true},
		{"a timeout as another", counts{"other": 1}, counts{"timeout": 1}, true},
		{"a success as the core's", counts{"ok": 4, core: 2}, counts{"ok": 5, core: 1}, true},
	} {
		if found := compareOutcomes(c.measured, c.told); (len(found) > 0) != c.accused {
			t.Errorf("%s: %v", c.name, found)
		}
	}
}
