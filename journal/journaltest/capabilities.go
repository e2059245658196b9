package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"hypertoken/journal"
)

// The rules of this file are for what a store may do beyond journal.Store. Each one passes for a
// store that has not the interface.

// errorClasses sees that a call that is refused for good says that it had no effect.
func errorClasses(c *client) {
	m := c.create(name, first, snapshot(5))
	c.must("Append", c.append(name, first, 5, action(1)))
	m.append(action(1))
	for what, err := range map[string]error{
		"an append behind another sequence": c.append(name, first, 5, action(2)),
		"a base before the present one":     c.install(name, first, snapshot(4)),
		"a base beyond the newest entry":    c.install(name, first, snapshot(7)),
		"an append of somebody else":        c.append(name, second, 6, action(2)),
	} {
		if !errors.Is(err, journal.ErrRefused) {
			c.problem("%s: %v, want an error that wraps journal.ErrRefused", what, err)
		}
	}
	c.expect("after calls that were refused", name, first, m)
}

// listing reads pages of names.
func listing(c *client) {
	lister, ok := c.store.(journal.Lister)
	if !ok {
		return
	}
	var want []string
	for k := range 23 {
		n := fmt.Sprintf("%s/%02d", name, k)
		want = append(want, n)
		base := snapshot(uint64(k))
		c.create(n, first, base)
		c.must("Append", c.append(n, first, uint64(k), action(1), keyed(journal.Record{}, 1, uint64(k)+1)))
	}
	for _, n := range []string{name, name + "0", name + ".", name + "/"} {
		c.create(n, first, setup(n))
	}
	c.must("Delete", c.delete(name+"/"))
	for _, limit := range []int{1, 5, 23, 24, 1000} {
		var got []string
		for after := ""; len(got) <= len(want); {
			page, err := c.list(lister, name+"/", after, limit)
			c.must("List", err)
			for _, info := range page {
				got = append(got, info.Name)
				c.checkInfo(info, uint64(len(got)))
			}
			if len(page) < limit {
				break
			}
			after = page[len(page)-1].Name
		}
		if !slices.Equal(got, want) {
			c.t.Fatalf("the names with the prefix %q, %d a page: %q, want %q", name+"/", limit, got, want)
		}
	}
	page, err := c.list(lister, name, name+"/21", 1000)
	c.must("List", err)
	if len(page) != 2 || page[0].Name != name+"/22" || page[1].Name != name+"0" {
		c.problem("the names behind %q: %+v", name+"/21", page)
	}
	if page, err := c.list(lister, name+"nobody", "", 10); err != nil || len(page) != 0 {
		c.problem("the names with a prefix that none has: %+v, %v", page, err)
	}
	// A list makes nobody an owner.
	c.must("Append after a list", c.append(want[0], first, 1, action(2)))
}

// checkInfo checks what a list says of the engine that is the n-th in order.
func (c *client) checkInfo(info journal.Info, n uint64) {
	if info.Sequence != n || info.Core != "core2" {
		c.problem("List says of %q: sequence %d, core %q; want %d, core2", info.Name, info.Sequence, info.Core, n)
	}
	if info.Created.IsZero() || info.Updated.Before(info.Created) || info.Bytes == 0 {
		c.problem("List says of %q: %d bytes, created %v, updated %v", info.Name, info.Bytes, info.Created,
			info.Updated)
	}
}

func (c *client) list(lister journal.Lister, prefix, after string, limit int) (page []journal.Info, err error) {
	a := c.begin("List(%q, %q, %d)", prefix, after, limit)
	lister.List(prefix, after, limit, func(list []journal.Info, err error) {
		c.mu.Lock()
		if a.reports == 0 {
			page = list
		}
		c.mu.Unlock()
		c.report(a, err)
	})
	err = a.wait()
	return page, err
}

// history is all that was ever stored of a journal.
type history struct {
	entries [][]byte
	keys    []journal.KeyRecord
	bases   []journal.Base
}

// pastStates reads states and entries of the past.
func pastStates(c *client) {
	h, ok := c.store.(journal.Historian)
	if !ok {
		return
	}
	r := rand.New(rand.NewPCG(5, 6))
	m := c.create(name, first, setup("a"))
	past := &history{bases: []journal.Base{m.base}}
	for range 60 {
		if r.IntN(5) > 0 {
			group := c.randomGroup(r, m, past)
			c.must("Append", c.append(name, first, m.newest(), group...))
			m.append(group...)
			continue
		}
		base := snapshot(m.base.Sequence + r.Uint64N(uint64(len(m.entries))+1))
		base.Data = fmt.Append(nil, "state", base.Sequence, len(past.bases))
		for _, k := range past.keys {
			if k.Sequence <= base.Sequence {
				base.KeyNumber = k.Number
			}
		}
		base.Keys = slices.Clone(past.keys[max(0, int(base.KeyNumber)-3):base.KeyNumber])
		c.must("Install", c.install(name, first, base))
		m.install(base)
		past.bases = slices.DeleteFunc(past.bases, func(b journal.Base) bool { return b.Sequence == base.Sequence })
		past.bases = append(past.bases, base)
	}
	for at := range m.newest() + 1 {
		c.checkPast(h, m, past, at)
	}
	for _, limit := range []int{0, 1, 300, 1 << 20} {
		c.checkRange(h, m, past, limit)
	}
	c.checkOutside(h, m)
	// Reading the history makes nobody an owner.
	c.must("Append after reading the history", c.append(name, first, m.newest(), action(1)))
	m.append(action(1))
	c.expect("after reading the history", name, first, m)
}

// randomGroup returns a group and adds it to the history.
func (c *client) randomGroup(r *rand.Rand, m *model, past *history) (group []journal.Record) {
	sequence := m.newest()
	for range 1 + r.IntN(6) {
		a := journal.Record{}
		if r.IntN(6) > 0 {
			a = action(r.IntN(1 << 16))
			sequence++
			past.entries = append(past.entries, journal.AppendEntry(nil, a.Action, a.Checksum))
		}
		if a.Action == nil || r.IntN(4) == 0 {
			a = keyed(a, uint64(len(past.keys))+1, sequence)
			past.keys = append(past.keys, *a.Keyed)
		}
		group = append(group, a)
	}
	return group
}

// checkPast checks the state at a sequence.
func (c *client) checkPast(h journal.Historian, m *model, past *history, at uint64) {
	c.t.Helper()
	s, err := c.loadAt(h, name, at)
	if errors.Is(err, journal.ErrTrimmed) && at < m.base.Sequence {
		return
	}
	c.must(fmt.Sprintf("LoadAt(%d), the newest base is %d", at, m.base.Sequence), err)
	if s == nil {
		c.t.Fatalf("LoadAt(%d) has nothing", at)
	}
	var want journal.Base
	for _, b := range past.bases {
		if b.Sequence <= at && b.Sequence >= want.Sequence {
			want = b
		}
	}
	past.bases = slices.Clip(past.bases)
	if !sameBase(s.Base, want) {
		c.t.Fatalf("LoadAt(%d): the base is %s; want %s", at, describe(&s.Base), describe(&want))
	}
	entries := past.entries[want.Sequence:at]
	if s.Count != uint64(len(entries)) || !bytes.Equal(s.Entries, bytes.Join(entries, nil)) {
		c.t.Fatalf("LoadAt(%d): %d entries behind %d, or other ones", at, s.Count, s.Sequence)
	}
	isOutside := func(k journal.KeyRecord) bool { return k.Number <= want.KeyNumber || k.Sequence > at }
	if keys := slices.DeleteFunc(slices.Clone(past.keys), isOutside); !sameKeys(s.Recent, keys) {
		c.t.Fatalf("LoadAt(%d): the recent keys are %s, want %s", at, keyNames(s.Recent), keyNames(keys))
	}
}

func (c *client) loadAt(h journal.Historian, name string, at uint64) (result *journal.Stored, err error) {
	a := c.begin("LoadAt(%q, %d)", name, at)
	h.LoadAt(name, at, func(s *journal.Stored, err error) {
		c.mu.Lock()
		if a.reports == 0 {
			result = s
		}
		c.mu.Unlock()
		c.report(a, err)
	})
	err = a.wait()
	return result, err
}

// checkRange reads all entries in parts.
func (c *client) checkRange(h journal.Historian, m *model, past *history, limit int) {
	c.t.Helper()
	from := uint64(1)
	if _, err := c.part(h, name, from, limit); errors.Is(err, journal.ErrTrimmed) && m.base.Sequence > 0 {
		from = m.base.Sequence + 1
	}
	start := from
	var entries []byte
	var keys []journal.KeyRecord
	for from <= m.newest() {
		p, err := c.part(h, name, from, limit)
		c.must(fmt.Sprintf("Range(%d, %d)", from, limit), err)
		if p.First != from || p.Count == 0 || p.First+p.Count-1 > m.newest() {
			c.t.Fatalf("Range(%d, %d): %d entries from %d on, the newest is %d", from, limit, p.Count, p.First,
				m.newest())
		}
		entries, keys = append(entries, p.Entries...), append(keys, p.Keyed...)
		from += p.Count
	}
	if !bytes.Equal(entries, bytes.Join(past.entries[start-1:], nil)) {
		c.t.Fatalf("Range from %d on, about %d bytes a part, has other entries than were appended", start, limit)
	}
	isBefore := func(k journal.KeyRecord) bool { return k.Sequence < start && start > 1 }
	if want := slices.DeleteFunc(slices.Clone(past.keys), isBefore); !sameKeys(keys, want) {
		c.t.Fatalf("Range from %d on, about %d bytes a part: the keys are %s, want %s", start, limit, keyNames(keys),
			keyNames(want))
	}
}

func (c *client) part(h journal.Historian, name string, from uint64, limit int) (part journal.Part, err error) {
	a := c.begin("Range(%q, %d, %d)", name, from, limit)
	h.Range(name, from, limit, func(p journal.Part, err error) {
		c.mu.Lock()
		if a.reports == 0 {
			part = p
		}
		c.mu.Unlock()
		c.report(a, err)
	})
	err = a.wait()
	return part, err
}

// checkOutside asks for what is not there.
func (c *client) checkOutside(h journal.Historian, m *model) {
	c.t.Helper()
	if _, err := c.loadAt(h, name, m.newest()+1); !errors.Is(err, journal.ErrRefused) {
		c.problem("LoadAt beyond the newest sequence: %v, want journal.ErrRefused", err)
	}
	if p, err := c.part(h, name, m.newest()+1, 100); err != nil || p.Count != 0 || len(p.Entries) != 0 {
		c.problem("Range from the newest sequence plus 1: %d entries, %v", p.Count, err)
	}
	if s, err := c.loadAt(h, name+"nobody", 0); s != nil || err != nil {
		c.problem("LoadAt of an unknown name: %v, %v; want nothing and no error", s, err)
	}
}

// release gives a journal up.
func release(c *client) {
	releaser, ok := c.store.(journal.Releaser)
	if !ok {
		return
	}
	give := func(by journal.Owner) error {
		a := c.begin("Release(%q, owner %d)", name, by.Number)
		releaser.Release(name, by, journal.DoneFunc(func(err error) { c.report(a, err) }))
		return a.wait()
	}
	m := c.create(name, first, setup("a"))
	c.must("Append", c.append(name, first, 0, action(1)))
	m.append(action(1))
	c.mustNotOwn("a journal that another one gives up", give(second))
	c.must("Append after another one wanted to give it up", c.append(name, first, 1, action(2)))
	m.append(action(2))
	c.must("Release", give(first))
	c.mustNotOwn("an append of an owner that gave the journal up", c.append(name, first, 2, action(3)))
	c.mustNotOwn("an install of an owner that gave the journal up", c.install(name, first, snapshot(2)))
	c.mustNotOwn("a journal that is given up twice", give(first))
	m.owner = journal.Owner{}
	c.expect("a journal that nobody owns", name, second, m)
	c.must("Append of the next owner", c.append(name, second, 2, action(3)))
	m.append(action(3))
	c.mustNotOwn("a journal that its former owner gives up", give(first))
	c.expect("in the end", name, second, m)
}

// cores keeps cores and reads them.
func cores(c *client) {
	keeper, ok := c.store.(journal.CoreKeeper)
	if !ok {
		return
	}
	code := bytes.Repeat([]byte("0123456789abcdef"), 1<<20/16)
	for k, size := range []int{1, 1000, len(code)} {
		hash := strings.Repeat(fmt.Sprintf("%02x", k+1), 32)
		if got, err := c.core(keeper, hash); got != nil || err != nil {
			c.t.Fatalf("a core that was never kept: %d bytes, %v; want nothing and no error", len(got), err)
		}
		for range 2 {
			a := c.begin("KeepCore(%q, %d bytes)", hash, size)
			keeper.KeepCore(hash, code[:size], journal.DoneFunc(func(err error) { c.report(a, err) }))
			c.must("KeepCore", a.wait())
			if got, err := c.core(keeper, hash); err != nil || !bytes.Equal(got, code[:size]) {
				c.t.Fatalf("a core of %d bytes: %d bytes, or other ones, %v", size, len(got), err)
			}
		}
	}
}

func (c *client) core(keeper journal.CoreKeeper, hash string) (code []byte, err error) {
	a := c.begin("Core(%q)", hash)
	keeper.Core(hash, func(b []byte, err error) {
		c.mu.Lock()
		if a.reports == 0 {
			code = b
		}
		c.mu.Unlock()
		c.report(a, err)
	})
	err = a.wait()
	return code, err
}

// closing closes a store while calls are under way: each of them ends, and so does each later one.
func closing(c *client) {
	closer, ok := c.store.(io.Closer)
	if !ok {
		return
	}
	const engines, calls = 8, 40
	const idle = name + "idle"
	c.create(idle, first, setup("a"))
	var mu sync.Mutex // guards underWay
	var underWay []*call
	quarter := make(chan struct{}) // closed once a quarter of the calls is made
	var wg sync.WaitGroup
	for k := range engines {
		n := fmt.Sprint(name, k)
		c.create(n, first, setup("a"))
		wg.Go(func() {
			for j := range calls {
				a := c.startAppend(n, first, uint64(j), []journal.Record{action(j)})
				l, _ := c.startLoad(n+strings.Repeat("x", j%2), first)
				mu.Lock()
				underWay = append(underWay, a, l)
				if len(underWay) == engines*calls/2 {
					close(quarter)
				}
				mu.Unlock()
			}
		})
	}
	<-quarter
	c.must("Close", closer.Close())
	wg.Wait()
	for _, a := range underWay {
		if errors.Is(a.wait(), errNotReported) {
			c.problem("%s: the end was not reported, and the store is closed", a.what)
			return
		}
	}
	_, loadErr := c.load(idle, first)
	for what, err := range map[string]error{
		"an append": c.append(idle, first, 0, action(1)), "an install": c.install(name+"new", first, setup("a")),
		"a delete": c.delete(name + "0"), "a load": loadErr,
	} {
		if !errors.Is(err, journal.ErrRefused) {
			c.problem("%s of a store that is closed: %v, want journal.ErrRefused", what, err)
		}
	}
}
