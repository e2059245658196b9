package histogram

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// durations returns the durations at every bound, one nanosecond below and above it, and some
// thousand others.
func durations() []time.Duration {
	list := []time.Duration{0, 1, 59, 60, 61, time.Hour, math.MaxInt64}
	for _, u := range layout.upper[:cells-1] {
		list = append(list, time.Duration(u)-1, time.Duration(u), time.Duration(u)+1)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		list = append(list, time.Duration(math.Exp(r.Float64()*35)))
	}
	return list
}

func TestWhatIsLongerThanAllBounds(t *testing.T) {
	var h Histogram
	h.Observe(1024 * time.Second)
	h.Observe(1024*time.Second + 1)
	h.Observe(math.MaxInt64)
	h.Observe(-1)
	var s Snapshot
	h.AddTo(&s)
	zero, buckets := s.Native()
	if zero != 1 || buckets[80] != 1 || buckets[81] != 2 || len(buckets) != 2 || s.Count != 4 {
		t.Errorf("%d are zero, %v, %d in all", zero, buckets, s.Count)
	}
	if c := s.Classic(); c[0] != 1 || c[classics-1] != 1 {
		t.Errorf("classic: %v", c)
	}
}

func TestSnapshotsAddUp(t *testing.T) {
	var a, b, both Histogram
	for k, d := range durations() {
		if d > time.Hour {
			continue // the sum of such durations in nanoseconds would overflow
		}
		both.Observe(d)
		if k%2 == 0 {
			a.Observe(d)
		} else {
			b.Observe(d)
		}
	}
	var sum, want Snapshot
	a.AddTo(&sum)
	b.AddTo(&sum)
	both.AddTo(&want)
	if sum.Count != want.Count || sum.Sum != want.Sum || !slices.Equal(sum.cells, want.cells) {
		t.Errorf("%d durations of %v, want %d of %v", sum.Count, sum.Sum, want.Count, want.Sum)
	}
	var c Histogram
	c.Add(&sum)
	var again Snapshot
	c.AddTo(&again)
	if again.Count != sum.Count || again.Sum != sum.Sum || !slices.Equal(sum.cells, again.cells) {
		t.Errorf("%d durations of %v, want %d of %v", again.Count, again.Sum, sum.Count, sum.Sum)
	}
}

func TestTheClassicBucketOfADuration(t *testing.T) {
	for _, d := range durations() {
		var h Histogram
		h.Observe(d)
		var s Snapshot
		h.AddTo(&s)
		want := slices.Index(s.Classic(), 1)
		if want < 0 {
			want = len(Bounds)
		}
		if got := ClassicBucket(d); got != want {
			t.Errorf("%v is in the bucket %d, want %d", d, got, want)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	list := durations()
	for k := range b.N {
		h.Observe(list[k%len(list)])
	}
}
