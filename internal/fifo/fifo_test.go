package fifo

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A queue does what a slice does, whatever the order of calls.
func TestAQueueDoesWhatASliceDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var q Queue[int]
	var want []int
	for n := range 100_000 {
		switch k := random.IntN(10); {
		case k < 4:
			q.Push(n)
			want = append(want, n)
		case k < 7 && len(want) > 0:
			if got := q.Pop(); got != want[0] {
				t.Fatalf("step %d: Pop returns %d, want %d", n, got, want[0])
			}
			want = want[1:]
		case k == 7 && len(want) > 0:
			at := random.IntN(len(want))
			q.Remove(at)
			want = slices.Delete(slices.Clone(want), at, at+1)
		case k == 8:
			front := []int{n, -n, n}[:random.IntN(4)]
			q.PushFront(front)
			want = append(slices.Clone(front), want...)
		case k == 9 && len(want) > 0:
			at := random.IntN(len(want))
			if got := q.CutFrom(at); !slices.Equal(got, want[at:]) {
				t.Fatalf("step %d: CutFrom(%d) returns %v, want %v", n, at, got, want[at:])
			}
			want = slices.Clone(want[:at])
		}
		if !slices.Equal(q.All(), want) || q.Len() != len(want) {
			t.Fatalf("step %d: the queue has %v, want %v", n, q.All(), want)
		}
	}
}
