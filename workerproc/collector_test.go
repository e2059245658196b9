package workerproc

import "testing"

// Memory goes back to the system once a third of the engines is closed, and at least fewEngines.
func TestMemoryGoesBackWithTheEngines(t *testing.T) {
	for _, c := range []struct{ most, left, after int }{
		{fewEngines, 1, fewEngines},
		{fewEngines, 0, 0},
		{300, 201, 300},
		{300, 200, 200},
	} {
		gc := collector{live: minGarbage}
		gc.collectIdle(c.most)
		gc.collectIdle(c.left)
		if gc.most != c.after {
			t.Errorf("%d of %d engines are left, and %d count", c.left, c.most, gc.most)
		}
	}
}
