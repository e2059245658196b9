// Package histogram counts durations so that both kinds of Prometheus histogram can be made of the
// counts: classic ones, with decimal bounds, and native ones, whose bounds are powers of the
// eighth root of two.
//
// A Histogram has a cell between any two bounds of either kind, so each duration is counted once,
// and both kinds are exact.
package histogram

import (
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// Schema is that of the native histograms: 2^Schema buckets for each power of two.
const Schema = 3

const (
	perOctave = 1 << Schema
	// lowest and highest are the exponents of the bounds: 60 ns, up to which a duration counts as
	// zero, and 1,024 s, above which all are in one bucket.
	lowest, highest = -24, 10
)

// Bounds are the upper bounds of the classic buckets, in seconds. There is one more bucket,
// without an upper bound.
var Bounds = [...]float64{
	1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6,
	1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10, 30,
}

// ZeroThreshold is the greatest duration in the native zero bucket, in seconds.
var ZeroThreshold = math.Ldexp(1, lowest)

// classics and natives are the numbers of bounds of each kind, cells the number of cells: one more
// than there are bounds.
const (
	classics = len(Bounds)
	natives  = (highest-lowest)*perOctave + 1
	cells    = classics + natives - both + 1
	// both is the number of bounds that are of both kinds: 0.25, 0.5 and 1 s.
	both = 3
)

// layout describes the cells.
var layout = func() (l struct {
	upper   [cells]uint64   // for each cell, the greatest duration in it, in nanoseconds
	from    [65]uint16      // for each number of bits, the first cell for durations with so many bits
	classic [classics]int   // the first cell above each classic bound
	native  [natives]uint16 // the first cell above each native bound
}) {
	nanoseconds := func(seconds float64) uint64 { return uint64(math.Floor(seconds * 1e9)) }
	var all []uint64
	for _, b := range Bounds {
		all = append(all, uint64(math.Round(b*1e9)))
	}
	for k := range natives {
		all = append(all, nanoseconds(nativeBound(k)))
	}
	slices.Sort(all)
	all = append(slices.Compact(all), math.MaxUint64)
	if copy(l.upper[:], all) != len(all) || len(all) != cells {
		panic("histogram: another number of bounds than counted")
	}
	above := func(bound uint64) int { return slices.Index(all, bound) + 1 }
	for k, b := range Bounds {
		l.classic[k] = above(uint64(math.Round(b * 1e9)))
	}
	for k := range natives {
		l.native[k] = uint16(above(nanoseconds(nativeBound(k))))
	}
	for n := range l.from {
		first := uint64(0)
		if n > 0 {
			first = 1 << (n - 1)
		}
		at, _ := slices.BinarySearch(all, first)
		l.from[n] = uint16(at)
	}
	return l
}()

// nativeBound returns a bound in seconds.
func nativeBound(k int) float64 { return math.Exp2(lowest + float64(k)/perOctave) }

// Histogram counts durations. Its zero value is empty, and it is safe for use by any number of
// goroutines. It takes 2.4 KB.
type Histogram struct {
	cells [cells]atomic.Uint64
	sum   atomic.Uint64
}

// Observe counts a duration. A duration below zero counts as zero.
func (h *Histogram) Observe(d time.Duration) {
	v := uint64(max(d, 0))
	at := layout.from[bits.Len64(v)]
	for v > layout.upper[at] {
		at++
	}
	h.cells[at].Add(1)
	h.sum.Add(v)
}

// AddTo adds the counts to a snapshot.
func (h *Histogram) AddTo(s *Snapshot) {
	if s.cells == nil {
		s.cells = make([]uint64, cells)
	}
	// A duration that is observed at the same time may be missing from the counts or from the sum.
	for k := range h.cells {
		n := h.cells[k].Load()
		s.cells[k] += n
		s.Count += n
	}
	s.Sum += time.Duration(h.sum.Load())
}

// Add adds the counts of a snapshot.
func (h *Histogram) Add(s *Snapshot) {
	for k, n := range s.cells {
		h.cells[k].Add(n)
	}
	h.sum.Add(uint64(s.Sum))
}

// Snapshot has the counts of a histogram at one time. Its zero value is an empty histogram.
type Snapshot struct {
	Count uint64
	Sum   time.Duration
	cells []uint64
}

// Classic returns how many durations are at most each of [Bounds].
func (s *Snapshot) Classic() []uint64 {
	list := make([]uint64, classics)
	if s.cells == nil {
		return list
	}
	n, at := uint64(0), 0
	for k, end := range layout.classic {
		for ; at < end; at++ {
			n += s.cells[at]
		}
		list[k] = n
	}
	return list
}

// Native returns how many durations are zero, and how many are in each of the other buckets that
// have any, by their index of [Schema].
func (s *Snapshot) Native() (zero uint64, buckets map[int]uint64) {
	buckets = map[int]uint64{}
	at := 0
	for k := range natives + 1 {
		end := cells
		if k < natives {
			end = int(layout.native[k])
		}
		n := uint64(0)
		for ; at < end && s.cells != nil; at++ {
			n += s.cells[at]
		}
		if k == 0 {
			zero = n
		} else if n > 0 {
			buckets[lowest*perOctave+k] = n
		}
	}
	return zero, buckets
}

// ClassicBucket returns the classic bucket that a duration is in: an index of [Bounds], or their
// number.
func ClassicBucket(d time.Duration) int {
	at, _ := slices.BinarySearch(Bounds[:], d.Seconds())
	return at
}
