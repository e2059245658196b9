package jetstream

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// BenchmarkAppends appends from several engines, one append in flight for each. Run it with
// HYPERTOKEN_DEEP=1 for three servers.
func BenchmarkAppends(b *testing.B) {
	for _, n := range []int{1, 16, 256, 4096} {
		b.Run(fmt.Sprint("engines=", n), func(b *testing.B) {
			s := openStore(b, shared(b).options(newName()))
			c, owner := client{b, s}, ownerOf(1, 1)
			names := make([]string, n)
			each(n, 64, func(k int) {
				names[k] = fmt.Sprint("engine", k)
				c.must(c.install(names[k], owner, setup()))
			})
			newest := make([]uint64, n)
			group := []journal.Record{action(1)}
			inTurns(b, n, func(k int) {
				c.must(c.append(names[k], owner, newest[k], group...))
				newest[k]++
			})
			st := s.Stats()
			b.ReportMetric(float64(st.Messages)/float64(max(st.Batches, 1)), "messages/batch")
			b.ReportMetric(float64(st.Groups)/float64(max(st.Messages, 1)), "groups/message")
		})
	}
}

// BenchmarkPublish publishes one message for each action instead, without a condition.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 16, 256, 4096} {
		b.Run(fmt.Sprint("subjects=", n), func(b *testing.B) {
			s := openStore(b, shared(b).options(newName()))
			data := make([]byte, 120)
			inTurns(b, n, func(k int) {
				m := nats.NewMsg(s.layout.engineSubject(0, fmt.Sprint("publish", k)))
				m.Data = data
				if _, err := s.conn.write(b.Context(), m, DefaultPatience); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

// each calls f for 0 to n - 1, at most so many at once.
func each(n, atOnce int, f func(k int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, atOnce) {
		wg.Go(func() {
			for k := next.Add(1) - 1; k < int64(n); k = next.Add(1) - 1 {
				f(int(k))
			}
		})
	}
	wg.Wait()
}

// inTurns has n goroutines call f with a number of their own, b.N times together.
func inTurns(b *testing.B, n int, f func(k int)) {
	var left atomic.Int64
	left.Store(int64(b.N))
	before := cpuTime()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for k := range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				f(k)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "actions/s")
	b.ReportMetric(float64(cpuTime()-before)*10000/float64(b.N), "cpu-us/action")
}

// cpuTime returns the CPU time that this process and its servers have taken, in hundredths of a second;
// 0 if that is not known. On a machine that others use, it says more than the time that has passed.
func cpuTime() (total int) {
	pids := []int{os.Getpid()}
	for _, s := range sharedServers.list {
		pids = append(pids, s.cmd.Process.Pid)
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		for _, f := range fields[11:13] { // in user and in system mode
			n, _ := strconv.Atoi(f)
			total += n
		}
	}
	return total
}
