// Package cluster decides what the nodes of a cluster do: which node has which slot, when a node
// may write and answer, what becomes of an append that nobody answered, and where a line goes.
//
// Names of engines are hashed into slots. The node that a slot's owner record names has all engines
// of the slot. The log keeps everything: journals, owner records and member records. Writes to the
// log are conditional, and that makes them safe without any clock:
//
//   - An owner record is replaced only by a write that names the sequence of the record it
//     replaces. That sequence is the slot's fence.
//   - Each batch that writes to a slot is stored only if the slot's owner record still has the
//     fence that the batch names. So a new owner record ends every write of the former owner, also
//     one that was sent before and arrives later.
//
// Clocks matter only for answers that write nothing. A node may give them from memory while its
// lease holds, because its slots can't have gone to another node before the lease ended.
//
// The machines:
//
//   - [Member] keeps the lease of this node, watches the other members, and declares those dead
//     whose records stand still.
//   - [Slots] has the slots of one stream: it claims, gives and loses them. A [Tenure] is one
//     period in which this node owns a slot. It stores groups, loads journals, and settles doubt.
//   - [Reading] reads the journal of an engine on a node that does not own the slot.
//   - [Line] takes a line that a client sent to this node to the node that owns the slot.
//   - [Assign] says which member should have which slot.
//
// A machine has no lock, goroutine or clock, and does no I/O. Its owner holds a lock, calls the
// method of an event, and then Perform, which carries out the effects of that step. No step begins
// inside another one. The simulation in this package drives all machines of several nodes against
// the model of the log in internal/cluster/simlog. It loses, doubles and delays what they send.
//
// # How a slot's groups are stored
//
// A stream of single messages costs a write for each group. So the groups of a slot that wait
// together are packed into one message on the slot's own subject, which is the slot's tail. Later
// the owner settles them: it copies them to the subjects of their engines. Four rules make that
// safe.
//
//   - The copies, and a message on the slot's subject that says how far the tail is settled, are
//     one batch under the fence. So there are all of them or none.
//   - The settled part of the tail is removed only after that batch is known to be stored. The
//     removal has no condition, and needs none: it names a sequence up to which everything is
//     settled, so it may arrive late or twice.
//   - A reader reads the tail before the engine's subject. A group that the tail does not have any
//     more is on the engine's subject by then.
//   - Replicas may lag. The reply to the second reading counts only if its replica was as far as
//     that of the first, and the reply to an owner only if its replica had everything that the
//     owner knows to be stored. To have seen the fence is not enough: what the owner itself has
//     stored since may be missing.
//
// Groups name the sequence before them, so a group that a reader meets twice is skipped, and a
// group that is missing is noticed.
package cluster
