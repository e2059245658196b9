package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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

// hiddenNames lists names that are a host's own.
func hiddenNames(c *client) {
	lister, ok := c.store.(journal.Lister)
	if !ok {
		return
	}
	const hidden = "\x00" + name
	for _, n := range []string{name, hidden + "1", hidden + "2", "\x01" + name} {
		c.create(n, first, setup("a"))
	}
	for _, t := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 10, []string{"\x01" + name, name}},
		{"", "", 1, []string{"\x01" + name}},
		{"", hidden + "1", 10, []string{"\x01" + name, name}},
		{"\x00", "", 10, []string{hidden + "1", hidden + "2"}},
		{"\x00", "", 1, []string{hidden + "1"}},
		{hidden, hidden + "1", 10, []string{hidden + "2"}},
		{name, "", 10, []string{name}},
	} {
		page, err := c.list(lister, t.prefix, t.after, t.limit)
		c.must("List", err)
		var names []string
		for _, info := range page {
			names = append(names, info.Name)
		}
		if !slices.Equal(names, t.want) {
			c.problem("List(%q, %q, %d): %q, want %q", t.prefix, t.after, t.limit, names, t.want)
		}
	}
}

// renaming gives journals other names.
func renaming(c *client) {
	renamer, ok := c.store.(journal.Renamer)
	if !ok {
		return
	}
	rename := func(from, to string, by journal.Owner) error {
		a := c.begin("Rename(%q, %q, owner %d)", from, to, by.Number)
		renamer.Rename(from, to, by, journal.DoneFunc(func(err error) { c.report(a, err) }))
		return a.wait()
	}
	const to = name
	divider, isDivider := c.store.(journal.Divider)
	beside := func(name string) string {
		for n := 0; isDivider && !divider.KeepsTogether(name, to); n++ {
			if n == mostDividedNames {
				c.t.Fatalf("none of %d names is kept together with %q", n, to)
			}
			name = fmt.Sprint(strings.TrimRight(name, "0123456789"), n)
		}
		return name
	}
	from, taken := beside("\x00"+name), beside(name+"taken")
	other := c.create(taken, second, setup("other"))
	past := c.randomHistory(from, marker(3), true)
	m := past.model
	c.mustNotOwn("a name that is not known", rename(name+"nobody", to, first))
	c.mustNotOwn("a journal of somebody else", rename(from, to, second))
	c.mustNotOwn("a journal of somebody else, to a name that is known", rename(from, taken, second))
	for _, known := range []string{taken, from} {
		if err := rename(from, known, first); !errors.Is(err, journal.ErrExists) {
			c.problem("a name that is known: %v, want journal.ErrExists", err)
		}
	}
	c.expect("after renaming was refused", from, first, m)
	c.expect("the journal whose name was wanted", taken, second, other)
	elsewhere := name + "elsewhere"
	for n := 0; isDivider && divider.KeepsTogether(from, elsewhere) && n < mostDividedNames; n++ {
		elsewhere = fmt.Sprint(name, "elsewhere", n)
	}
	if isDivider && !divider.KeepsTogether(from, elsewhere) {
		if err := rename(from, elsewhere, first); !errors.Is(err, journal.ErrRefused) {
			c.problem("a name that is not kept together with the former one: %v, want journal.ErrRefused", err)
		}
		c.expect("after renaming to a name that is kept elsewhere", from, first, m)
		c.expectNothing("a name that is kept elsewhere", elsewhere, second)
	}
	c.must("Rename", rename(from, to, first))
	c.mustNotOwn("an append under the former name", c.append(from, first, m.newest(), action(1)))
	if s, err := c.load(from, first); s != nil || err != nil {
		c.t.Fatalf("Load of the former name: %v, %v; want nothing and no error", s, err)
	}
	c.must("Append by the owner, who is still the owner", c.append(to, first, m.newest(), action(2)))
	past.all = append(past.all, journal.AppendEntry(nil, action(2).Action, action(2).Checksum))
	m.append(action(2))
	c.expect("under the new name", to, first, m)
	if h, ok := c.store.(journal.Historian); ok {
		past.name = to
		c.checkHistory(h, past)
	}
	fresh := c.create(from, third, setup("b")) // the former name is free
	c.expect("a journal of the former name", from, third, fresh)
	c.expect("the renamed journal beside it", to, first, m)
	c.must("Delete", c.delete(to))
	c.must("Rename to a name that was deleted", rename(from, to, third))
	c.expect("renamed to a name that was deleted", to, third, fresh)
}

// mostDividedNames is how many names are tried until one is kept together with another one.
const mostDividedNames = 10_000

// expectNothing fails the test if a name is known.
func (c *client) expectNothing(what, name string, owner journal.Owner) {
	c.t.Helper()
	if s, err := c.load(name, owner); s != nil || err != nil {
		c.t.Fatalf("%s: Load(%q) has %v, %v; want nothing and no error", what, name, s, err)
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

// barriers asks who owns a journal.
func barriers(c *client) {
	verifier, ok := c.store.(journal.OwnerVerifier)
	if !ok {
		return
	}
	barrier := func(name string, by journal.Owner) error {
		a := c.begin("Barrier(%q, owner %d)", name, by.Number)
		verifier.Barrier(name, by, journal.DoneFunc(func(err error) { c.report(a, err) }))
		return a.wait()
	}
	c.mustNotOwn("a barrier of a name that is not known", barrier(name, first))
	m := c.create(name, first, setup("a"))
	c.must("Barrier of who created it", barrier(name, first))
	c.mustNotOwn("a barrier of somebody else", barrier(name, second))
	c.must("Append", c.append(name, first, 0, action(1)))
	m.append(action(1))
	c.must("Barrier after an append", barrier(name, first))
	c.expect("after barriers", name, second, m)
	c.mustNotOwn("a barrier of the former owner", barrier(name, first))
	c.must("Barrier of the new owner", barrier(name, second))
	c.must("Append after barriers", c.append(name, second, 1, action(2)))
	c.must("Delete", c.delete(name))
	c.mustNotOwn("a barrier of a name that was deleted", barrier(name, second))
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
