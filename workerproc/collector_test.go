package workerproc

import "testing"

// What engines had goes back to the system once a third of them is gone, and a few at least.
func TestMemoryGoesBackWithTheEngines(t *testing.T) {
	for _, c := range []struct{ most, left, after int }{
		{fewEngines, 1, fewEngines},
		{fewEngines, 0, 0},
		{300, 201, 300},
		{300, 200, 200},
	} {
		gc := collector{live: minGarbage}
		gc.idle(c.most)
		gc.idle(c.left)
		if gc.most != c.after {
			t.Errorf("%d of %d engines are left, and %d count", c.left, c.most, gc.most)
		}
	}
}
