package require

import (
	"slices"
	"testing"
)

func TestADeepRunHasEverything(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6}
	for _, c := range []struct {
		name, variable string
		deep           bool
		rounds         int
		sample         []int
	}{
		{"quick", "", false, 3, []int{0, 3, 6}},
		{"deep", "1", true, 50, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(deepVariable, c.variable)
			if IsDeep() != c.deep {
				t.Errorf("IsDeep is %v", IsDeep())
			}
			if n := Rounds(3, 50); n != c.rounds {
				t.Errorf("Rounds gives %d, want %d", n, c.rounds)
			}
			if s := Sample(3, all); !slices.Equal(s, c.sample) {
				t.Errorf("Sample gives %v, want %v", s, c.sample)
			}
			ran := false
			t.Run("a deep test", func(t *testing.T) {
				Deep(t)
				ran = true
			})
			if ran != c.deep {
				t.Errorf("a test that calls Deep ran: %v", ran)
			}
		})
	}
}
