package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"hypertoken/journal"
)

// BenchmarkAppend appends groups of one record, one at a time for each engine. Compare it with
// BenchmarkWriteAndSync: what the disk itself takes.
func BenchmarkAppend(b *testing.B) {
	for _, engines := range []int{1, 16, 256} {
		for _, size := range []int{1, 16} {
			name := fmt.Sprintf("engines=%d/group=%d", engines, size)
			b.Run(name, func(b *testing.B) { benchAppend(b, engines, size) })
		}
	}
}

func benchAppend(b *testing.B, engines, size int) {
	s := openAt(b, b.TempDir(), Options{})
	owner := journal.Owner{Number: 1}
	group := make([]journal.Record, size)
	for k := range group {
		group[k] = actionRecord(50)
	}
	for k := range engines {
		if err := (caller{s}).install(fmt.Sprint(k), owner, journal.Base{}); err != nil {
			b.Fatal(err)
		}
	}
	times := make([][]time.Duration, engines)
	before := s.Stats()
	b.ResetTimer()
	var wg sync.WaitGroup
	for k := range engines {
		wg.Go(func() {
			name, ended := fmt.Sprint(k), make(chan error, 1)
			done := journal.DoneFunc(func(err error) { ended <- err })
			newest := uint64(0)
			for range (b.N + engines - 1) / engines {
				start := time.Now()
				s.Append(name, owner, newest, group, done)
				if err := <-ended; err != nil {
					b.Error(err)
					return
				}
				times[k] = append(times[k], time.Since(start))
				newest += uint64(size)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	reportTimes(b, slices.Concat(times...))
	after := s.Stats()
	records := float64(after.Records - before.Records)
	b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(after.WrittenBytes-before.WrittenBytes)/records, "written-B/record")
	b.ReportMetric(float64(after.GroupBytes-before.GroupBytes)/records, "row-B/record")
}

// reportTimes reports the median and the 99th percentile.
func reportTimes(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkWriteAndSync writes as much as an append to a file that was written before, and syncs
// it.
func BenchmarkWriteAndSync(b *testing.B) {
	name := filepath.Join(b.TempDir(), "log")
	if err := os.WriteFile(name, make([]byte, 16<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	row := make([]byte, 160)
	var times []time.Duration
	b.ResetTimer()
	for n := range b.N {
		start := time.Now()
		if _, err := f.WriteAt(row, int64(n*len(row)%(15<<20))); err != nil {
			b.Fatal(err)
		}
		if err := syncData(f); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	reportTimes(b, times)
}

// BenchmarkOpen opens a directory with many engines.
func BenchmarkOpen(b *testing.B) {
	for _, engines := range []int{1000, 100_000} {
		b.Run(fmt.Sprint("engines=", engines), func(b *testing.B) {
			dir := b.TempDir()
			fill(b, dir, engines)
			for b.Loop() {
				s, err := Open(dir, Options{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := (caller{s}).load("engine0000007", journal.Owner{Number: 1}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// fill stores engines, many at once, and gives them up.
func fill(b testing.TB, dir string, engines int) {
	b.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	owner := journal.Owner{Number: 1}
	group := []journal.Record{actionRecord(1), actionRecord(2), actionRecord(3)}
	var wg sync.WaitGroup
	room := make(chan struct{}, 5000)
	for k := range engines {
		room <- struct{}{}
		wg.Add(1)
		name := fmt.Sprintf("engine%07d", k)
		s.Install(name, owner, journal.Base{Data: data(0, 200), Core: "core"}, journal.DoneFunc(func(err error) {
			s.Append(name, owner, 0, group, journal.DoneFunc(func(err2 error) {
				s.Release(name, owner, journal.DoneFunc(func(err3 error) {
					if err != nil || err2 != nil || err3 != nil {
						b.Error(err, err2, err3)
					}
					<-room
					wg.Done()
				}))
			}))
		}))
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
