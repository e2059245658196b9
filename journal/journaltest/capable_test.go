package journaltest_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

// capable is the store in memory with all that a store may do, some of it replaced. Once it is
// closed, every call is refused.
type capable struct {
	*faulty
	list   func(prefix, after string, limit int, done func([]journal.Info, error))
	loadAt func(name string, at uint64, done func(*journal.Stored, error))
	part   func(name string, from uint64, limit int, done func(journal.Part, error))
	rename func(from, to string, owner journal.Owner, done journal.Done)
	// together is what KeepsTogether returns; nil is true.
	together func(a, b string) bool
	release  func(name string, owner journal.Owner, done journal.Done)
	barrier  func(name string, owner journal.Owner, done journal.Done)
	close    func() error
	// keep changes the code of a core before it is kept.
	keep func(code []byte) []byte

	mu       sync.Mutex // guards what follows
	isClosed bool
	cores    map[string][]byte
}

func (f *capable) List(prefix, after string, limit int, done func([]journal.Info, error)) {
	f.list(prefix, after, limit, done)
}

func (f *capable) LoadAt(name string, at uint64, done func(*journal.Stored, error)) {
	f.loadAt(name, at, done)
}

func (f *capable) Range(name string, from uint64, limit int, done func(journal.Part, error)) {
	f.part(name, from, limit, done)
}

func (f *capable) Rename(from, to string, owner journal.Owner, done journal.Done) {
	f.rename(from, to, owner, done)
}

func (f *capable) KeepsTogether(a, b string) bool { return f.together == nil || f.together(a, b) }

func (f *capable) Release(name string, owner journal.Owner, done journal.Done) {
	f.release(name, owner, done)
}

func (f *capable) Barrier(name string, owner journal.Owner, done journal.Done) {
	f.barrier(name, owner, done)
}

func (f *capable) KeepCore(hash string, code []byte, done journal.Done) {
	f.mu.Lock()
	f.cores[hash] = f.keep(code)
	f.mu.Unlock()
	done.Report(nil)
}

func (f *capable) Core(hash string, done func([]byte, error)) {
	f.mu.Lock()
	code := f.cores[hash]
	f.mu.Unlock()
	done(code, nil)
}

func (f *capable) Close() error { return f.close() }

var errIsClosed = journal.Refused("the store is closed")

func (f *capable) closedErr() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isClosed {
		return errIsClosed
	}
	return nil
}

func newCapable(breakIt func(f *capable, good journal.Store)) *capable {
	var good journal.Store
	f := &capable{cores: map[string][]byte{}, keep: bytes.Clone}
	all := journal.NewMemoryWith(journal.MemoryOptions{})
	f.faulty = breakStore(all, func(faulty *faulty, memory journal.Store) {
		good = memory
		faulty.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
			if err := f.closedErr(); err != nil {
				done(nil, err)
				return
			}
			good.Load(name, owner, done)
		}
		faulty.append = func(name string, owner journal.Owner, after uint64, group []journal.Record,
			done journal.Done,
		) {
			if err := f.closedErr(); err != nil {
				done.Report(err)
				return
			}
			good.Append(name, owner, after, group, done)
		}
		faulty.install = func(name string, owner journal.Owner, base journal.Base, done journal.Done) {
			if err := f.closedErr(); err != nil {
				done.Report(err)
				return
			}
			good.Install(name, owner, base, done)
		}
		faulty.delete = func(name string, done journal.Done) {
			if err := f.closedErr(); err != nil {
				done.Report(err)
				return
			}
			good.Delete(name, done)
		}
	})
	f.list, f.release = good.(journal.Lister).List, good.(journal.Releaser).Release
	f.rename = good.(journal.Renamer).Rename
	f.loadAt, f.part = good.(journal.Historian).LoadAt, good.(journal.Historian).Range
	f.barrier = func(name string, owner journal.Owner, done journal.Done) {
		// The store in memory refuses an owner's append for its sequence.
		good.Append(name, owner, math.MaxUint64, nil, journal.DoneFunc(func(err error) {
			if !errors.Is(err, journal.ErrNotOwner) {
				err = nil
			}
			done.Report(err)
		}))
	}
	f.close = func() error {
		f.mu.Lock()
		f.isClosed = true
		f.mu.Unlock()
		return nil
	}
	breakIt(f, good)
	return f
}

// changedParts returns the good store's Range with its parts changed.
func changedParts(good journal.Store, change func(*journal.Part)) func(string, uint64, int, func(journal.Part, error)) {
	return func(name string, from uint64, limit int, done func(journal.Part, error)) {
		good.(journal.Historian).Range(name, from, limit, func(p journal.Part, err error) {
			change(&p)
			done(p, err)
		})
	}
}

// A store that has a fault in what it can do beyond journal.Store fails the rule that the fault
// breaks.
func TestTheSuiteCatchesFaultsOfCapabilities(t *testing.T) {
	for _, c := range []struct {
		fault, rule string
		breakIt     func(f *capable, good journal.Store)
	}{
		{"none", "", func(*capable, journal.Store) {}},
		{"a refusal is told as an unknown outcome", "errors say what became of the call", func(f *capable, good journal.Store) {
			f.append = func(name string, owner journal.Owner, after uint64, group []journal.Record, done journal.Done) {
				good.Append(name, owner, after, group, journal.DoneFunc(func(err error) {
					if err != nil && !errors.Is(err, journal.ErrNotOwner) {
						err = fmt.Errorf("the store: %v", err) // it does not wrap
					}
					done.Report(err)
				}))
			}
		}},
		{"the last name of a page is left out", "names are listed", func(f *capable, good journal.Store) {
			f.list = func(prefix, after string, limit int, done func([]journal.Info, error)) {
				good.(journal.Lister).List(prefix, after, limit, func(page []journal.Info, err error) {
					done(page[:max(0, len(page)-1)], err)
				})
			}
		}},
		{"a list begins with the name that it is to begin behind", "names are listed", func(f *capable, good journal.Store) {
			f.list = func(prefix, after string, limit int, done func([]journal.Info, error)) {
				if after != "" {
					after = after[:len(after)-1] + string(after[len(after)-1]-1) + "\xff"
				}
				good.(journal.Lister).List(prefix, after, limit, done)
			}
		}},
		{"a list tells the sequence of the base", "names are listed", func(f *capable, good journal.Store) {
			f.list = func(prefix, after string, limit int, done func([]journal.Info, error)) {
				good.(journal.Lister).List(prefix, after, limit, func(page []journal.Info, err error) {
					for k := range page {
						page[k].Sequence--
					}
					done(page, err)
				})
			}
		}},
		{"a list takes journals over", "names are listed", func(f *capable, good journal.Store) {
			f.list = func(prefix, after string, limit int, done func([]journal.Info, error)) {
				good.(journal.Lister).List(prefix, after, limit, func(page []journal.Info, err error) {
					for _, info := range page {
						good.Load(info.Name, journal.Owner{Number: 99}, func(*journal.Stored, error) {})
					}
					done(page, err)
				})
			}
		}},
		{"a state of the past is the present one", "the past can be read", func(f *capable, good journal.Store) {
			f.loadAt = func(name string, at uint64, done func(*journal.Stored, error)) {
				good.(journal.Historian).LoadAt(name, at, func(s *journal.Stored, err error) {
					if s != nil {
						good.(journal.Historian).LoadAt(name, at+1, func(later *journal.Stored, _ error) {
							if later != nil {
								s = later
							}
						})
					}
					done(s, err)
				})
			}
		}},
		{"a state of the past has later keys", "the past can be read", func(f *capable, good journal.Store) {
			f.loadAt = func(name string, at uint64, done func(*journal.Stored, error)) {
				good.(journal.Historian).LoadAt(name, at, func(s *journal.Stored, err error) {
					if s != nil {
						good.(journal.Historian).LoadAt(name, at+1, func(later *journal.Stored, _ error) {
							if later != nil {
								s.Recent = later.Recent
							}
						})
					}
					done(s, err)
				})
			}
		}},
		{"what is kept is told as trimmed", "the past can be read", func(f *capable, good journal.Store) {
			f.loadAt = func(name string, at uint64, done func(*journal.Stored, error)) { done(nil, journal.ErrTrimmed) }
		}},
		{"a part lacks its last entry", "the past can be read", func(f *capable, good journal.Store) {
			f.part = func(name string, from uint64, limit int, done func(journal.Part, error)) {
				good.(journal.Historian).Range(name, from, limit, func(p journal.Part, err error) {
					if p.Count > 1 {
						p.Count--
					}
					done(p, err)
				})
			}
		}},
		{"a part lacks its keys", "the past can be read", func(f *capable, good journal.Store) {
			f.part = func(name string, from uint64, limit int, done func(journal.Part, error)) {
				good.(journal.Historian).Range(name, from, limit, func(p journal.Part, err error) {
					p.Keyed = nil
					done(p, err)
				})
			}
		}},
		{"the end of a journal is an error", "the past can be read", func(f *capable, good journal.Store) {
			f.part = func(name string, from uint64, limit int, done func(journal.Part, error)) {
				good.(journal.Historian).Range(name, from, limit, func(p journal.Part, err error) {
					if p.Count == 0 && err == nil {
						err = journal.Refused("there is nothing")
					}
					done(p, err)
				})
			}
		}},
		{"reading the past takes a journal over", "the past can be read", func(f *capable, good journal.Store) {
			f.loadAt = func(name string, at uint64, done func(*journal.Stored, error)) {
				good.Load(name, journal.Owner{Number: 99}, func(*journal.Stored, error) {})
				good.(journal.Historian).LoadAt(name, at, done)
			}
		}},
		{"batches are lost", "markers and batches are in the past", func(f *capable, good journal.Store) {
			f.part = changedParts(good, func(p *journal.Part) { p.Batches = nil })
		}},
		{"batches end with the part", "markers and batches are in the past", func(f *capable, good journal.Store) {
			f.part = changedParts(good, func(p *journal.Part) {
				for k := range p.Batches {
					p.Batches[k].Last = min(p.Batches[k].Last, p.First+p.Count-1)
				}
			})
		}},
		{"markers are lost in the past", "markers and batches are in the past", func(f *capable, good journal.Store) {
			f.part = changedParts(good, func(p *journal.Part) { p.Marker = nil })
		}},
		{"notes behind a marker are lost", "markers and batches are in the past", func(f *capable, good journal.Store) {
			f.part = changedParts(good, func(p *journal.Part) {
				if p.Marker != nil {
					p.Keyed = nil
				}
			})
		}},
		{"a state at a marker is the one before it", "markers and batches are in the past",
			func(f *capable, good journal.Store) {
				history := good.(journal.Historian)
				f.loadAt = func(name string, at uint64, done func(*journal.Stored, error)) {
					history.LoadAt(name, at, func(s *journal.Stored, err error) {
						if s != nil && s.IsMarker && s.Count == 0 && at > 0 {
							history.LoadAt(name, at-1, func(before *journal.Stored, err error) {
								if err == nil {
									s = before
								}
							})
						}
						done(s, err)
					})
				}
			}},
		{"the sequence 0 is refused", "markers and batches are in the past", func(f *capable, good journal.Store) {
			f.part = func(name string, from uint64, limit int, done func(journal.Part, error)) {
				if from == 0 {
					done(journal.Part{}, journal.Refused("the sequence 0"))
					return
				}
				good.(journal.Historian).Range(name, from, limit, done)
			}
		}},
		{"hidden names are listed", "hidden names are not listed", func(f *capable, good journal.Store) {
			f.list = func(prefix, after string, limit int, done func([]journal.Info, error)) {
				good.(journal.Lister).List("\x00"+prefix, after, limit, func(hidden []journal.Info, _ error) {
					good.(journal.Lister).List(prefix, after, limit, func(page []journal.Info, err error) {
						if prefix == "" {
							page = append(hidden, page...)
						}
						done(page[:min(limit, len(page))], err)
					})
				})
			}
		}},
		{"hidden names can't be listed", "hidden names are not listed", func(f *capable, good journal.Store) {
			f.list = func(prefix, after string, limit int, done func([]journal.Info, error)) {
				good.(journal.Lister).List(prefix, after, limit, func(page []journal.Info, err error) {
					done(slices.DeleteFunc(page, func(i journal.Info) bool { return i.Name[0] == 0 }), err)
				})
			}
		}},
		{"anybody renames a journal", "a journal is renamed", func(f *capable, good journal.Store) {
			f.rename = func(from, to string, owner journal.Owner, done journal.Done) {
				good.Load(from, owner, func(*journal.Stored, error) {})
				good.(journal.Renamer).Rename(from, to, owner, done)
			}
		}},
		{"a rename takes a name away", "a journal is renamed", func(f *capable, good journal.Store) {
			f.rename = func(from, to string, owner journal.Owner, done journal.Done) {
				if from != to {
					good.Delete(to, journal.Done{})
				}
				good.(journal.Renamer).Rename(from, to, owner, done)
			}
		}},
		{"a name that is known reads as a lost journal", "a journal is renamed", func(f *capable, good journal.Store) {
			f.rename = func(from, to string, owner journal.Owner, done journal.Done) {
				good.(journal.Renamer).Rename(from, to, owner, journal.DoneFunc(func(err error) {
					if err != nil {
						err = journal.ErrNotOwner
					}
					done.Report(err)
				}))
			}
		}},
		{"a journal goes where it is not kept", "a journal is renamed", func(f *capable, _ journal.Store) {
			f.together = func(a, b string) bool { return len(a)%2 == len(b)%2 }
		}},
		{"no names are kept together", "a journal is renamed", func(f *capable, _ journal.Store) {
			f.together = func(string, string) bool { return false }
		}},
		{"a renamed journal has no owner", "a journal is renamed", func(f *capable, good journal.Store) {
			f.rename = func(from, to string, owner journal.Owner, done journal.Done) {
				good.(journal.Renamer).Rename(from, to, owner, journal.DoneFunc(func(err error) {
					if err == nil {
						good.(journal.Releaser).Release(to, owner, journal.Done{})
					}
					done.Report(err)
				}))
			}
		}},
		{"a renamed journal has lost its past", "a journal is renamed", func(f *capable, good journal.Store) {
			f.rename = func(from, to string, owner journal.Owner, done journal.Done) {
				good.(journal.Renamer).Rename(from, to, owner, journal.DoneFunc(func(err error) {
					if err == nil {
						good.Load(to, owner, func(s *journal.Stored, _ error) {
							good.Delete(to, journal.Done{})
							good.Install(to, owner, s.Base, journal.Done{})
						})
					}
					done.Report(err)
				}))
			}
		}},
		{"the former name is still known", "a journal is renamed", func(f *capable, good journal.Store) {
			f.rename = func(from, to string, owner journal.Owner, done journal.Done) {
				good.(journal.Renamer).Rename(from, to, owner, journal.DoneFunc(func(err error) {
					if err == nil {
						good.Load(to, owner, func(s *journal.Stored, _ error) {
							good.Install(from, owner, s.Base, journal.Done{})
						})
					}
					done.Report(err)
				}))
			}
		}},
		{"a journal that is given up keeps its owner", "a journal is given up", func(f *capable, good journal.Store) {
			f.release = func(name string, owner journal.Owner, done journal.Done) { done.Report(nil) }
		}},
		{"anybody gives a journal up", "a journal is given up", func(f *capable, good journal.Store) {
			f.release = func(name string, _ journal.Owner, done journal.Done) {
				by := journal.Owner{Number: 99}
				good.Load(name, by, func(*journal.Stored, error) {})
				good.(journal.Releaser).Release(name, by, done)
			}
		}},
		{"a barrier never says no", "a barrier says who owns a journal", func(f *capable, _ journal.Store) {
			f.barrier = func(_ string, _ journal.Owner, done journal.Done) { done.Report(nil) }
		}},
		{"a barrier makes an owner", "a barrier says who owns a journal", func(f *capable, good journal.Store) {
			barrier := f.barrier
			f.barrier = func(name string, owner journal.Owner, done journal.Done) {
				good.Load(name, owner, func(*journal.Stored, error) {})
				barrier(name, owner, done)
			}
		}},
		{"large cores are cut", "cores are kept", func(f *capable, good journal.Store) {
			f.keep = func(code []byte) []byte { return bytes.Clone(code[:min(len(code), 64<<10)]) }
		}},
		{"a store that is closed takes appends", "the store is closed under load", func(f *capable, good journal.Store) {
			f.append = good.Append
		}},
		{"a store that is closed says that it does not know", "the store is closed under load", func(f *capable, good journal.Store) {
			load := f.load
			f.load = func(name string, owner journal.Owner, done func(*journal.Stored, error)) {
				load(name, owner, func(s *journal.Stored, err error) {
					if err != nil {
						err = errors.New("closed")
					}
					done(s, err)
				})
			}
		}},
	} {
		t.Run(c.fault, func(t *testing.T) {
			caught := map[string]string{}
			for _, r := range journaltest.Rules() {
				if c.rule != "" && r.Name != c.rule {
					continue
				}
				if failures := check(r, newCapable(c.breakIt)); len(failures) > 0 {
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
