package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"hypertoken/journal"
)

// owner returns an owner: the number-th tenure of a host.
func owner(host byte, number uint64) journal.Owner {
	return journal.Owner{Host: [16]byte{host, 15: 0xff}, Number: number}
}

// action returns a record of an action that differs from those of other numbers.
func action(n int) journal.Record {
	a := journal.Action{Now: int64(n) - 2, Entropy: [journal.EntropySize]byte{byte(n), byte(n >> 8)}}
	if n%5 == 0 {
		a.Conditional, a.IfSequence = true, uint64(n)
	}
	payload := bytes.Repeat([]byte{byte(n)}, n%97)
	return journal.Record{
		Action:   journal.AppendAction(nil, &a, fmt.Sprint("type", n), payload),
		Checksum: uint64(n) * 0x9e3779b97f4a7c15, // so that it has all lengths
	}
}

// actions returns records of n actions, from the first on.
func actions(first, n int) (group []journal.Record) {
	for k := range n {
		group = append(group, action(first+k))
	}
	return group
}

// keyRecord returns a key record.
func keyRecord(number, sequence uint64) *journal.KeyRecord {
	return &journal.KeyRecord{
		Key: fmt.Sprint("key", number), Sum: [32]byte{byte(number), 31: 1},
		Result:   bytes.Repeat([]byte{byte(number)}, int(number%7)),
		Sequence: sequence, Changed: number%2 == 0, Number: number,
	}
}

// keyed returns the record of an action or a note with a key record.
func keyed(r journal.Record, number, sequence uint64) journal.Record {
	r.Keyed = keyRecord(number, sequence)
	return r
}

// setup returns a base of the sequence 0.
func setup(data string) journal.Base { return journal.Base{Data: []byte(data), Core: "core1"} }

// snapshot returns a base of a sequence.
func snapshot(sequence uint64) journal.Base {
	return journal.Base{Sequence: sequence, Snapshot: true, Data: fmt.Append(nil, "state", sequence), Core: "core2"}
}

var (
	first  = owner(1, 1)
	second = owner(2, 1)
	third  = owner(3, 7)
)

const name = "journaltest"

func unknownNames(c *client) {
	if s, err := c.load(name, first); s != nil || err != nil {
		c.t.Fatalf("Load of an unknown name: %v, %v; want nothing and no error", s, err)
	}
	c.mustNotOwn("an append to an unknown name", c.append(name, first, 0, action(1)))
	if err := c.delete(name); err != nil {
		c.problem("Delete of an unknown name: %v", err)
	}
	if s, err := c.load(name, first); s != nil || err != nil {
		c.t.Fatalf("Load of a name that is still unknown: %v, %v", s, err)
	}
	// Nobody has become the owner by loading nothing.
	m := c.create(name, second, setup("a"))
	c.expect("created by another one than loaded it", name, second, m)
}

func firstInstall(c *client) {
	full := snapshot(41)
	full.Keys, full.KeyNumber = []journal.KeyRecord{*keyRecord(3, 40), *keyRecord(5, 41)}, 6
	for k, base := range []journal.Base{setup("data"), setup(""), snapshot(0), full} {
		n := fmt.Sprint(name, k)
		m := c.create(n, first, base)
		c.mustNotOwn("an Install of a known name by another one", c.install(n, second, setup("other")))
		c.expect("a new journal", n, first, m)
		m.append(action(1))
		c.must("Append behind the first base", c.append(n, first, base.Sequence, action(1)))
		c.expect("a new journal with an entry", n, second, m)
	}
}

func names(c *client) {
	long := strings.Repeat("n", 255-len(name)) // with another byte, 256
	all := []string{"", "/", "/a", "/a/b", "/..", "A", "a", "a ", " a", "a.", "\x00", "\n",
		"é", "e\u0301", "😀", "%2f", "\\", "*", ">", "\xff", long, long + "x", long + "y"}
	models := map[string]*model{}
	for k, n := range all {
		n = name + n
		models[n] = c.create(n, owner(1, uint64(k+1)), setup(n))
	}
	for k, n := range all {
		n = name + n
		c.must("Append", c.append(n, owner(1, uint64(k+1)), 0, action(k)))
		models[n].append(action(k))
	}
	for n, m := range models {
		c.expect(fmt.Sprintf("the name %q", n), n, first, m)
	}
}

func appends(c *client) {
	m := c.create(name, first, setup("a"))
	for k, n := range []int{1, 2, 0, 70, 1, 300} {
		group := actions(1000*k, n)
		if n == 0 {
			group = []journal.Record{keyed(journal.Record{}, 1, 3)}
		}
		c.must("Append", c.append(name, first, m.newest(), group...))
		m.append(group...)
		c.expect(fmt.Sprintf("after %d groups", k+1), name, first, m)
	}
	c.expect("loaded by another one", name, second, m)
	c.expect("loaded by the one again", name, first, m)
}

func wrongSequence(c *client) {
	m := c.create(name, first, snapshot(10))
	for _, group := range [][]journal.Record{actions(1, 3), {keyed(journal.Record{}, 1, 13)}, {action(7)}} {
		for _, after := range []uint64{0, m.newest() - 1, m.newest() + 1, m.newest() + uint64(len(group)), 1 << 62} {
			what := fmt.Sprintf("an append behind %d, the newest is %d", after, m.newest())
			c.mustFail(what, c.append(name, first, after, group...))
		}
		c.expect("after appends that were refused", name, first, m)
		c.must("Append behind the newest sequence", c.append(name, first, m.newest(), group...))
		m.append(group...)
		c.expect("after an append", name, first, m)
	}
}

func notes(c *client) {
	m := c.create(name, first, setup("a"))
	note := func(number, sequence uint64) journal.Record { return keyed(journal.Record{}, number, sequence) }
	for k, group := range [][]journal.Record{
		{note(1, 0)},
		{note(2, 0), note(3, 0)},
		{action(1), note(4, 1)},
		{keyed(action(2), 5, 2), note(6, 2), action(3), keyed(action(4), 7, 4), note(8, 4)},
		{note(9, 4)},
		{action(5)},
	} {
		c.must("Append", c.append(name, first, m.newest(), group...))
		m.append(group...)
		s := c.expect(fmt.Sprintf("after group %d", k), name, first, m)
		if n := s.NewestKeyNumber(); n != m.recent[len(m.recent)-1].Number {
			c.problem("the newest key number is %d", n)
		}
	}
}

func largeValues(c *client) {
	base := setup("")
	base.Data = bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	m := c.create(name, first, base)
	a := journal.Action{Now: 1<<53 - 1}
	megabyte := bytes.Repeat([]byte{7}, 1<<20)
	large := journal.Record{
		Action:   journal.AppendAction(nil, &a, strings.Repeat("t", 300), megabyte),
		Checksum: 1<<64 - 1,
		Keyed:    &journal.KeyRecord{Key: strings.Repeat("k", 256), Result: megabyte, Sequence: 1, Number: 1},
	}
	c.must("Append of a large action", c.append(name, first, 0, large, action(1)))
	m.append(large, action(1))
	c.expect("with a large action", name, first, m)
	many := actions(0, 5000)
	c.must("Append of a large group", c.append(name, first, m.newest(), many...))
	m.append(many...)
	c.expect("with a large group", name, first, m)
}

func bases(c *client) {
	m := c.create(name, first, setup("a"))
	total := 0
	// Behind how many of the entries that are there a new base stands, and how many are appended
	// then.
	for k, step := range []struct{ behind, appended int }{
		{0, 200}, {100, 0}, {0, 1}, {101, 5}, {1, 130}, {63, 0}, {1, 0}, {70, 3}, {0, 0}, {3, 2},
	} {
		base := snapshot(m.base.Sequence + uint64(step.behind))
		base.Data = fmt.Append(nil, "state", k)
		c.must("Install", c.install(name, first, base))
		m.install(base)
		c.expect(fmt.Sprintf("base %d", k), name, first, m)
		if step.appended > 0 {
			group := actions(total, step.appended)
			total += step.appended
			c.must("Append behind a base", c.append(name, first, m.newest(), group...))
			m.append(group...)
			c.expect(fmt.Sprintf("base %d and entries", k), name, first, m)
		}
	}
}

func basesOutside(c *client) {
	m := c.create(name, first, snapshot(10))
	group := []journal.Record{action(1), keyed(action(2), 1, 12)}
	c.must("Append", c.append(name, first, 10, group...))
	m.append(group...)
	for _, sequence := range []uint64{0, 9, 13, 1 << 62} {
		what := fmt.Sprintf("a base of the sequence %d, there are 10 to 12", sequence)
		c.mustFail(what, c.install(name, first, snapshot(sequence)))
		c.expect("after a base that was refused", name, first, m)
	}
}

func keys(c *client) {
	m := c.create(name, first, setup("a"))
	note := journal.Record{}
	group := []journal.Record{
		keyed(action(1), 1, 1), keyed(note, 2, 1), keyed(note, 3, 1), keyed(action(2), 4, 2), keyed(note, 5, 2),
	}
	c.must("Append", c.append(name, first, 0, group...))
	m.append(group...)
	for _, b := range []struct {
		what      string
		sequence  uint64
		keys      []journal.KeyRecord
		keyNumber uint64
	}{
		{"a base with no key yet", 0, nil, 0},
		{"a base that remembers", 1, []journal.KeyRecord{*keyRecord(1, 1), *keyRecord(2, 1)}, 2},
		{"a base that has forgotten", 1, []journal.KeyRecord{*keyRecord(3, 1)}, 3},
		{"a base that takes no further key in", 2, []journal.KeyRecord{*keyRecord(3, 1)}, 3},
		{"a base that takes all keys in", 2, nil, 5},
	} {
		base := snapshot(b.sequence)
		base.Keys, base.KeyNumber = b.keys, b.keyNumber
		c.must(b.what, c.install(name, first, base))
		m.install(base)
		if s := c.expect(b.what, name, first, m); s.NewestKeyNumber() != 5 {
			c.problem("%s: the newest key number is %d, want 5", b.what, s.NewestKeyNumber())
		}
	}
	c.must("Append", c.append(name, first, 2, keyed(action(3), 6, 3)))
	m.append(keyed(action(3), 6, 3))
	c.expect("a key behind a base", name, first, m)
}

// list does at random what a journal allows, and compares it with a list.
func list(c *client) {
	c.random(name, first, rand.New(rand.NewPCG(1, 2)), 400)
}

// random changes a journal of its own at random, and fails the test if the journal is not what it
// has to be. It may run on any goroutine.
func (c *client) random(name string, by journal.Owner, r *rand.Rand, steps int) {
	if err := c.tryRandom(name, by, r, steps); err != nil {
		c.problem("%v", err)
	}
}

func (c *client) tryRandom(name string, by journal.Owner, r *rand.Rand, steps int) error {
	base := setup(name)
	if err := c.install(name, by, base); err != nil {
		return err
	}
	m, number := &model{base: base, owner: by}, uint64(0)
	for step := range steps {
		switch k := r.IntN(20); {
		case k < 14:
			var group []journal.Record
			sequence := m.newest()
			for range 1 + r.IntN(20) {
				a := journal.Record{}
				if r.IntN(8) > 0 {
					a = action(r.IntN(1 << 16))
					sequence++
				}
				if a.Action == nil || r.IntN(4) == 0 {
					number++
					a = keyed(a, number, sequence)
				}
				group = append(group, a)
			}
			if err := c.append(name, by, m.newest(), group...); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
			m.append(group...)
		case k < 17:
			base := snapshot(m.base.Sequence + r.Uint64N(uint64(len(m.entries))+1))
			if r.IntN(4) == 0 {
				base.Sequence = m.newest() + 1
			}
			base.IsMarker = base.Sequence > m.newest() || base.Sequence == m.base.Sequence && m.base.IsMarker
			base.KeyNumber = m.base.KeyNumber
			if n := len(m.recent); n > 0 {
				base.KeyNumber = m.recent[r.IntN(n)].Number
				base.Keys = slices.Clone(m.recent[:r.IntN(n)])
			}
			if err := c.install(name, by, base); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
			m.install(base)
		default:
			by.Number += uint64(r.IntN(2))
			s, err := c.load(name, by)
			if err != nil || s == nil {
				return fmt.Errorf("step %d: Load: %v, %w", step, s, err)
			}
			if difference := m.difference(s); difference != "" {
				return fmt.Errorf("step %d: %s", step, difference)
			}
			m.owner = by
		}
	}
	return nil
}

func fencing(c *client) {
	// The next owner is another host, or the same one that is in doubt about an append.
	for k, next := range []journal.Owner{owner(2, 1), owner(1, 2), owner(2, 9), owner(0, 1)} {
		n := fmt.Sprint(name, k)
		m := c.create(n, first, setup("a"))
		c.must("Append", c.append(n, first, 0, action(1)))
		m.append(action(1))
		c.expect("taken over", n, next, m)
		for range 2 {
			c.mustNotOwn("an append of the former owner", c.append(n, first, 1, action(2)))
			c.mustNotOwn("a note of the former owner", c.append(n, first, 1, keyed(journal.Record{}, 1, 1)))
			c.mustNotOwn("an append of the former owner behind another sequence", c.append(n, first, 5, action(2)))
			c.mustNotOwn("an install of the former owner", c.install(n, first, snapshot(1)))
			c.mustNotOwn("an append of somebody else", c.append(n, third, 1, action(2)))
		}
		c.expect("after appends that were refused", n, next, m)
		c.must("Append of the new owner", c.append(n, next, 1, action(3)))
		m.append(action(3))
		c.must("Install of the new owner", c.install(n, next, snapshot(1)))
		m.install(snapshot(1))
		c.expect("taken back", n, first, m)
		c.mustNotOwn("an append of an owner that lost the journal again", c.append(n, next, 2, action(4)))
		c.expect("after all", n, first, m)
	}
}

// rounds is how often something is tried that may turn out either way.
const rounds = 100

func lateAppend(c *client) {
	for k := range rounds {
		n := fmt.Sprint(name, k)
		m := c.create(n, first, setup("a"))
		group := []journal.Record{action(1), keyed(action(2), 1, 2), action(3)}
		next := second
		if k%2 == 0 {
			next = owner(1, 2)
		}
		started := make(chan *call, 1)
		start := func() { started <- c.startAppend(n, first, 0, group) }
		if k%4 < 2 {
			start()
		} else {
			go start()
		}
		isStored := c.takenOver(n, next, m, group)
		c.checkLate(n, next, m, isStored, (<-started).wait())
	}
}

// takenOver loads a journal that a group may have been appended to, and returns whether the load
// reports the group.
func (c *client) takenOver(n string, next journal.Owner, m *model, group []journal.Record) (isStored bool) {
	c.t.Helper()
	s, err := c.load(n, next)
	c.must("Load", err)
	if s == nil {
		c.t.Fatalf("Load(%q) has nothing", n)
	}
	if m.difference(s) == "" {
		return false
	}
	m.append(group...)
	if difference := m.difference(s); difference != "" {
		c.t.Fatalf("a group that is appended while another owner loads: %s", difference)
	}
	return true
}

// checkLate checks the end of an append that was under way when the journal was taken over.
func (c *client) checkLate(n string, next journal.Owner, m *model, isStored bool, err error) {
	c.t.Helper()
	switch {
	case errors.Is(err, errNotReported):
		c.t.Fatalf("%v", err)
	case err == nil && !isStored:
		c.t.Fatalf("an append that is reported as stored was not there when another owner loaded the journal")
	}
	m.owner = next
	c.expect("what was loaded must not change by an append of the former owner", n, next, m)
	c.must("Append of the new owner", c.append(n, next, m.newest(), action(9)))
	m.append(action(9))
	c.expect("after an append of the new owner", n, next, m)
}

func lateInstall(c *client) {
	for k := range rounds {
		n := fmt.Sprint(name, k)
		m := c.create(n, first, setup("a"))
		c.must("Append", c.append(n, first, 0, actions(1, 3)...))
		m.append(actions(1, 3)...)
		installed := *m
		installed.install(snapshot(2))
		late := c.startInstall(n, first, snapshot(2))
		s, err := c.load(n, second)
		c.must("Load", err)
		if s == nil {
			c.t.Fatalf("Load(%q) has nothing", n)
		}
		err = late.wait()
		if s.Sequence == 2 {
			m = &installed
		} else if err == nil {
			c.t.Fatalf("an install that is reported as stored was not there when another owner loaded the journal")
		}
		if difference := m.difference(s); difference != "" {
			c.t.Fatalf("a base that is installed while another owner loads: %s", difference)
		}
		m.owner = second
		c.expect("what was loaded must not change by an install of the former owner", n, second, m)
	}
}

// competition has several owners take one journal from each other. What each of them is told must
// agree with the journal.
func competition(c *client) {
	c.create(name, first, setup("a"))
	var mu sync.Mutex
	var stored []string // entries that were reported as stored
	unknown := map[string]bool{}
	var wg sync.WaitGroup
	for host := range byte(4) {
		wg.Go(func() {
			for k := range 40 {
				by := owner(host, uint64(k+1))
				s, err := c.load(name, by)
				if err != nil || s == nil {
					c.problem("Load: %v, %v", s, err)
					return
				}
				newest := s.Sequence + s.Count
				for n := range 3 {
					r := action(int(host)<<12 | k<<4 | n)
					err := c.append(name, by, newest, r)
					entry := string(journal.AppendEntry(nil, r.Action, r.Checksum))
					mu.Lock()
					if err == nil {
						stored = append(stored, entry)
					} else if !errors.Is(err, journal.ErrNotOwner) {
						unknown[entry] = true
					}
					mu.Unlock()
					if err != nil {
						break
					}
					newest++
				}
			}
		})
	}
	wg.Wait()
	s, err := c.load(name, first)
	c.must("Load", err)
	if s == nil {
		c.t.Fatalf("Load(%q) has nothing", name)
	}
	there := map[string]bool{}
	for e, err := range journal.Entries(s.Entries) {
		if err != nil {
			c.t.Fatalf("%v", err)
		}
		action := journal.AppendAction(nil, &e.Action, string(e.Type), e.Payload)
		entry := string(journal.AppendEntry(nil, action, e.Checksum))
		if there[entry] {
			c.t.Fatalf("the action of type %s is in the journal twice", e.Type)
		}
		there[entry] = true
	}
	for _, entry := range stored {
		if !there[entry] {
			c.t.Fatalf("an action that was reported as stored is not in the journal")
		}
		delete(there, entry)
	}
	for entry := range there {
		if !unknown[entry] {
			c.t.Fatalf("an action whose append failed with ErrNotOwner is in the journal")
		}
	}
}

// wholeGroups loads a journal while groups of one size are appended to it.
func wholeGroups(c *client) {
	const size, groups = 20, 50
	m := c.create(name, first, setup("a"))
	check := func(s *journal.Stored) bool {
		if s == nil || s.Count%size != 0 || uint64(len(s.Recent)) != s.Count/size {
			c.problem("groups of %d entries and one key: %+v", size, s)
			return false
		}
		return true
	}
	group := func(k int) []journal.Record {
		g := actions(k*size, size)
		g[size/2] = keyed(g[size/2], uint64(k+1), uint64(k*size+size/2+1))
		return g
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range groups {
			// The owner itself loads, as for Engine.Journal.
			if s, err := c.load(name, first); err != nil || !check(s) {
				return
			}
		}
	})
	for k := range groups {
		a := c.startAppend(name, first, m.newest(), group(k))
		if s, err := c.load(name, first); err != nil || !check(s) {
			break
		}
		if err := a.wait(); err != nil {
			c.problem("Append: %v", err)
			break
		}
		m.append(group(k)...)
	}
	wg.Wait()
	c.expect("in the end", name, first, m)
}

func deletion(c *client) {
	other := c.create(name+"2", first, setup("other"))
	c.create(name, first, setup("a"))
	c.must("Append", c.append(name, first, 0, keyed(action(1), 1, 1), action(2)))
	c.must("Delete", c.delete(name))
	if s, err := c.load(name, first); s != nil || err != nil {
		c.t.Fatalf("Load of a name that was deleted: %v, %v; want nothing and no error", s, err)
	}
	c.mustNotOwn("an append to a name that was deleted", c.append(name, first, 2, action(3)))
	c.must("Delete again", c.delete(name))
	m := c.create(name, second, setup("b"))
	c.mustNotOwn("an append of the owner of what was deleted", c.append(name, first, 0, action(3)))
	c.mustNotOwn("an install of the owner of what was deleted", c.install(name, first, snapshot(0)))
	c.expect("created again", name, second, m)
	c.must("Append", c.append(name, second, 0, action(4)))
	m.append(action(4))
	c.expect("created again, with an entry", name, second, m)
	c.expect("another name", name+"2", first, other)
	c.must("Delete by nobody's owner", c.delete(name))
	m = c.create(name, second, snapshot(5))
	c.expect("created by the same owner again", name, second, m)
}

func engines(c *client) {
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			c.random(fmt.Sprint(name, k), owner(1, uint64(1+k*1000)), rand.New(rand.NewPCG(uint64(k), 3)), 60)
		})
	}
	wg.Wait()
}
