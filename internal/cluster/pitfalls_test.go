package cluster_test

import (
	"testing"
	"time"

	"hypertoken/internal/cluster"
	"hypertoken/internal/cluster/simlog"
)

// Each test here is a way in which a cluster lost, doubled or hung something before these machines
// were written.

// bench has the slots of one node, with a log that is asked only when a test says so.
type bench struct {
	t     *testing.T
	slots *cluster.Slots
	log   *simlog.Log
	now   time.Duration
	// What the machine has asked for and is not answered.
	owners  []ownerWrite
	batches []*cluster.Batch
	tails   []reading
	engines []reading
	done    map[uint64]cluster.Result
	ran     []uint64
	refused []uint64
}

type ownerWrite struct {
	slot     int
	expected uint64
	record   cluster.OwnerRecord
}

type reading struct {
	slot   int
	call   uint64
	engine string
}

const (
	here  cluster.NodeID = 1
	other cluster.NodeID = 2
)

// newBench returns a node that owns some slots, with open tenures.
func newBench(t *testing.T, slots int) *bench {
	b := &bench{t: t, log: simlog.New(1), done: map[uint64]cluster.Result{}}
	config := cluster.DefaultConfig()
	b.slots = cluster.NewSlots(&config, here, "", slots)
	b.slots.CoresHeld([]string{"a"}, 0)
	b.slots.TargetSeen(cluster.Target{Generation: 1, Core: "a"}, 0)
	b.slots.MembersSeen([]cluster.MemberRecord{{Node: here, Cores: []string{"a"}}}, nil, 0)
	b.pass(0)
	for len(b.owners) > 0 {
		b.answerOwner()
	}
	for len(b.tails) > 0 {
		b.answerTail(0)
	}
	for slot := range slots {
		if tenure := b.slots.Tenure(slot); tenure == nil || tenure.Phase() != cluster.Open {
			t.Fatalf("slot %d has no open tenure", slot)
		}
	}
	return b
}

// pass lets time pass. The lease holds.
func (b *bench) pass(d time.Duration) {
	b.now += d
	b.slots.Tick(b.now, b.now+time.Second)
	b.slots.Perform(b)
}

// answerOwner has the log take the first write of an owner record, and answers it.
func (b *bench) answerOwner() {
	w := b.owners[0]
	b.owners = b.owners[1:]
	a, sequence := b.log.WriteOwner(w.slot, w.expected, w.record)
	b.slots.OwnerWritten(w.slot, w.record.Nonce, a, sequence, b.now)
	b.slots.Perform(b)
}

// answerTail answers the first reading of a tail from a replica.
func (b *bench) answerTail(replica int) {
	r := b.tails[0]
	b.tails = b.tails[1:]
	tail, seen := b.log.Replica(replica).Tail(r.slot)
	b.slots.TailRead(r.slot, r.call, tail, seen, b.now)
	b.slots.Perform(b)
}

// answerEngine answers the first reading of an engine's subject from a replica.
func (b *bench) answerEngine(replica int) {
	r := b.engines[0]
	b.engines = b.engines[1:]
	subject, seen := b.log.Replica(replica).Engine(r.engine)
	b.slots.EngineRead(r.slot, r.call, subject, seen, b.now)
	b.slots.Perform(b)
}

// takeBatch returns the first batch that was sent. It is answered or not.
func (b *bench) takeBatch() *cluster.Batch {
	b.t.Helper()
	if len(b.batches) == 0 {
		b.t.Fatal("no batch was sent")
	}
	batch := b.batches[0]
	b.batches = b.batches[1:]
	return batch
}

func (b *bench) answerBatch(batch *cluster.Batch) cluster.Answer {
	a, last := b.log.StoreBatch(batch)
	b.slots.BatchAnswered(batch.Number, a, last, b.now)
	b.slots.Perform(b)
	return a
}

// append appends a record of an engine, under a call.
func (b *bench) append(t *cluster.Tenure, call uint64, engine string, after uint64) {
	t.Append(call, cluster.Entry{Engine: engine, After: after, Count: 1, Generation: 1}, b.now)
	b.slots.Perform(b)
}

func (b *bench) load(t *cluster.Tenure, call uint64, engine string) {
	t.Load(call, engine, b.now)
	b.slots.Perform(b)
}

// wantDone checks how a call has ended.
func (b *bench) wantDone(call uint64, want cluster.Outcome) cluster.Journal {
	b.t.Helper()
	r, ok := b.done[call]
	if !ok || r.Outcome != want {
		b.t.Fatalf("call %d has ended: %v, with %v, want %v", call, ok, r.Outcome, want)
	}
	return r.Journal
}

// takeOver writes an owner record over a slot's, as if there were a verdict.
func (b *bench) takeOver(slot int, to cluster.NodeID) {
	before := b.log.Owners[slot]
	b.log.WriteOwner(slot, before.Sequence, cluster.OwnerRecord{Node: to, Epoch: before.Record.Epoch + 1, By: other})
}

// seeOwner tells the node of the slot's owner record.
func (b *bench) seeOwner(slot int) {
	r := b.log.Owners[slot]
	b.slots.OwnerSeen(slot, r.Record, r.Sequence, b.now)
	b.slots.Perform(b)
}

func (b *bench) WriteOwner(slot int, expected uint64, r cluster.OwnerRecord) {
	b.owners = append(b.owners, ownerWrite{slot, expected, r})
}
func (b *bench) ReadOwner(int)                  {}
func (b *bench) SendBatch(batch *cluster.Batch) { b.batches = append(b.batches, batch) }
func (b *bench) ReadTail(slot int, call uint64) {
	b.tails = append(b.tails, reading{slot: slot, call: call})
}
func (b *bench) RemoveTail(slot int, seq uint64) { b.log.RemoveTail(slot, seq) }
func (b *bench) TrimEngine(engine string, before uint64) {
	b.log.TrimEngine(engine, before)
}
func (b *bench) ReadEngine(slot int, call uint64, engine string) {
	b.engines = append(b.engines, reading{slot, call, engine})
}
func (b *bench) TenureBegan(*cluster.Tenure)            {}
func (b *bench) CloseEngines(*cluster.Tenure)           {}
func (b *bench) StopEngines(*cluster.Tenure)            {}
func (b *bench) TenureEnded(*cluster.Tenure)            {}
func (b *bench) Done(call uint64, r cluster.Result)     { b.done[call] = r }
func (b *bench) RunLine(_ *cluster.Tenure, line uint64) { b.ran = append(b.ran, line) }
func (b *bench) RefuseLine(line uint64)                 { b.refused = append(b.refused, line) }
func (b *bench) RouteChanged(int)                       {}

// 1. A node that lost a slot and got it back appended from old engines, and from what was queued
// earlier, under the new fence.
func TestNothingOfAnEarlierTenureIsSent(t *testing.T) {
	b := newBench(t, 1)
	first := b.slots.Tenure(0)
	b.append(first, 1, "e", 0)
	sent := b.takeBatch()
	b.append(first, 2, "f", 0)
	b.takeOver(0, other)
	b.seeOwner(0)
	b.takeOver(0, here)
	b.seeOwner(0)
	b.answerTail(0)
	second := b.slots.Tenure(0)
	if second == first || second.Phase() != cluster.Open {
		t.Fatal("there is no second tenure")
	}
	b.wantDone(2, cluster.Moved)
	b.append(first, 3, "f", 0)
	b.wantDone(3, cluster.Moved)
	if a := b.answerBatch(sent); a != cluster.Refused {
		t.Errorf("a batch of the first tenure is %v", a)
	}
	b.wantDone(1, cluster.Moved)
	if len(b.batches) > 0 {
		t.Errorf("something was sent in the second tenure: %+v", b.batches[0])
	}
}

// 2. A load overtook an append that was still queued, and both were stored.
func TestALoadWaitsForWhatIsPending(t *testing.T) {
	b := newBench(t, 1)
	tenure := b.slots.Tenure(0)
	b.append(tenure, 1, "e", 0)
	sent := b.takeBatch()
	b.append(tenure, 2, "f", 0)
	b.load(tenure, 3, "f")
	b.wantDone(2, cluster.Overtaken)
	b.load(tenure, 4, "e")
	if len(b.engines) != 1 || b.engines[0].engine != "f" {
		t.Fatalf("journals that are read: %+v", b.engines)
	}
	b.answerEngine(0)
	if j := b.wantDone(3, cluster.OK); j.Sequence != 0 {
		t.Errorf("the journal of f ends at %d", j.Sequence)
	}
	b.answerBatch(sent)
	b.answerEngine(0)
	if j := b.wantDone(4, cluster.OK); j.Sequence != 1 {
		t.Errorf("the journal of e ends at %d", j.Sequence)
	}
}

// 3. A reading from a stale replica doubled an action. To have seen the fence is not enough either:
// the replica may lack what this owner has stored since.
func TestAReadingFromAStaleReplicaDoesNotCount(t *testing.T) {
	b := newBench(t, 1)
	b.log.CatchUp(1, 100) // the replica has seen the fence
	tenure := b.slots.Tenure(0)
	b.append(tenure, 1, "e", 0)
	b.answerBatch(b.takeBatch())
	b.pass(time.Minute) // the group is settled
	b.answerBatch(b.takeBatch())
	b.load(tenure, 2, "e")
	b.answerEngine(1)
	if _, ok := b.done[2]; ok {
		t.Fatal("the reading counts")
	}
	b.log.CatchUp(1, 100)
	b.pass(time.Second)
	b.answerEngine(1)
	if j := b.wantDone(2, cluster.OK); j.Sequence != 1 {
		t.Errorf("the journal ends at %d", j.Sequence)
	}
}

// leaseBench is the member machine of one node, with a log.
type leaseBench struct {
	log        *simlog.Log
	writes     []memberWrite
	reads      int
	reconnects int
	ended      bool
}

type memberWrite struct {
	call, expected uint64
	record         cluster.MemberRecord
}

func (b *leaseBench) WriteMember(call, expected uint64, r cluster.MemberRecord) {
	b.writes = append(b.writes, memberWrite{call, expected, r})
}
func (b *leaseBench) ReadMember(cluster.NodeID) { b.reads++ }
func (b *leaseBench) RemoveMember(node cluster.NodeID, sequence uint64) {
	b.log.RemoveMember(node, sequence)
}
func (b *leaseBench) Reconnect()      { b.reconnects++ }
func (b *leaseBench) MembersChanged() {}
func (b *leaseBench) Ended()          { b.ended = true }

// store has the log take the oldest write.
func (b *leaseBench) store() (memberWrite, cluster.Answer, uint64) {
	w := b.writes[0]
	b.writes = b.writes[1:]
	a, sequence := b.log.WriteMember(w.expected, w.record)
	return w, a, sequence
}

// 4. A callback that blocked the connection for data cost a node its lease.
func TestTheLeaseDoesNotWaitForJournals(t *testing.T) {
	b := newBench(t, 1)
	b.append(b.slots.Tenure(0), 1, "e", 0) // it is never answered
	config := cluster.DefaultConfig()
	m := cluster.NewMember(&config, cluster.MemberRecord{Node: here})
	l := &leaseBench{log: b.log}
	for now := time.Duration(0); now < 10*time.Second; now += 250 * ms {
		m.Tick(now)
		m.Perform(l)
		w, a, sequence := l.store()
		m.Written(w.call, a, sequence, now+ms)
		if !m.HoldsLease(now + 500*ms) {
			t.Fatalf("the lease does not hold at %v", now+500*ms)
		}
	}
}

// 5. One renewal that was lost with its connection cost a healthy node its life.
func TestOneLostRenewalCostsNothing(t *testing.T) {
	config := cluster.DefaultConfig()
	m := cluster.NewMember(&config, cluster.MemberRecord{Node: here})
	l := &leaseBench{log: simlog.New(0)}
	tick := func(now time.Duration) { m.Tick(now); m.Perform(l) }
	tick(0)
	w, a, sequence := l.store()
	m.Written(w.call, a, sequence, ms)
	tick(250 * ms)
	l.store() // it is stored, and the answer is lost
	tick(500 * ms)
	w, a, sequence = l.store()
	if a != cluster.Refused {
		t.Fatalf("the second renewal is %v", a)
	}
	m.Written(w.call, a, sequence, 501*ms)
	m.Perform(l)
	if l.reads != 1 {
		t.Fatal("the node does not read its own record")
	}
	r := l.log.Members[here]
	m.Seen(r.Record, r.Sequence, 502*ms)
	if !m.HoldsLease(1249*ms) || m.HoldsLease(1250*ms) {
		t.Error("the lease does not hold for a second from the renewal that was stored")
	}
	for k := range 4 {
		tick(time.Duration(3+k) * 250 * ms) // all are lost
	}
	if l.reconnects != 1 {
		t.Errorf("%d reconnects after three renewals without an answer", l.reconnects)
	}
	if l.ended {
		t.Error("the node has ended")
	}
}

// The verdict on a node is removed, and then a first record arrives that the node had sent twice. The
// node knows that it is dead.
func TestALateFirstRecordReadmitsNobody(t *testing.T) {
	config := cluster.DefaultConfig()
	m := cluster.NewMember(&config, cluster.MemberRecord{Node: here})
	l := &leaseBench{log: simlog.New(0)}
	tick := func(now time.Duration) { m.Tick(now); m.Perform(l) }
	tick(0)
	w, a, sequence := l.store()
	tick(250 * ms)
	late := l.writes[0] // a second first record, which is on its way for long
	l.writes = nil
	m.Written(w.call, a, sequence, 300*ms)
	tick(500 * ms)
	w, a, sequence = l.store()
	m.Written(w.call, a, sequence, 501*ms)
	if r := l.log.Members[here].Record; !r.IsConfirmed {
		t.Fatalf("the record %+v does not say that its node knows of the first one", r)
	}
	dead := l.log.Members[here].Record
	dead.IsDead = true
	_, sequence = l.log.WriteMember(sequence, dead)
	l.log.RemoveMember(here, sequence)
	if a, sequence = l.log.WriteMember(late.expected, late.record); a != cluster.Stored {
		t.Fatalf("the late record is %v", a)
	}
	m.Written(late.call, a, sequence, 4*time.Second)
	m.Perform(l)
	if m.HoldsLease(4*time.Second) || !l.ended {
		t.Error("the node is a member again")
	}
}

// A node that paused for long finds no record of its own: it is dead. Others forget it, and declare it
// dead again if an owner record names it.
func TestAVerdictThatIsGone(t *testing.T) {
	config := cluster.DefaultConfig()
	m := cluster.NewMember(&config, cluster.MemberRecord{Node: here})
	l := &leaseBench{log: simlog.New(0)}
	pass := func(from, to time.Duration) {
		for now := from; now < to; now += 250 * ms {
			m.Tick(now)
			m.Perform(l)
			for len(l.writes) > 0 {
				w, a, sequence := l.store()
				m.Written(w.call, a, sequence, now+ms)
			}
			isThere := map[cluster.NodeID]bool{}
			for node, r := range l.log.Members {
				isThere[node] = true
				m.Seen(r.Record, r.Sequence, now+2*ms)
			}
			m.Listed(isThere, l.log.Last, now+2*ms)
			m.Perform(l)
		}
	}
	l.log.WriteMember(0, cluster.MemberRecord{Node: other, Renewal: 1, IsConfirmed: true})
	pass(0, 5*time.Second)
	if !m.Dead()[other] {
		t.Fatal("the other node has no verdict")
	}
	now := 5*time.Second + config.RemoveAfter
	pass(5*time.Second, now)
	if !m.HasRemovable(now - 200*ms) {
		t.Fatal("the verdict can't be removed")
	}
	m.OwnersRead(map[cluster.NodeID]bool{other: true}, now-200*ms, now-200*ms)
	m.Perform(l)
	if _, ok := l.log.Members[other]; !ok {
		t.Fatal("the verdict on a node is removed that an owner record names")
	}
	m.OwnersRead(nil, now-200*ms, now-200*ms)
	pass(now, now+time.Second)
	if _, ok := l.log.Members[other]; ok || m.Dead()[other] {
		t.Fatal("the verdict is not removed, or not forgotten")
	}
	m.Named(other, now+time.Second)
	pass(now+time.Second, now+2*time.Second)
	if m.Dead()[other] {
		t.Error("the verdict comes before a lease could have ended")
	}
	pass(now+2*time.Second, now+3*time.Second)
	if r := l.log.Members[other].Record; !m.Dead()[other] || !r.IsDead || len(m.Living()) != 1 {
		t.Errorf("the node that is named has the record %+v", r)
	}
	// And now this node's own record.
	r := l.log.Members[here]
	l.log.RemoveMember(here, r.Sequence)
	pass(now+3*time.Second, now+10*time.Second)
	if !l.ended {
		t.Error("the node does not notice that it is dead")
	}
}

// 6. The log refuses a batch and does not say because of which slot. It can't store one, and
// nothing is known of copies of it.
func TestABatchIsSplitIfAFenceHasMoved(t *testing.T) {
	b := newBench(t, 2)
	entry := cluster.Entry{Engine: "e", Count: 1, Generation: 1}
	b.slots.Tenure(0).Append(1, entry, b.now)
	b.slots.Tenure(1).Append(2, entry, b.now)
	b.slots.Perform(b)
	batch := b.takeBatch()
	if len(batch.Parts) != 2 || len(b.batches) > 0 {
		t.Fatalf("the batch has %d parts, and there are %d more", len(batch.Parts), len(b.batches))
	}
	b.takeOver(1, other)
	b.answerBatch(batch)
	if len(b.batches) != 2 {
		t.Fatalf("%d batches are sent instead", len(b.batches))
	}
	b.answerBatch(b.takeBatch())
	b.answerBatch(b.takeBatch())
	b.wantDone(1, cluster.OK)
	b.seeOwner(1)
	b.wantDone(2, cluster.Moved)
}

func TestABatchThatCanNotBeStoredIsSentAgain(t *testing.T) {
	b := newBench(t, 1)
	b.append(b.slots.Tenure(0), 1, "e", 0)
	batch := b.takeBatch()
	b.slots.BatchAnswered(batch.Number, cluster.Unavailable, 0, b.now)
	b.pass(10 * ms)
	if len(b.batches) > 0 {
		t.Fatal("it is sent again at once")
	}
	b.pass(10 * ms)
	if again := b.takeBatch(); again.Number != batch.Number {
		t.Fatal("another batch is sent")
	}
	if _, ok := b.done[1]; ok {
		t.Fatal("the append has ended")
	}
	b.answerBatch(batch)
	b.wantDone(1, cluster.OK)
}

// A refusal tells nothing of a copy that was sent before.
func TestARefusalOfACopyDecidesNothing(t *testing.T) {
	b := newBench(t, 1)
	b.append(b.slots.Tenure(0), 1, "e", 0)
	batch := b.takeBatch()
	b.slots.BatchAnswered(batch.Number, cluster.Unavailable, 0, b.now)
	b.log.StoreBatch(batch) // a copy comes late, and is stored
	b.pass(20 * ms)
	b.takeOver(0, other)
	b.answerBatch(b.takeBatch())
	b.seeOwner(0)
	b.wantDone(1, cluster.Unknown)
}

// 8. A log may lose what it has acknowledged: each group names the one before it.
func TestAMissingGroupIsNoticed(t *testing.T) {
	b := newBench(t, 1)
	tenure := b.slots.Tenure(0)
	for k := range uint64(3) {
		b.append(tenure, k+1, "e", k)
		b.answerBatch(b.takeBatch())
		b.pass(time.Minute) // the group is settled
		b.answerBatch(b.takeBatch())
	}
	b.load(tenure, 4, "e")
	r := b.engines[0]
	subject, seen := b.log.Engine("e")
	b.slots.EngineRead(r.slot, r.call, append(subject[:1:1], subject[2:]...), seen, b.now)
	b.slots.Perform(b)
	b.wantDone(4, cluster.Damaged)
}

// 9. The outcome of an append is not known. The node moves its fence, then one message of the batch
// tells.
func TestADoubtIsDecidedUnderANewFence(t *testing.T) {
	for _, isStored := range []bool{true, false} {
		b := newBench(t, 1)
		b.append(b.slots.Tenure(0), 1, "e", 0)
		batch := b.takeBatch()
		if isStored {
			b.log.StoreBatch(batch) // the answer is lost
		}
		b.pass(2 * time.Second)
		if _, ok := b.done[1]; ok || len(b.batches) > 0 || len(b.owners) != 1 {
			t.Fatalf("done: %v, batches: %d, owner records: %d", ok, len(b.batches), len(b.owners))
		}
		b.answerOwner()
		if a, _ := b.log.StoreBatch(batch); a != cluster.Refused {
			t.Fatalf("the batch is %v under the new fence", a)
		}
		b.answerTail(1)
		if _, ok := b.done[1]; ok || len(b.batches) > 0 {
			t.Fatal("a replica that has not seen the new fence decides")
		}
		b.pass(time.Second)
		b.answerTail(0)
		if !isStored {
			b.answerBatch(b.takeBatch())
		}
		b.wantDone(1, cluster.OK)
		b.load(b.slots.Tenure(0), 2, "e")
		b.answerEngine(0)
		if j := b.wantDone(2, cluster.OK); j.Sequence != 1 {
			t.Errorf("the journal ends at %d", j.Sequence)
		}
	}
}

// 10. A slot that was lost ended in outcomes that are not known, and a base could be older than the
// last record.
func TestALostSlotHasNoEffect(t *testing.T) {
	b := newBench(t, 1)
	tenure := b.slots.Tenure(0)
	b.append(tenure, 1, "e", 0)
	b.append(tenure, 2, "f", 0)
	b.takeOver(0, other)
	b.answerBatch(b.takeBatch())
	if len(b.batches) > 0 {
		t.Fatal("something is sent though the fence is lost")
	}
	b.seeOwner(0)
	b.wantDone(1, cluster.Moved)
	b.wantDone(2, cluster.Moved)
}

func TestABaseMayBeStoredAfterALaterGroup(t *testing.T) {
	b := newBench(t, 1)
	tenure := b.slots.Tenure(0)
	b.load(tenure, 1, "e")
	b.answerEngine(0)
	for k := range uint64(2) {
		b.append(tenure, k+2, "e", k)
		b.answerBatch(b.takeBatch())
		b.pass(time.Minute) // the group is settled
		b.answerBatch(b.takeBatch())
	}
	tenure.Append(4, cluster.Entry{Engine: "e", After: 1, IsBase: true, Generation: 1}, b.now)
	b.slots.Perform(b)
	b.answerBatch(b.takeBatch())
	b.wantDone(4, cluster.OK)
	b.load(tenure, 5, "e")
	b.answerEngine(0)
	if j := b.wantDone(5, cluster.OK); j.Base.After != 1 || j.Sequence != 2 {
		t.Errorf("the base is of %d, and the journal ends at %d; want 1 and 2", j.Base.After, j.Sequence)
	}
}

// A claim needs the verdict on the owner that the record names.
func TestAClaimNeedsAVerdict(t *testing.T) {
	b := newBench(t, 1)
	b.takeOver(0, other)
	b.seeOwner(0)
	b.pass(time.Minute)
	if len(b.owners) > 0 {
		t.Fatal("the slot is claimed, and its owner has no verdict")
	}
	b.slots.MembersSeen([]cluster.MemberRecord{{Node: here, Cores: []string{"a"}}},
		map[cluster.NodeID]bool{other: true}, b.now)
	b.slots.Perform(b)
	b.answerOwner()
	if r := b.log.Owners[0].Record; r.Node != here || r.Epoch != 3 {
		t.Errorf("the owner record is %+v", r)
	}
}

// A line that came with an epoch waits until this node knows of that epoch.
func TestALineWaitsForItsEpoch(t *testing.T) {
	b := newBench(t, 1)
	b.slots.Arrive(0, 1, 1, time.Minute, b.now)
	b.slots.Arrive(0, 2, 2, time.Minute, b.now)
	b.slots.Arrive(0, 3, 3, time.Second, b.now)
	b.slots.Perform(b)
	if len(b.ran) != 1 || len(b.refused) != 0 {
		t.Fatalf("ran %v, refused %v", b.ran, b.refused)
	}
	b.takeOver(0, other)
	b.seeOwner(0)
	if len(b.refused) != 1 || b.refused[0] != 2 {
		t.Fatalf("refused %v", b.refused)
	}
	b.pass(time.Second)
	if len(b.refused) != 2 {
		t.Errorf("a line is not refused at its deadline: %v", b.refused)
	}
}
