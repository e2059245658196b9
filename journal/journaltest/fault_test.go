package journaltest_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

// faulty is the store in memory with some of its methods replaced.
type faulty struct {
	journal.Store
	load    func(name string, owner journal.Owner, done func(*journal.Stored, error))
	append  func(name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done)
	install func(name string, owner journal.Owner, base journal.Base, done journal.Done)
	delete  func(name string, done journal.Done)
}

func (f *faulty) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	f.load(name, owner, done)
}

func (f *faulty) Append(name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done) {
	f.append(name, owner, after, group, done)
}

func (f *faulty) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	f.install(name, owner, base, done)
}

func (f *faulty) Delete(name string, done journal.Done) { f.delete(name, done) }

func newFaulty(breakIt func(f *faulty, good journal.Store)) *faulty {
	return breakStore(journal.NewMemory(), breakIt)
}

func breakStore(good journal.Store, breakIt func(f *faulty, good journal.Store)) *faulty {
	f := &faulty{good, good.Load, good.Append, good.Install, good.Delete}
	breakIt(f, good)
	return f
}

// held is a call that a faulty store carries out later.
type held struct {
	mu   sync.Mutex // guards call
	call func()
}

// hold keeps a call, and carries the one out that was kept before.
func (h *held) hold(call func()) {
	h.mu.Lock()
	before := h.call
	h.call = call
	h.mu.Unlock()
	if before != nil {
		before()
	}
}

// newest returns the sequence of a journal's newest entry.
func newest(s journal.Store, name string, owner journal.Owner) (sequence uint64) {
	s.Load(name, owner, func(j *journal.Stored, _ error) {
		if j != nil {
			sequence = j.Sequence + j.Count
		}
	})
	return sequence
}

// A store that has a fault fails the rule that the fault breaks.
func TestTheSuiteCatchesFaults(t *testing.T) {
	for _, c := range []struct {
		fault   string
		rule    string // one of those that catch it
		breakIt func(f *faulty, good journal.Store)
	}{
		{"none", "", func(*faulty, journal.Store) {}},
		{"an unknown name has an empty journal", "unknown names", func(f *faulty, good journal.Store) {
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(name, owner, func(s *journal.Stored, err error) {
					if s == nil {
						s = &journal.Stored{}
					}
					done(s, err)
				})
			}
		}},
		{"deleting what is not there is an error", "unknown names", func(f *faulty, good journal.Store) {
			f.delete = func(name string, done journal.Done) {
				good.Load(name, journal.Owner{}, func(s *journal.Stored, _ error) {
					if s == nil {
						done.Report(errors.New("no such name"))
						return
					}
					good.Delete(name, done)
				})
			}
		}},
		{"the core of a base is lost", "the first install creates", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				base.Core = ""
				good.Install(name, owner, base, done)
			}
		}},
		{"a later install by anybody is taken", "the first install creates", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				good.Load(name, owner, func(*journal.Stored, error) {})
				good.Install(name, owner, base, done)
			}
		}},
		{"names are files on a disk that ignores case", "names are told apart", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				good.Install(strings.ToLower(name), owner, base, done)
			}
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				good.Append(strings.ToLower(name), owner, after, group, done)
			}
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(strings.ToLower(name), owner, done)
			}
		}},
		{"the memory of a group is kept", "appends add entries", func(f *faulty, good journal.Store) {
			var h held
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				h.hold(func() { good.Append(name, owner, after, group, journal.Done{}) })
				done.Report(nil)
			}
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				h.hold(nil)
				good.Load(name, owner, done)
			}
		}},
		{"a group is changed", "appends add entries", func(f *faulty, good journal.Store) {
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				good.Append(name, owner, after, group, journal.DoneFunc(func(err error) {
					group[0].Checksum++
					done.Report(err)
				}))
			}
		}},
		{"an append is reported twice", "appends add entries", func(f *faulty, good journal.Store) {
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				good.Append(name, owner, after, group, done)
				done.Report(nil)
			}
		}},
		{"the last record of a group is lost", "groups are whole", func(f *faulty, good journal.Store) {
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				good.Append(name, owner, after, group[:max(1, len(group)-1)], done)
			}
		}},
		{"a group is stored in two steps", "groups are whole", func(f *faulty, good journal.Store) {
			var h held
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				n := len(group) / 2
				good.Append(name, owner, after, group[:n], journal.Done{})
				h.hold(func() { good.Append(name, owner, after+uint64(n), group[n:], done) })
			}
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(name, owner, done)
				h.hold(nil)
			}
		}},
		{"the sequence of an append is ignored",
			"an append behind another sequence fails", func(f *faulty, good journal.Store) {
				f.append = func(name string, owner journal.Owner, _ uint64, group []journal.Record,
					done journal.Done,
				) {
					good.Append(name, owner, newest(good, name, owner), group, done)
				}
			}},
		{"a wrong sequence is told as a lost journal",
			"an append behind another sequence fails", func(f *faulty, good journal.Store) {
				f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
					done journal.Done,
				) {
					good.Append(name, owner, after, group, journal.DoneFunc(func(err error) {
						if err != nil {
							err = journal.ErrNotOwner
						}
						done.Report(err)
					}))
				}
			}},
		{"a group of notes alone is not stored", "notes take no sequence", func(f *faulty, good journal.Store) {
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				if !slices.ContainsFunc(group, func(r journal.Record) bool { return r.Action != nil }) {
					done.Report(nil)
					return
				}
				good.Append(name, owner, after, group, done)
			}
		}},
		{"results of keys are lost", "notes take no sequence", func(f *faulty, good journal.Store) {
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				mine := slices.Clone(group)
				for k := range mine {
					if old := mine[k].Keyed; old != nil {
						kept := *old
						kept.Result = nil
						mine[k].Keyed = &kept
					}
				}
				good.Append(name, owner, after, mine, done)
			}
		}},
		{"large values are cut", "large values", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				base.Data = base.Data[:min(len(base.Data), 1<<20)]
				good.Install(name, owner, base, done)
			}
		}},
		{"a base drops what follows it", "bases keep what follows them", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				good.Delete(name, journal.Done{})
				good.Install(name, owner, base, done)
			}
		}},
		{"a base that is too old is taken as done",
			"bases outside the journal fail", func(f *faulty, good journal.Store) {
				f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
					good.Install(name, owner, base, journal.DoneFunc(func(err error) {
						if errors.Is(err, journal.ErrNotOwner) {
							done.Report(err)
							return
						}
						done.Report(nil)
					}))
				}
			}},
		{"a base drops newer keys", "bases keep newer keys", func(f *faulty, good journal.Store) {
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(name, owner, func(s *journal.Stored, err error) {
					if s != nil {
						isOld := func(k journal.KeyRecord) bool { return k.Sequence <= s.Sequence }
						s.Recent = slices.DeleteFunc(slices.Clone(s.Recent), isOld)
					}
					done(s, err)
				})
			}
		}},
		{"a load takes nothing over", "load fences other owners", func(f *faulty, good journal.Store) {
			nobody := journal.Owner{Number: 1}
			present := map[string]journal.Owner{}
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(name, nobody, func(s *journal.Stored, err error) {
					s.Owner, present[name] = present[name], owner
					done(s, err)
				})
			}
			f.append = func(name string, _ journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				good.Append(name, nobody, after, group, done)
			}
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				if _, isKnown := present[name]; !isKnown {
					present[name] = owner
				}
				good.Install(name, nobody, base, done)
			}
		}},
		{"tenures of one host are not told apart", "load fences other owners", func(f *faulty, good journal.Store) {
			var mu sync.Mutex
			present := map[string]journal.Owner{}
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				mu.Lock()
				present[name] = owner
				mu.Unlock()
				good.Load(name, owner, done)
			}
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				mu.Lock()
				if p, ok := present[name]; ok && p.Host == owner.Host {
					owner = p
				}
				mu.Unlock()
				good.Append(name, owner, after, group, done)
			}
		}},
		{"a lost journal is told by an error of its own",
			"load fences other owners", func(f *faulty, good journal.Store) {
				f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
					good.Install(name, owner, base, journal.DoneFunc(func(err error) {
						if err != nil {
							err = fmt.Errorf("the store: %v", err) // it does not wrap
						}
						done.Report(err)
					}))
				}
			}},
		{"an append that arrives late is stored", "an append that arrives late", func(f *faulty, good journal.Store) {
			var h held
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
				done journal.Done,
			) {
				// The owner is checked now, and the group is stored behind the next load.
				good.Append(name, owner, 1<<60, nil, journal.DoneFunc(func(err error) {
					if errors.Is(err, journal.ErrNotOwner) {
						done.Report(err)
						return
					}
					h.hold(func() {
						good.Load(name, owner, func(*journal.Stored, error) {})
						good.Append(name, owner, after, group, done)
					})
				}))
			}
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(name, owner, done)
				h.hold(nil)
				good.Load(name, owner, func(*journal.Stored, error) {})
			}
		}},
		{"an install that arrives late is taken", "an install that arrives late", func(f *faulty, good journal.Store) {
			var h held
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				if base.Sequence == 0 {
					good.Install(name, owner, base, done)
					return
				}
				h.hold(func() {
					good.Load(name, owner, func(*journal.Stored, error) {})
					good.Install(name, owner, base, done)
				})
			}
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(name, owner, done)
				h.hold(nil)
				good.Load(name, owner, func(*journal.Stored, error) {})
			}
		}},
		{"details of bases are lost", "details come back", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				base.Details = nil
				good.Install(name, owner, base, done)
			}
		}},
		{"long details are cut", "details come back", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				base.Details = base.Details[:min(len(base.Details), 32<<10)]
				good.Install(name, owner, base, done)
			}
		}},
		{"keys that were never appended are lost", "a journal begins anywhere", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				base.Keys = nil
				good.Install(name, owner, base, done)
			}
		}},
		{"a journal does not begin with a marker", "a journal begins anywhere", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				known := false
				good.Load(name, owner, func(s *journal.Stored, _ error) { known = s != nil })
				base.IsMarker = base.IsMarker && known
				good.Install(name, owner, base, done)
			}
		}},
		{"a marker takes no sequence", "a marker takes a sequence", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				if base.IsMarker && base.Sequence > newest(good, name, owner) {
					base.Sequence--
					base.IsMarker = false
				}
				good.Install(name, owner, base, done)
			}
		}},
		{"a marker forgets newer keys", "a marker takes a sequence", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				if base.IsMarker {
					base.KeyNumber += 100
				}
				good.Install(name, owner, base, done)
			}
		}},
		{"a marker is set to the next sequence", "a marker elsewhere is refused", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				if n := newest(good, name, owner); base.IsMarker && n > 0 {
					base.Sequence = n + 1
				}
				good.Install(name, owner, base, done)
			}
		}},
		{"a marker elsewhere is taken as done", "a marker elsewhere is refused", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				good.Install(name, owner, base, journal.DoneFunc(func(err error) {
					if base.IsMarker {
						err = nil
					}
					done.Report(err)
				}))
			}
		}},
		{"a base takes a marker away", "a marker elsewhere is refused", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				good.Load(name, owner, func(s *journal.Stored, _ error) {
					if s != nil && s.IsMarker && s.Sequence == base.Sequence {
						good.Delete(name, journal.Done{})
					}
				})
				good.Install(name, owner, base, done)
			}
		}},
		{"a marker can't be replaced", "a marker is replaced", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				good.Load(name, owner, func(s *journal.Stored, _ error) {
					if s != nil && s.IsMarker && s.Sequence == base.Sequence {
						done.Report(journal.Refused("there is a marker"))
						return
					}
					good.Install(name, owner, base, done)
				})
			}
		}},
		{"a replaced marker keeps its keys", "a marker is replaced", func(f *faulty, good journal.Store) {
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				good.Load(name, owner, func(s *journal.Stored, _ error) {
					if s != nil && s.IsMarker && s.Sequence == base.Sequence {
						base.Keys = s.Keys
					}
					good.Install(name, owner, base, done)
				})
			}
		}},
		{"what was loaded is overwritten", "a journal is a list", func(f *faulty, good journal.Store) {
			var mu sync.Mutex
			var buffer []byte
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(name, owner, func(s *journal.Stored, err error) {
					mu.Lock()
					defer mu.Unlock()
					if s != nil {
						buffer = append(buffer[:0], s.Entries...)
						s.Entries = buffer
					}
					done(s, err)
				})
			}
		}},
		{"entries are miscounted", "appends add entries", func(f *faulty, good journal.Store) {
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				good.Load(name, owner, func(s *journal.Stored, err error) {
					if s != nil {
						s.Count -= min(s.Count, 1)
					}
					done(s, err)
				})
			}
		}},
		{"nothing is deleted", "delete forgets", func(f *faulty, good journal.Store) {
			f.delete = func(_ string, done journal.Done) { done.Report(nil) }
		}},
		{"what was deleted comes back", "delete forgets", func(f *faulty, good journal.Store) {
			var mu sync.Mutex
			last := map[string]uint64{}
			f.delete = func(name string, done journal.Done) {
				good.Load(name, journal.Owner{}, func(s *journal.Stored, _ error) {
					if s != nil {
						mu.Lock()
						last[name] = s.NewestKeyNumber()
						mu.Unlock()
					}
				})
				good.Delete(name, done)
			}
			f.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
				mu.Lock()
				base.KeyNumber = max(base.KeyNumber, last[name])
				mu.Unlock()
				good.Install(name, owner, base, done)
			}
		}},
		{"a delete takes names that begin alike along", "delete forgets", func(f *faulty, good journal.Store) {
			f.delete = func(name string, done journal.Done) {
				good.Delete(name+"2", journal.Done{})
				good.Delete(name, done)
			}
		}},
	} {
		t.Run(c.fault, func(t *testing.T) {
			caught := map[string]string{}
			for _, r := range journaltest.Rules() {
				// A faulty store may confuse the check of another rule; that one's own has to
				// notice.
				if c.rule != "" && r.Name != c.rule {
					continue
				}
				if failures := check(r, newFaulty(c.breakIt)); len(failures) > 0 {
					caught[r.Name] = failures[0]
				}
			}
			if _, isCaught := caught[c.rule]; c.rule == "" && len(caught) > 0 || c.rule != "" && !isCaught {
				t.Errorf("caught %v, want %q", caught, c.rule)
			}
			for rule, failure := range caught {
				t.Logf("%s: %s", rule, failure)
			}
		})
	}
}

// recorder is a journaltest.T that notes failures.
type recorder struct {
	mu       sync.Mutex // guards failures
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
	r.mu.Unlock()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// check returns how a store fails a rule.
func check(rule journaltest.Rule, s journal.Store) []string {
	r := &recorder{}
	var wg sync.WaitGroup
	wg.Go(func() { rule.Check(r, s) })
	wg.Wait()
	return r.failures
}
