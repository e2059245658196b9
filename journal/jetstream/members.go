package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"hypertoken/internal/cluster"
	"hypertoken/journal"
)

// MemberOptions say what a node of a cluster is.
type MemberOptions struct {
	// Address is where other nodes reach this one.
	Address string
	// Cores are the hashes of the cores that the node has, first the one that it runs. Format is the
	// newest format of journals that it reads, and ABI the newest one of cores that it runs.
	Cores  []string
	Format int
	ABI    int
	// Version is that of the node's program, for people.
	Version string
	// Client is the URL at which clients reach this node; "" if it has none of its own.
	Client string
	// Changed is called after a member has come, changed or died, unless it is nil. It must not wait
	// for anything.
	Changed func()
}

// Member is a node of a cluster that lives.
type Member struct {
	// Node is its ID, which is new for each life.
	Node    string
	Address string
	// Draining says that it gives its slots away and takes none.
	Draining bool
	// Cores are those that it has, first the one that it runs.
	Cores  []string
	Format int
	ABI    int
	// Version is that of its program; "" if it does not say so.
	Version string
	// Client is the URL at which clients reach it; "" if it does not say so.
	Client string
}

// Members keeps a node alive as a member of a cluster, and watches the others. It decides which slots
// its node may have: it is the [Claims] of the node's store. A slot may be claimed by the member that
// the owner record names. From an owner that is dead, only the member that should have it may claim it.
//
// The node is a member as long as it renews its record, by compare-and-set, on a connection of its
// own. Its lease ends 1 s after the last renewal that went through was sent. A member whose record
// stands still for 1.1 s is declared dead by another one, and is never alive again: then [Members.Ended]
// is closed, and the node goes on with another Members and another store.
type Members struct {
	o     MemberOptions
	store *Store
	conn  atomic.Pointer[conn]
	clock func() time.Duration

	mu      sync.Mutex // guards what follows
	config  cluster.Config
	machine *cluster.Member
	id      cluster.NodeID
	living  []cluster.MemberRecord
	dead    map[cluster.NodeID]bool
	desired []cluster.NodeID
	target  Target
	// changedAt is when a member has come, changed or died last.
	changedAt time.Duration
	owned     map[int]bool // the slots that the store has acquired
	isClosed  bool

	leaseEnds atomic.Int64
	isReading atomic.Bool // the records of all members are being read
	deaths    atomic.Uint64
	ended     chan struct{}
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// NewMembers returns a member that is none yet: Join makes it one.
func NewMembers(o MemberOptions) *Members {
	return &Members{o: o, clock: suspendedClock(), config: cluster.DefaultConfig(), ended: make(chan struct{}),
		desired: make([]cluster.NodeID, Slots), owned: map[int]bool{}}
}

func nodeToken(node cluster.NodeID) string { return fmt.Sprintf("%016x", uint64(node)) }

// SetLease has leases last for another time than 1 s. It is called before Join, and with the same time at
// all members: for tests on machines that are so busy that a node stands still for a second.
func (m *Members) SetLease(lease time.Duration) {
	m.config.StandStill += lease - m.config.Lease
	m.config.Lease = lease
}

// idOf returns the ID of a node with a name.
func idOf(node string) cluster.NodeID { return cluster.NodeID(xxhash.Sum64String(node)) }

// memberText is a member record as it is stored.
type memberText struct {
	// Node is what owner records call it. Programs of before did not write it.
	Node     string `json:"node,omitempty"`
	Address  string `json:"address"`
	Renewal  uint64 `json:"renewal"`
	Dead     bool   `json:"dead,omitempty"`
	Draining bool   `json:"draining,omitempty"`
	// Confirmed says that the node knew of an earlier record of its own.
	Confirmed bool     `json:"confirmed,omitempty"`
	Cores     []string `json:"cores,omitempty"`
	Format    int      `json:"format"`
	ABI       int      `json:"abi,omitempty"`
	Version   string   `json:"version,omitempty"`
	Client    string   `json:"client,omitempty"`
}

// textOf returns a record as it is stored.
func textOf(r *cluster.MemberRecord) memberText {
	return memberText{Node: r.Name, Address: r.Address, Renewal: r.Renewal, Dead: r.IsDead, Draining: r.IsDraining,
		Confirmed: r.IsConfirmed, Cores: r.Cores, Format: r.Format, ABI: r.ABI, Version: r.Version,
		Client: r.Client}
}

// Join makes the store's node a member, and waits until its record is stored or ctx ends. The servers
// and the name of the cluster are those of the store.
func (m *Members) Join(ctx context.Context, s *Store) error {
	m.store, m.id = s, idOf(s.o.Node)
	nc, err := connect(ctx, &s.o, s.o.Connect)
	if err != nil {
		return fmt.Errorf("jetstream: joining: %w", err)
	}
	c, err := newConn(nc)
	if err != nil {
		nc.Close()
		return err
	}
	m.conn.Store(c)
	js, err := jetstream.New(nc)
	if err == nil {
		err = s.ensureStream(ctx, js, s.memberConfig())
	}
	if err != nil {
		nc.Close()
		return fmt.Errorf("jetstream: joining: %w", err)
	}
	m.machine = cluster.NewMember(&m.config, cluster.MemberRecord{Node: m.id, Name: s.o.Node, Address: m.o.Address,
		Cores: m.o.Cores, Format: m.o.Format, ABI: m.o.ABI, Version: m.o.Version, Client: m.o.Client})
	life, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.running.Go(func() { m.run(life) })
	for !m.HoldsLease() {
		select {
		case <-ctx.Done():
			m.Close()
			return fmt.Errorf("jetstream: joining: %w", ctx.Err())
		case <-time.After(m.config.RetryAfter):
		}
	}
	return nil
}

// memberConfig describes the stream of member records: the newest one of each node.
func (s *Store) memberConfig() jetstream.StreamConfig {
	c := s.streamConfig(s.layout.memberStream(), s.layout.memberSubject("*"))
	c.Description, c.MaxMsgsPerSubject = "members of the cluster", 1
	return c
}

// memberTick is how often the machine is told the time. Reading the records of all members takes one
// question to one replica, four times a second; a replica that lags can't do harm.
const memberTick = 25 * time.Millisecond

// run is the loop. It ends with life, or once the node is declared dead.
func (m *Members) run(life context.Context) {
	ticker := time.NewTicker(memberTick)
	defer ticker.Stop()
	var readAt, removeAt time.Duration
	for {
		select {
		case <-life.Done():
			return
		case <-m.ended:
			return
		case <-ticker.C:
		}
		now := m.clock()
		m.step(life, func() { m.machine.Tick(now) })
		if now >= readAt {
			readAt = now + m.config.RenewEvery
			m.readAll(life)
		}
		if now >= removeAt {
			removeAt = now + m.config.RemoveAfter/removeRounds
			m.removeDead(life, now)
		}
	}
}

// removeRounds is how often verdicts that may be removed are looked for in the time after which they may be.
const removeRounds = 8

// removeDead removes verdicts on nodes that no owner record names, if this member is the one to do so. now is
// a moment at which they were known.
func (m *Members) removeDead(life context.Context, now time.Duration) {
	m.mu.Lock()
	isDue := !m.isClosed && m.machine.HasRemovable(now)
	m.mu.Unlock()
	if !isDue {
		return
	}
	m.running.Go(func() {
		named := map[cluster.NodeID]bool{}
		err := m.store.readOwners(life, func(_ int, r OwnerRecord) { named[idOf(r.Node)] = true })
		if err != nil {
			return // the next round is soon
		}
		m.step(life, func() { m.machine.OwnersRead(named, now, m.clock()) })
	})
}

// step has the machine take an event in, and carries out what it asks for.
func (m *Members) step(life context.Context, event func()) {
	m.mu.Lock()
	if m.isClosed {
		m.mu.Unlock()
		return
	}
	event()
	e := memberEffects{members: m, life: life}
	m.machine.Perform(&e)
	m.leaseEnds.Store(int64(m.machine.LeaseEnds()))
	if e.hasChanged || e.hasEnded {
		before := m.living
		m.living, m.dead = m.machine.Living(), m.machine.Dead()
		m.countDeathsLocked(before)
		m.desired = m.assignLocked()
		m.changedAt = m.clock()
	}
	m.mu.Unlock()
	if e.hasEnded {
		close(m.ended)
	}
	if (e.hasChanged || e.hasEnded) && m.o.Changed != nil {
		m.o.Changed()
	}
}

// memberEffects carries out what the machine asks for. It is called with mu held.
type memberEffects struct {
	members              *Members
	life                 context.Context
	hasChanged, hasEnded bool
}

func (e *memberEffects) WriteMember(call, expected uint64, r cluster.MemberRecord) {
	m, life := e.members, e.life
	body, err := json.Marshal(textOf(&r))
	if err != nil {
		panic(err) // strings and numbers
	}
	msg := nats.NewMsg(m.store.layout.memberSubject(nodeToken(r.Node)))
	msg.Data = body
	msg.Header.Set("Nats-Expected-Last-Subject-Sequence", fmt.Sprint(expected))
	// The machine ends before its last writes are answered: they are waited for in Close.
	m.running.Go(func() {
		sequence, err := m.conn.Load().write(context.WithoutCancel(life), msg, m.config.Lease)
		answer := cluster.Stored
		var api *apiError
		switch {
		case errors.As(err, &api) && api.ErrCode == codeWrongSequence:
			answer = cluster.Refused
		case err != nil:
			answer = cluster.Unavailable
		}
		m.step(life, func() { m.machine.Written(call, answer, sequence, m.clock()) })
	})
}

func (e *memberEffects) ReadMember(node cluster.NodeID) {
	m, life := e.members, e.life
	m.running.Go(func() { m.read(life, m.store.layout.memberSubject(nodeToken(node))) })
}

func (e *memberEffects) RemoveMember(node cluster.NodeID, sequence uint64) {
	m, life := e.members, e.life
	subject := m.store.layout.memberSubject(nodeToken(node))
	m.running.Go(func() {
		err := m.conn.Load().purge(life, m.store.layout.memberStream(), subject, sequence+1, m.store.o.AnswerTimeout)
		if err != nil {
			m.store.o.Logger.Debug("the record of a dead member was not removed", "error", err)
		}
	})
}

func (e *memberEffects) Reconnect() {
	m, life := e.members, e.life
	m.store.o.Logger.Warn("renewals of this node's lease are not answered: connecting again")
	m.running.Go(func() { m.reconnect(life) })
}

func (e *memberEffects) MembersChanged() { e.hasChanged = true }

func (e *memberEffects) Ended() { e.hasEnded = true }

// reconnect replaces the connection.
func (m *Members) reconnect(life context.Context) {
	nc, err := connect(life, &m.store.o, m.store.o.Connect)
	if err != nil {
		return // life has ended, or the servers refuse this node, which the store reports
	}
	c, err := newConn(nc)
	if err != nil {
		nc.Close()
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.isClosed {
		nc.Close()
		return
	}
	m.conn.Swap(c).nc.Close()
}

// readAll reads the records of all members, unless that is still under way.
func (m *Members) readAll(life context.Context) {
	if !m.isReading.CompareAndSwap(false, true) {
		return
	}
	m.running.Go(func() {
		defer m.isReading.Store(false)
		m.read(life, m.store.layout.memberSubject("*"))
	})
}

// read reads the newest records under a subject, and hands them to the machine.
func (m *Members) read(life context.Context, subject string) {
	newest := query{Last: []string{subject}}
	found, through, err := m.conn.Load().read(life, m.store.layout.memberStream(), newest, m.config.RenewEvery)
	if errors.Is(err, errTooMany) {
		found, err = m.readPages(life, subject)
	}
	if err != nil {
		return // the next reading is soon
	}
	m.step(life, func() {
		now := m.clock()
		isThere := map[cluster.NodeID]bool{}
		for _, f := range found {
			if node, err := m.store.layout.nodeOf(f.subject); err == nil {
				isThere[node] = true
			}
			r, err := m.parse(f)
			if err != nil {
				m.store.o.Logger.Error("a member's record can't be read", "subject", f.subject, "error", err)
				continue
			}
			m.machine.Seen(r, f.at, now)
		}
		if through > 0 && subject == m.store.layout.memberSubject("*") {
			m.machine.Listed(isThere, through, now)
		}
	})
}

// readPages reads more records than a replica sends at once. What is written meanwhile may be missing.
func (m *Members) readPages(life context.Context, subject string) (all []message, err error) {
	for next := uint64(1); ; {
		q := query{Next: subject, Seq: next, Batch: queryBatch, MaxBytes: queryBytes}
		page, _, err := m.conn.Load().read(life, m.store.layout.memberStream(), q, m.config.RenewEvery)
		if err != nil || len(page) == 0 {
			return all, err
		}
		all = append(all, page...)
		next = page[len(page)-1].at + 1
	}
}

// nodeOf returns the node that the subject of a record belongs to.
func (l layout) nodeOf(subject string) (cluster.NodeID, error) {
	node, err := strconv.ParseUint(strings.TrimPrefix(subject, l.memberSubject("")), 16, 64)
	return cluster.NodeID(node), err
}

func (m *Members) parse(f message) (cluster.MemberRecord, error) {
	return m.store.layout.parseMember(f)
}

// parseMember reads the record of a member.
func (l layout) parseMember(f message) (r cluster.MemberRecord, err error) {
	var text memberText
	if err := json.Unmarshal(f.data, &text); err != nil {
		return r, err
	}
	if r.Node, err = l.nodeOf(f.subject); err != nil {
		return r, err
	}
	r.IsConfirmed = text.Confirmed
	r.Name, r.Address, r.Renewal, r.IsDead = text.Node, text.Address, text.Renewal, text.Dead
	r.IsDraining, r.Cores, r.Format, r.ABI = text.Draining, text.Cores, text.Format, text.ABI
	r.Version, r.Client = text.Version, text.Client
	return r, nil
}

// HasCores says which cores this node has, first the one that it runs. The others see it with the next
// renewal, which is sent at once.
func (m *Members) HasCores(cores []string) {
	if m.machine == nil { // it has not joined yet
		m.o.Cores = cores
		return
	}
	m.step(context.Background(), func() { m.machine.HasCores(cores, m.clock()) })
}

// SetTarget says which core is in force: slots go to members that have it. Before the first call, they
// go to any member.
func (m *Members) SetTarget(t Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.target.Present() != t.Present() {
		m.changedAt = m.clock()
	}
	m.target = t
	m.desired = m.assignLocked()
}

// assignLocked returns which member should have each slot. The lock mu is held.
func (m *Members) assignLocked() []cluster.NodeID {
	return cluster.Assign(Slots, m.living, cluster.Target{Generation: m.target.Generation, Core: m.target.Present()})
}

// Target returns the target of the last call of SetTarget.
func (m *Members) Target() Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.target
}

// Lacking returns the living members that do not have a core, without those that are about to end.
func (m *Members) Lacking(core string) (list []Member) {
	for _, member := range m.Living() {
		if !member.Draining && !slices.Contains(member.Cores, core) {
			list = append(list, member)
		}
	}
	return list
}

// HoldsLease reports whether the lease holds now: as long as it does, nobody else has a slot of this
// node, unless the node gave it away.
func (m *Members) HoldsLease() bool { return m.clock() < time.Duration(m.leaseEnds.Load()) }

// Ended is closed once the node is declared dead, or has left.
func (m *Members) Ended() <-chan struct{} { return m.ended }

// Living returns the members that live, this node too once it has joined.
func (m *Members) Living() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Member, len(m.living))
	for k := range m.living {
		list[k] = memberOf(&m.living[k])
	}
	return list
}

func memberOf(r *cluster.MemberRecord) Member {
	return Member{Node: nodeToken(r.Node), Address: r.Address, Draining: r.IsDraining,
		Cores: slices.Clone(r.Cores), Format: r.Format, ABI: r.ABI, Version: r.Version, Client: r.Client}
}

// clientsFor is for how long Clients has the URL of a member that has died. A page that this member has
// served may go on at another one for so long.
const clientsFor = 24 * time.Hour

// Clients returns the URLs at which clients reach the members that live, this node too, and then those
// of members that have died within the last 24 hours. Of a member that died before this node came, the
// time counts from there.
func (m *Members) Clients() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.machine == nil {
		return nil
	}
	return m.machine.Clients(m.clock(), clientsFor)
}

// MayClaim implements [Claims].
func (m *Members) MayClaim(slot int, present OwnerRecord) error {
	if !m.HoldsLease() {
		return fmt.Errorf("jetstream: this node has no lease: %w", journal.ErrUnavailable)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	owner, desired := idOf(present.Node), m.desired[slot]
	isNobodys := present.Epoch == 0
	switch {
	case !isNobodys && owner == m.id: // this node's own, or given to it
		return nil
	case !isNobodys && !m.dead[owner]:
		if m.machine != nil {
			m.machine.Named(owner, m.clock()) // if there is no record of it, it is declared dead
		}
		return &MovedError{slot, present}
	case desired == m.id:
		return nil
	}
	// The one that should have it is about to claim it, once a line comes there.
	for k := range m.living {
		if m.living[k].Node == desired {
			return &MovedError{slot, OwnerRecord{Address: m.living[k].Address, Epoch: present.Epoch}}
		}
	}
	return fmt.Errorf("jetstream: no living member may have the slot %d: %w", slot, journal.ErrUnavailable)
}

// Acquired implements [Claims].
func (m *Members) Acquired(slot int, _ OwnerRecord) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owned[slot] = true
}

// Lost implements [Claims].
func (m *Members) Lost(slot int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.owned, slot)
}

// Owned returns the slots that the node's store has acquired, in order: those of engines that were used
// here. [Store.Named] has those too that were given to it and not used yet.
func (m *Members) Owned() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.owned))
}

// Heir returns the other member that should have a slot, for [Store.Give]. ok is false if this node
// should have it, or nobody, or if a member has come, changed or died within the time stableFor.
func (m *Members) Heir(slot int, stableFor time.Duration) (heir Heir, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	desired := m.desired[slot]
	if desired == m.id || m.clock()-m.changedAt < stableFor {
		return Heir{}, false
	}
	for k := range m.living {
		if r := &m.living[k]; r.Node == desired {
			return Heir{r.Name, r.Address}, r.Name != ""
		}
	}
	return Heir{}, false
}

// Drain tells the others that this node is about to end and takes no slots.
func (m *Members) Drain() {
	m.step(context.Background(), func() { m.machine.Drain(m.clock()) })
}

// Leave says that this node is dead, so that nobody waits for its lease to end. The store has to be
// closed before: its slots are free from now on. It waits until that is stored or ctx ends.
func (m *Members) Leave(ctx context.Context) error {
	defer m.Close()
	m.leaseEnds.Store(0)
	m.stop()
	// A renewal on its way would come between.
	if err := m.wait(ctx); err != nil {
		return err
	}
	newest, err := m.conn.Load().lastAtLeader(ctx, m.store.layout.memberStream(),
		m.store.layout.memberSubject(nodeToken(m.id)), m.config.Lease)
	if err != nil {
		return fmt.Errorf("jetstream: leaving: %w", err)
	}
	m.step(ctx, func() {
		if newest != nil {
			if r, err := m.parse(*newest); err == nil {
				m.machine.Seen(r, newest.at, m.clock())
			}
		}
		m.machine.Leave()
	})
	return m.wait(ctx)
}

// wait waits for what is on its way.
func (m *Members) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		m.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("jetstream: leaving: %w", ctx.Err())
	}
}

// Close ends the renewals, and says nothing to the others: they declare this node dead when its
// record has stood still.
func (m *Members) Close() {
	m.mu.Lock()
	m.isClosed = true
	m.mu.Unlock()
	m.stop()
	m.conn.Load().nc.Close()
	m.running.Wait()
}
