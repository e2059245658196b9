package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"hypertoken/journal"
)

// caller calls a store and waits for each call.
type caller struct{ *Store }

func (c caller) append(name string, owner journal.Owner, newest uint64, group ...journal.Record) error {
	return c.wait(func(done journal.Done) { c.Append(name, owner, newest, group, done) })
}

func (c caller) install(name string, owner journal.Owner, base journal.Base) error {
	return c.wait(func(done journal.Done) { c.Install(name, owner, base, done) })
}

func (c caller) delete(name string) error {
	return c.wait(func(done journal.Done) { c.Delete(name, done) })
}

func (c caller) release(name string, owner journal.Owner) error {
	return c.wait(func(done journal.Done) { c.Release(name, owner, done) })
}

func (c caller) keepCore(hash string, code []byte) error {
	return c.wait(func(done journal.Done) { c.KeepCore(hash, code, done) })
}

func (c caller) core(hash string) (code []byte, err error) {
	ended := make(chan struct{})
	c.Core(hash, func(b []byte, e error) { code, err = b, e; close(ended) })
	<-ended
	return code, err
}

func (c caller) load(name string, owner journal.Owner) (stored *journal.Stored, err error) {
	ended := make(chan struct{})
	c.Load(name, owner, func(s *journal.Stored, e error) { stored, err = s, e; close(ended) })
	<-ended
	return stored, err
}

func (c caller) loadAt(name string, at uint64) (stored *journal.Stored, err error) {
	ended := make(chan struct{})
	c.LoadAt(name, at, func(s *journal.Stored, e error) { stored, err = s, e; close(ended) })
	<-ended
	return stored, err
}

func (c caller) part(name string, from uint64, limit int) (part journal.Part, err error) {
	ended := make(chan struct{})
	c.Range(name, from, limit, func(p journal.Part, e error) { part, err = p, e; close(ended) })
	<-ended
	return part, err
}

func (c caller) list(prefix, after string, limit int) (list []journal.Info, err error) {
	ended := make(chan struct{})
	c.List(prefix, after, limit, func(l []journal.Info, e error) { list, err = l, e; close(ended) })
	<-ended
	return list, err
}

// actionRecord returns the record of the action with a sequence. All that is in it follows from
// the sequence.
func actionRecord(sequence uint64) journal.Record {
	a := journal.Action{Now: int64(sequence), Entropy: [journal.EntropySize]byte{byte(sequence)}}
	payload := bytes.Repeat([]byte{byte(sequence)}, int(sequence%50))
	action := journal.AppendAction(nil, &a, "play", payload)
	return journal.Record{Action: action, Checksum: sequence * 0x9e3779b97f4a7c15}
}

// keyRecord returns the key record with a number.
func keyRecord(number, sequence uint64) *journal.KeyRecord {
	return &journal.KeyRecord{Key: fmt.Sprint("key", number), Sum: [32]byte{byte(number)},
		Result: bytes.Repeat([]byte{byte(number)}, int(number%40)), Sequence: sequence, Number: number}
}

// data returns the data of a base.
func data(sequence uint64, size int) []byte {
	b := make([]byte, size)
	for k := range b {
		b[k] = byte(uint64(k)*7 + sequence + uint64(k>>8))
	}
	return b
}

// details returns the details of a marker.
func details(sequence uint64) []byte { return data(sequence, 1+int(sequence%100)) }

// progress is how far a journal is.
type progress struct{ newest, keys, base uint64 }

// player plays one engine: it appends, installs and loads at random, and knows what it was told.
type player struct {
	name  string
	owner journal.Owner
	r     *rand.Rand

	mu sync.Mutex // guards what follows
	// acknowledged is what the store has reported as stored, tried what it was asked to store.
	acknowledged, tried progress
	isCreated           bool // said of an acknowledged install
	recent              []journal.KeyRecord
	// history is what was acknowledged of the past; the player's own goroutine uses it.
	history struct {
		markers map[uint64]bool // by their sequences
		keyed   []uint64        // the numbers of key records that were appended
		batches []journal.Batch
	}
	ends    map[uint64]bool // the sequences that groups end with; nil if another process plays
	largest int             // the size of the largest base; 0 for bases of one row
	onTry   func(progress)
}

func newPlayer(k int, seed uint64) *player {
	r := rand.New(rand.NewPCG(seed, uint64(k)))
	return &player{name: fmt.Sprint("engine", k), owner: journal.Owner{Number: 1}, r: r}
}

// create installs the first base.
func (p *player) create(s caller) error {
	err := s.install(p.name, p.owner, journal.Base{Data: data(0, 100), Core: "core"})
	p.mu.Lock()
	p.isCreated = err == nil
	p.mu.Unlock()
	return err
}

// step makes one call. It returns the call's error.
func (p *player) step(s caller) error {
	switch k := p.r.IntN(20); {
	case k < 15:
		return p.append(s)
	case k < 18:
		return p.install(s)
	default:
		p.owner.Number++
		stored, err := s.load(p.name, p.owner)
		if err != nil {
			return err
		}
		return p.check(stored, p.acknowledged, p.tried)
	}
}

func (p *player) append(s caller) error {
	at := p.acknowledged
	var group []journal.Record
	var batch journal.Batch // of all actions of the group
	if p.r.IntN(4) == 0 {
		batch.First = at.newest + 1
	}
	for range 1 + p.r.IntN(8) {
		r := journal.Record{}
		if p.r.IntN(8) > 0 {
			at.newest++
			r = actionRecord(at.newest)
			r.Batch, batch.Last = batch.First, at.newest
		}
		if r.Action == nil || p.r.IntN(5) == 0 {
			at.keys++
			r.Keyed = keyRecord(at.keys, at.newest)
		}
		group = append(group, r)
	}
	p.try(at)
	err := s.append(p.name, p.owner, p.acknowledged.newest, group...)
	if err == nil {
		p.mu.Lock()
		p.acknowledged = at
		for _, r := range group {
			if r.Keyed != nil {
				p.recent = append(p.recent, *r.Keyed)
				p.history.keyed = append(p.history.keyed, r.Keyed.Number)
			}
		}
		p.mu.Unlock()
		if batch.First > 0 && batch.Last > 0 {
			p.history.batches = append(p.history.batches, batch)
		}
	}
	return err
}

func (p *player) install(s caller) error {
	at := p.acknowledged
	at.base += p.r.Uint64N(at.newest - at.base + 1)
	isMarker, recent := p.history.markers[at.base], p.recent
	if p.r.IntN(3) == 0 {
		isMarker = true
		at.newest++
		at.base = at.newest
		if p.r.IntN(2) == 0 { // it had a key
			at.keys++
			recent = append(recent[:len(recent):len(recent)], *keyRecord(at.keys, at.newest))
		}
	}
	size := p.r.IntN(3000)
	if p.largest > 0 && p.r.IntN(4) == 0 {
		size = p.r.IntN(p.largest)
	}
	base := journal.Base{Sequence: at.base, Snapshot: true, Data: data(at.base, size), Core: "core", KeyNumber: at.keys,
		IsMarker: isMarker}
	if isMarker {
		base.Details = details(at.base)
	}
	base.Keys = recent[max(0, len(recent)-p.r.IntN(6)):]
	p.try(at)
	err := s.install(p.name, p.owner, base)
	if err == nil {
		p.mu.Lock()
		p.acknowledged, p.recent = at, base.Keys // what is forgotten does not come back
		p.mu.Unlock()
		if isMarker {
			if p.history.markers == nil {
				p.history.markers = map[uint64]bool{}
			}
			p.history.markers[at.base] = true
		}
	}
	return err
}

func (p *player) try(at progress) {
	p.mu.Lock()
	p.tried = at
	if p.ends == nil {
		p.ends = map[uint64]bool{}
	}
	p.ends[at.newest] = true
	p.mu.Unlock()
	if p.onTry != nil {
		p.onTry(at)
	}
}

// told returns what the player knows at this moment.
func (p *player) told() (acknowledged, tried progress, isCreated bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acknowledged, p.tried, p.isCreated
}

// check returns an error if a journal lacks what was acknowledged, has what was never tried, or is
// not what it was.
func (p *player) check(s *journal.Stored, acknowledged, tried progress) error {
	if s == nil {
		return errors.New("the engine is not there")
	}
	newest := s.Sequence + s.Count
	if newest < acknowledged.newest || newest > max(acknowledged.newest, tried.newest) {
		return fmt.Errorf("the newest action is %d, acknowledged %d, tried %d", newest, acknowledged.newest,
			tried.newest)
	}
	p.mu.Lock()
	isEnd := p.ends == nil || p.ends[newest] || newest == acknowledged.newest
	p.mu.Unlock()
	if !isEnd {
		return fmt.Errorf("the newest action is %d, in the middle of a group", newest)
	}
	if s.Sequence < acknowledged.base || s.Sequence > max(acknowledged.base, tried.base) {
		return fmt.Errorf("the base is %d, acknowledged %d, tried %d", s.Sequence, acknowledged.base, tried.base)
	}
	if n := s.NewestKeyNumber(); n < acknowledged.keys || n > max(acknowledged.keys, tried.keys) {
		return fmt.Errorf("the newest key is %d, acknowledged %d, tried %d", n, acknowledged.keys, tried.keys)
	}
	return checkStored(s)
}

// checkStored returns an error if a journal is not what players store.
func checkStored(s *journal.Stored) error {
	if !bytes.Equal(s.Data, data(s.Sequence, len(s.Data))) {
		return fmt.Errorf("the base of the sequence %d has other data", s.Sequence)
	}
	if s.IsMarker != (len(s.Details) > 0) || s.IsMarker && !bytes.Equal(s.Details, details(s.Sequence)) {
		return fmt.Errorf("the base of the sequence %d has other details", s.Sequence)
	}
	sequence := s.Sequence
	for e, err := range journal.Entries(s.Entries) {
		if err != nil {
			return err
		}
		sequence++
		if want := actionRecord(sequence); e.Now != int64(sequence) || e.Checksum != want.Checksum {
			return fmt.Errorf("the entry %d is that of %d", sequence, e.Now)
		}
	}
	if sequence != s.Sequence+s.Count {
		return fmt.Errorf("%d entries, want %d", sequence-s.Sequence, s.Count)
	}
	number := s.KeyNumber
	for _, k := range append(s.Keys[:len(s.Keys):len(s.Keys)], s.Recent...) {
		want := keyRecord(k.Number, k.Sequence)
		if k.Key != want.Key || k.Sum != want.Sum || !bytes.Equal(k.Result, want.Result) {
			return fmt.Errorf("the key %d is another one: %+v", k.Number, k)
		}
	}
	for _, k := range s.Recent {
		if number++; k.Number != number {
			return fmt.Errorf("the key %d is missing", number)
		}
	}
	return nil
}

// verify loads the players' engines and fails the test if one of them is not what it has to be.
func verify(t testing.TB, s *Store, players []*player) {
	t.Helper()
	for _, p := range players {
		acknowledged, tried, isCreated := p.told()
		p.verify(t, s, acknowledged, tried, isCreated)
	}
}

func (p *player) verify(t testing.TB, s *Store, acknowledged, tried progress, isCreated bool) {
	t.Helper()
	stored, err := caller{s}.load(p.name, journal.Owner{Host: [16]byte{9}, Number: 1})
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	if stored == nil && !isCreated {
		return
	}
	if err := p.check(stored, acknowledged, tried); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}
