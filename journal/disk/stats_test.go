package disk

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"hypertoken/journal"
)

// Every figure moves, and README.md has a row for each metric.
func TestFigures(t *testing.T) {
	d := newSmallDisk()
	o := memOptions(d)
	s := openAt(t, "data", o)
	c, owner := caller{s}, journal.Owner{Number: 1}
	keyed := actionRecord(1)
	keyed.Keyed = keyRecord(1, 1)
	if err := c.install("a", owner, journal.Base{Data: data(0, 100)}); err != nil {
		t.Fatal(err)
	}
	if err := c.append("a", owner, 0, keyed, actionRecord(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.load("a", owner); err != nil {
		t.Fatal(err)
	}
	s.space.check(s)
	st := s.Stats()
	if st.Batches < 2 || st.Groups != 1 || st.Records != 2 || st.Bases != 1 || st.Loads != 1 || st.GroupBytes == 0 ||
		st.KeyedBytes == 0 || st.BaseBytes < 100 || st.WrittenBytes == 0 || st.FreeBytes == 0 ||
		st.UsedBytes == 0 || st.Owned != 1 {
		t.Errorf("%+v", st)
	}
	if n := sum(st.SyncSeconds); n < 2 || st.SyncSeconds.Sum <= 0 {
		t.Errorf("%d syncs of %v s", n, st.SyncSeconds.Sum)
	}
	if n := sum(st.BatchCalls); n != 2 || st.BatchCalls.Sum != 2 {
		t.Errorf("%d batches of %v calls", n, st.BatchCalls.Sum)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(s))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var exported []string
	for _, f := range families {
		exported = append(exported, f.GetName())
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(hypertoken_store_[a-z_]+)`").FindAllSubmatch(readme, -1) {
		documented = append(documented, string(m[1]))
	}
	slices.Sort(documented)
	if !slices.Equal(exported, documented) {
		t.Errorf("exported %v, README.md has %v", exported, documented)
	}
}

func sum(h Histogram) (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// The engines that are stored are counted after a start, those that are created and deleted
// meanwhile with them.
func TestEnginesAreCounted(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, fs)
	c, owner := caller{s}, journal.Owner{Number: 1}
	for _, name := range []string{"a", "b", "c"} {
		if err := c.install(name, owner, journal.Base{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, fs)
	c = caller{s}
	if err := c.delete("a"); err != nil {
		t.Fatal(err)
	}
	if err := c.install("d", owner, journal.Base{}); err != nil {
		t.Fatal(err)
	}
	s.inUse.Wait()
	if st := s.Stats(); st.Engines != 3 || !st.IsCounted {
		t.Errorf("%d engines, counted: %v", st.Engines, st.IsCounted)
	}
}
