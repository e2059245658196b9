package jetstream

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// Every figure moves, and README.md has a row for each metric, with its type and its labels.
func TestFigures(t *testing.T) {
	s := openStore(t, shared(t).options(newName()))
	c, owner := client{t, s}, ownerOf(1, 1)
	base := setup()
	base.Data = make([]byte, 200<<10)
	c.must(c.install("a", owner, base))
	c.must(c.append("a", owner, 0, action(1), action(2)))
	c.expect("a", owner, 1, 2)
	st := s.Stats()
	if st.Batches < 3 || st.Messages < 3 || st.Groups != 1 || st.Records != 2 || st.Bases != 1 || st.Loads != 1 ||
		st.GroupBytes == 0 || st.BaseBytes < 200<<10 || st.Pieces != 1 || st.SlotsAcquired != 1 ||
		st.Latency.Sum <= 0 ||
		st.Slots != 1 || st.SlotsTakenOver != 0 || st.Failed != 0 || st.Writes.Sum < 3 {
		t.Errorf("%+v", st)
	}
	registry := prometheus.NewPedanticRegistry()
	members := NewMembers(MemberOptions{})
	members.leaseEnds.Store(1)
	members.SetTarget(Target{Generation: 1, Core: "c", InForce: true})
	registry.MustRegister(NewCollector(s), NewMembersCollector(members))
	families, err := registry.Gather()
	c.must(err)
	var exported, documented []string
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		exported = append(exported, fmt.Sprintf("%s %s %q", f.GetName(), strings.ToLower(f.GetType().String()),
			strings.Join(labels, ", ")))
	}
	readme, err := os.ReadFile("README.md")
	c.must(err)
	row := regexp.MustCompile("(?m)^\\| `(hypertoken_jetstream_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*?) ?\\|")
	for _, m := range row.FindAllSubmatch(readme, -1) {
		documented = append(documented, fmt.Sprintf("%s %s %q", m[1], m[2], m[3]))
	}
	slices.Sort(documented)
	if !slices.Equal(exported, documented) {
		t.Errorf("exported:\n%s\nREADME.md has:\n%s", strings.Join(exported, "\n"), strings.Join(documented, "\n"))
	}
}

// Nothing runs any more once a store is closed, also if the servers are gone.
func TestNothingIsLeftAfterClose(t *testing.T) {
	servers := startServers(t, 1, nil)
	before := goleak.IgnoreCurrent()
	for _, isKilled := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		o := servers.options(newName())
		s, err := Open(ctx, o)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		c := client{t, s}
		c.must(c.install("a", ownerOf(1, 1), setup()))
		if isKilled {
			servers.kill(servers.list[0])
		}
		ended := make(chan error, 1)
		go func() { ended <- c.append("a", ownerOf(1, 1), 0, action(1)) }()
		_ = s.Close()
		t.Logf("the append has ended: %v", <-ended)
		if err := goleak.Find(before); err != nil {
			t.Fatal(err)
		}
	}
}

// A store whose servers were away is healthy again without a call.
func TestHealthComesBack(t *testing.T) {
	s, f := quickStore(t)
	c, owner := client{t, s}, ownerOf(1, 1)
	c.must(s.Health())
	c.must(c.install("a", owner, setup()))
	f.add(answered(500, codeNoStorage))
	if err := c.append("a", owner, 0, action(1)); err == nil {
		t.Fatal("the append succeeds")
	}
	if s.Health() == nil {
		t.Error("healthy although nothing is stored")
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for since := time.Now(); s.Health() != nil; <-ticker.C {
		if time.Since(since) > time.Minute {
			t.Fatal(s.Health())
		}
	}
}
