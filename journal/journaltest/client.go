package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"hypertoken/journal"
)

// patience is how long the suite waits for the end of a call. No store should need a part of it.
const patience = 30 * time.Second

// client calls a store as a host does, and watches what every call must keep to: calls are
// reported once, memory that was handed over is neither changed nor needed afterwards, and what a
// load has reported stays as it is.
type client struct {
	t     T
	store journal.Store

	mu       sync.Mutex // guards what follows
	problems []string
	loads    []loaded
	calls    []*call
}

// loaded is what a load has reported, and a copy of what it was then.
type loaded struct {
	what      string
	now, then *journal.Stored
}

// call is a call of the store.
type call struct {
	what  string
	ended chan error // has room for one
	// reports is the number of times that its end was reported. client.mu guards it.
	reports int
}

// begin notes a call. Its report is to be called when it ends.
func (c *client) begin(format string, args ...any) *call {
	a := &call{what: fmt.Sprintf(format, args...), ended: make(chan error, 1)}
	c.mu.Lock()
	c.calls = append(c.calls, a)
	c.mu.Unlock()
	return a
}

// report takes the end of a call in. It returns false if that was reported before.
func (c *client) report(a *call, err error) bool {
	c.mu.Lock()
	a.reports++
	isFirst := a.reports == 1
	c.mu.Unlock()
	if isFirst {
		a.ended <- err
	}
	return isFirst
}

var errNotReported = fmt.Errorf("the store has not reported the end of the call within %v", patience)

// wait waits for the end of a call and returns its error.
func (a *call) wait() error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-a.ended:
		return err
	case <-timer.C:
		return errNotReported
	}
}

// problem notes what the store did wrong. Any goroutine may call it.
func (c *client) problem(format string, args ...any) {
	c.mu.Lock()
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
	c.mu.Unlock()
}

// finish fails the test for all problems, and for those that show at the end only.
func (c *client) finish() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.calls {
		if a.reports > 1 {
			c.problems = append(c.problems, fmt.Sprintf("%s was reported %d times", a.what, a.reports))
		}
	}
	for _, l := range c.loads {
		if !reflect.DeepEqual(l.now, l.then) {
			c.problems = append(c.problems, l.what+": what was reported has changed since")
		}
	}
	for _, p := range c.problems {
		c.t.Errorf("%s", p)
	}
}

// startAppend calls Append with a copy of the group. As a host does, it uses the memory for
// something else as soon as the call is reported.
func (c *client) startAppend(name string, owner journal.Owner, after uint64, group []journal.Record) *call {
	a := c.begin("Append(%q, owner %d, after %d, %d records)", name, owner.Number, after, len(group))
	mine := cloneGroup(group)
	c.store.Append(name, owner, after, mine, journal.DoneFunc(func(err error) {
		if !sameGroup(mine, group) {
			c.problem("%s: the store has changed the group", a.what)
		}
		for k := range mine {
			for n := range mine[k].Action {
				mine[k].Action[n] = 0xc1 // no MessagePack
			}
			mine[k] = journal.Record{Checksum: 0xbad}
		}
		c.report(a, err)
	}))
	return a
}

func (c *client) append(name string, owner journal.Owner, after uint64, group ...journal.Record) error {
	return c.startAppend(name, owner, after, group).wait()
}

// startInstall calls Install with a copy of the base.
func (c *client) startInstall(name string, owner journal.Owner, base journal.Base) *call {
	a := c.begin("Install(%q, owner %d, sequence %d)", name, owner.Number, base.Sequence)
	mine := cloneBase(base)
	c.store.Install(name, owner, mine, journal.DoneFunc(func(err error) {
		if !sameBase(mine, base) {
			c.problem("%s: the store has changed the base", a.what)
		}
		c.report(a, err)
	}))
	return a
}

func (c *client) install(name string, owner journal.Owner, base journal.Base) error {
	return c.startInstall(name, owner, base).wait()
}

func (c *client) delete(name string) error {
	a := c.begin("Delete(%q)", name)
	c.store.Delete(name, journal.DoneFunc(func(err error) { c.report(a, err) }))
	return a.wait()
}

// startLoad calls Load. The result is there once the call has ended.
func (c *client) startLoad(name string, owner journal.Owner) (*call, **journal.Stored) {
	a, result := c.begin("Load(%q, owner %d)", name, owner.Number), new(*journal.Stored)
	c.store.Load(name, owner, func(s *journal.Stored, err error) {
		if s != nil && err == nil {
			c.mu.Lock()
			c.loads = append(c.loads, loaded{a.what, s, cloneStored(s)})
			c.mu.Unlock()
			if err := s.CheckEntries(); err != nil {
				c.problem("%s: %v", a.what, err)
			}
		}
		c.mu.Lock()
		if a.reports == 0 {
			*result = s
		}
		c.mu.Unlock()
		c.report(a, err)
	})
	return a, result
}

func (c *client) load(name string, owner journal.Owner) (*journal.Stored, error) {
	a, result := c.startLoad(name, owner)
	if err := a.wait(); err != nil {
		return nil, err
	}
	return *result, nil
}

// must ends the test if a call has failed.
func (c *client) must(what string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

// mustNotOwn fails the test if a call was not refused because of its owner.
func (c *client) mustNotOwn(what string, err error) {
	c.t.Helper()
	if !errors.Is(err, journal.ErrNotOwner) {
		c.problem("%s: %v, want journal.ErrNotOwner", what, err)
	}
}

// mustFail fails the test if a call by the owner was not refused, or as if another one were the
// owner.
func (c *client) mustFail(what string, err error) {
	c.t.Helper()
	if err == nil || errors.Is(err, journal.ErrNotOwner) {
		c.problem("%s: %v, want an error that is not journal.ErrNotOwner", what, err)
	}
}

// create installs the first base of a name.
func (c *client) create(name string, owner journal.Owner, base journal.Base) *model {
	c.t.Helper()
	c.must("Install of a new name", c.install(name, owner, base))
	return &model{base: base, owner: owner}
}

// expect loads a journal for an owner, and fails the test if it is not that of the model.
func (c *client) expect(what string, name string, owner journal.Owner, m *model) *journal.Stored {
	c.t.Helper()
	s, err := c.load(name, owner)
	c.must(what+": Load", err)
	if s == nil {
		c.t.Fatalf("%s: Load(%q) has nothing", what, name)
	}
	if difference := m.difference(s); difference != "" {
		c.t.Fatalf("%s: %s", what, difference)
	}
	m.owner = owner
	return s
}

// model is what a journal has to be.
type model struct {
	base    journal.Base
	owner   journal.Owner
	entries [][]byte
	recent  []journal.KeyRecord
}

// newest returns the sequence of the newest entry.
func (m *model) newest() uint64 { return m.base.Sequence + uint64(len(m.entries)) }

func (m *model) append(group ...journal.Record) {
	for _, r := range group {
		if r.Keyed != nil {
			m.recent = append(m.recent, *r.Keyed)
		}
		if r.Action != nil {
			m.entries = append(m.entries, journal.AppendEntry(nil, r.Action, r.Checksum))
		}
	}
}

func (m *model) install(base journal.Base) {
	m.entries = m.entries[min(int(base.Sequence-m.base.Sequence), len(m.entries)):] // a marker is behind them
	isTakenIn := func(k journal.KeyRecord) bool { return k.Number <= base.KeyNumber }
	m.recent = slices.DeleteFunc(slices.Clone(m.recent), isTakenIn)
	m.base = base
}

// difference says in what a journal differs from the model; "" if it does not.
func (m *model) difference(s *journal.Stored) string {
	switch {
	case s.Sequence != m.base.Sequence:
		return fmt.Sprintf("the base has the sequence %d, want %d", s.Sequence, m.base.Sequence)
	case !sameBase(s.Base, m.base):
		return fmt.Sprintf("the base is not the one that was installed: %s; want %s",
			describe(&s.Base), describe(&m.base))
	case s.Count != uint64(len(m.entries)):
		return fmt.Sprintf("%d entries, want %d", s.Count, len(m.entries))
	case !bytes.Equal(s.Entries, bytes.Join(m.entries, nil)):
		return "the entries are not those that were appended"
	case !sameKeys(s.Recent, m.recent):
		return fmt.Sprintf("the recent keys are %s, want %s", keyNames(s.Recent), keyNames(m.recent))
	case s.Owner != m.owner:
		return fmt.Sprintf("the former owner is %v, want %v", s.Owner, m.owner)
	}
	return ""
}

// describe says what a base is, without its data.
func describe(b *journal.Base) string {
	return fmt.Sprintf("sequence %d, snapshot %t, marker %t, %d bytes, %d of details, core %q, key number %d, keys %s",
		b.Sequence, b.Snapshot, b.IsMarker, len(b.Data), len(b.Details), b.Core, b.KeyNumber, keyNames(b.Keys))
}

func keyNames(list []journal.KeyRecord) (names []string) {
	for _, k := range list {
		names = append(names, fmt.Sprintf("%s:%d", k.Key, k.Number))
	}
	return names
}

func sameKeys(a, b []journal.KeyRecord) bool {
	return slices.EqualFunc(a, b, func(a, b journal.KeyRecord) bool {
		return a.Key == b.Key && a.Sum == b.Sum && bytes.Equal(a.Result, b.Result) &&
			a.Sequence == b.Sequence && a.Changed == b.Changed && a.Number == b.Number
	})
}

func sameBase(a, b journal.Base) bool {
	return a.Sequence == b.Sequence && a.Snapshot == b.Snapshot && bytes.Equal(a.Data, b.Data) && a.Core == b.Core &&
		a.KeyNumber == b.KeyNumber && sameKeys(a.Keys, b.Keys) && a.IsMarker == b.IsMarker &&
		bytes.Equal(a.Details, b.Details)
}

func sameGroup(a, b []journal.Record) bool {
	return slices.EqualFunc(a, b, func(a, b journal.Record) bool {
		return bytes.Equal(a.Action, b.Action) && a.Checksum == b.Checksum && a.Batch == b.Batch &&
			(a.Keyed == nil) == (b.Keyed == nil) && (a.Keyed == nil ||
			sameKeys([]journal.KeyRecord{*a.Keyed}, []journal.KeyRecord{*b.Keyed}))
	})
}

func cloneKeys(list []journal.KeyRecord) []journal.KeyRecord {
	list = slices.Clone(list)
	for k := range list {
		list[k].Result = bytes.Clone(list[k].Result)
	}
	return list
}

func cloneBase(b journal.Base) journal.Base {
	b.Data, b.Keys, b.Details = bytes.Clone(b.Data), cloneKeys(b.Keys), bytes.Clone(b.Details)
	return b
}

func cloneGroup(group []journal.Record) []journal.Record {
	group = slices.Clone(group)
	for k := range group {
		r := &group[k]
		r.Action = bytes.Clone(r.Action)
		if r.Keyed != nil {
			r.Keyed = &cloneKeys([]journal.KeyRecord{*r.Keyed})[0]
		}
	}
	return group
}

func cloneStored(s *journal.Stored) *journal.Stored {
	clone := *s
	clone.Base, clone.Entries, clone.Recent = cloneBase(s.Base), bytes.Clone(s.Entries), cloneKeys(s.Recent)
	return &clone
}
