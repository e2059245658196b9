package torture

import "testing"

// Outcomes are counted by the name that callers were told, but for codes that only this core has: those may have any name
// together.
func TestOutcomesAreThoseThatCallersWereToldOf(t *testing.T) {
	type counts = map[string]uint64
	for _, c := range []struct {
		name                string
		measured, told, own counts
		accused             bool
	}{
		{"all by name", counts{"ok": 5, "not_found": 2, "timeout": 1}, counts{"ok": 5, "not_found": 2, "timeout": 1}, counts{"not_found": 2}, false},
		{"a code of the core's own, as others", counts{"ok": 5, "other": 3}, counts{"ok": 5, "suit": 2, "turn": 1}, counts{"suit": 2, "turn": 1}, false},
		{"a code of the core's own, by name", counts{"ok": 5, "suit": 2}, counts{"ok": 5, "suit": 2}, counts{"suit": 2}, false},
		{"some by name, some not", counts{"suit": 2, "core": 1}, counts{"suit": 2, "turn": 1}, counts{"suit": 2, "turn": 1}, false},
		{"a code that is called as the others are", counts{"other": 3}, counts{"other": 2, "turn": 1}, counts{"other": 2, "turn": 1}, false},
		{"a code that the host has, too", counts{"timeout": 3}, counts{"timeout": 3}, counts{"timeout": 2}, false},
		{"one that is counted as the host's", counts{"timeout": 1, "core": 2}, counts{"timeout": 3}, counts{"timeout": 2}, false},
		{"one too few", counts{"ok": 4}, counts{"ok": 5}, nil, true},
		{"one too many", counts{"ok": 6}, counts{"ok": 5}, nil, true},
		{"one that nobody was told of", counts{"ok": 5, "other": 1}, counts{"ok": 5}, nil, true},
		{"a timeout as another", counts{"other": 1}, counts{"timeout": 1}, nil, true},
		{"one of the core's is missing", counts{"other": 1}, counts{"suit": 2}, counts{"suit": 2}, true},
		{"one of the core's is too many", counts{"other": 3}, counts{"suit": 2}, counts{"suit": 2}, true},
		{"a success as the core's", counts{"ok": 4, "core": 2}, counts{"ok": 5, "suit": 1}, counts{"suit": 1}, true},
	} {
		if found := compareOutcomes(c.measured, c.told, c.own); (len(found) > 0) != c.accused {
			t.Errorf("%s: %v", c.name, found)
		}
	}
}
