package cluster

import "time"

// NodeID names one life of a node. It is random. A node that was declared dead goes on under
// another NodeID. 0 is no node.
type NodeID uint64

// MemberRecord is what the log has of one life of a node. Only that node renews it, and any node
// may declare it dead.
type MemberRecord struct {
	Node    NodeID
	Name    string // what owner records call it, if that is not Node
	Address string // where other nodes reach it
	// Renewal counts the renewals, from 1.
	Renewal uint64
	// IsDead is the verdict. No write follows it.
	IsDead bool
	// IsConfirmed says that the node knew of an earlier record of its own when it wrote this one. So it
	// never writes a first record again.
	IsConfirmed bool
	// IsDraining says that the node gives its slots away and takes none.
	IsDraining bool
	// Cores are the hashes of the cores that it has, first the one that it runs. Format is the newest
	// format of journals that it reads.
	Cores  []string
	Format int
	// ABI is the newest one of cores that it runs.
	ABI int
	// Version is that of its program, for people. Nothing depends on it.
	Version string
	// Client is the URL at which clients reach it; "" if it names none.
	Client string
}

// OwnerRecord says which node owns a slot. Its sequence in the log is the slot's fence.
type OwnerRecord struct {
	// Node owns the slot, and Address is where other nodes reach it.
	Node    NodeID
	Address string
	// Epoch grows by one with each new owner. It stays if an owner only moves its fence.
	Epoch uint64
	// By is the node that wrote the record, and Nonce tells its writes apart. They show a node
	// whether a write that was not answered is stored.
	By    NodeID
	Nonce uint64
}

// Target is the core that the journals of the cluster are to run on, and the format in which they
// are written. A new target has a higher generation, also if it goes back to a former core.
type Target struct {
	Generation uint64
	Core       string
	Format     int
}

// Answer says what became of a write to the log.
type Answer uint8

const (
	// Stored: the log has it.
	Stored Answer = iota
	// Refused: a condition does not hold. This sending of the write is not stored, and no later one
	// can be.
	Refused
	// Unavailable: the log can't store anything now. Nothing is known of copies of the write that
	// are under way.
	Unavailable
)

// String returns the answer in lower case.
func (a Answer) String() string { return [...]string{"stored", "refused", "unavailable"}[a] }

// Entry is a part of the journal of one engine that is stored whole or not at all: a group of
// records, or a base.
type Entry struct {
	Engine string
	// After is the sequence of the record before the group; of a base, the sequence that it has.
	After uint64
	// Count is how many records the group has; 0 for a base.
	Count uint64
	// Generation is that of the core which the group was run on, or which the base is for.
	Generation uint64
	// Epoch is that of the tenure in which it was appended. Tenure.Append sets it.
	Epoch uint64
	// IsBase says that it is a base.
	IsBase bool
	Data   []byte
}

// end returns the sequence of the last record of the entry.
func (e *Entry) end() uint64 { return e.After + e.Count }

// PartID names what one node sent for one slot with one batch. The same part has the same ID if it
// is sent again.
type PartID struct {
	Node   NodeID
	Number uint64
}

// TailMessage is a message on a slot's own subject.
type TailMessage struct {
	ID PartID
	// Entries are groups, in the order in which they were appended. There are no bases.
	Entries []Entry
	// Settled is the sequence up to which the slot's tail is on the engines' subjects.
	Settled uint64
}

// EngineMessage is a message on an engine's subject: a base, or groups that were settled.
type EngineMessage struct {
	Engine  string
	Entries []Entry
	// From is, for a base, the sequence of the first message on the subject that has a group after
	// the base. It is 0 if no message before the base has one. A journal is read from there on.
	From uint64
}

// Part is what a batch has for one slot.
type Part struct {
	Slot int
	// Fence is the sequence that the slot's owner record has to have. A batch in which 0 stands
	// here has no condition; this package sends none.
	Fence uint64
	// Engines are stored first, then Tail, each with the next sequence.
	Engines []EngineMessage
	Tail    TailMessage
}

// size returns how many messages the part takes.
func (p *Part) size() uint64 { return uint64(len(p.Engines)) + 1 }

// Batch is stored whole or not at all. The parts have different slots.
type Batch struct {
	Number uint64
	Parts  []Part
}

// StoredTail is a message of a slot's tail, with its sequence in the log.
type StoredTail struct {
	Sequence uint64
	TailMessage
}

// StoredEngine is a message on an engine's subject, with its sequence in the log.
type StoredEngine struct {
	Sequence uint64
	EngineMessage
}

// Config has the times and bounds of the machines.
type Config struct {
	// RenewEvery is how often a member renews its record, and how long it waits for the answer.
	RenewEvery time.Duration
	// Lease is how long a renewal lasts, from the moment at which it is sent.
	Lease time.Duration
	// StandStill is for how long another member's record has to stand still before it is declared
	// dead. It is longer than Lease by more than clocks may differ.
	StandStill time.Duration
	// RemoveAfter is how long a verdict has been known when it is removed at the earliest. MaxRemoved is
	// how many are removed at a time.
	RemoveAfter time.Duration
	MaxRemoved  int
	// AnswerWithin is how long the log may take for a batch before its outcome counts as unknown.
	AnswerWithin time.Duration
	// RetryAfter is the wait before something is sent again that was not stored, or a reading that
	// did not count is repeated. AskAfter is the wait for the answer to a reading or to the write
	// of an owner record.
	RetryAfter, AskAfter time.Duration
	// QuietWithin is how long a slot that is given away waits for running actions.
	QuietWithin time.Duration
	// MaxGiving is how many slots are given away at a time.
	MaxGiving int
	// MaxMessages is how many messages a batch may have.
	MaxMessages int
	// MaxBytes is how many bytes of data a message has, unless one entry alone has more.
	MaxBytes int
	// MaxBatches is how many batches are in flight for a stream.
	MaxBatches int
	// SettleGroups is how many groups a tail may have before they are settled. SettleAfter is the
	// age of a group at which it is settled in any case.
	SettleGroups int
	SettleAfter  time.Duration
	// SettleBytes is how many bytes of data a tail may have before it is settled.
	SettleBytes int
	// KeepsHistory says that what was before the newest base stays in the log.
	KeepsHistory bool
	// ReadsLog says that an answer which changed nothing always takes a barrier.
	ReadsLog bool
}

// DefaultConfig returns the times and bounds that a node runs with.
func DefaultConfig() Config {
	const ms = time.Millisecond
	return Config{RenewEvery: 250 * ms, Lease: time.Second, StandStill: 1100 * ms,
		RemoveAfter: time.Minute, MaxRemoved: 256, AnswerWithin: 2 * time.Second,
		RetryAfter: 20 * ms, AskAfter: 250 * ms, QuietWithin: 500 * ms, MaxGiving: 16, MaxMessages: 1000, MaxBatches: 2,
		MaxBytes: 512 << 10, SettleGroups: 512, SettleAfter: 5 * time.Second, SettleBytes: 4 << 20, KeepsHistory: true}
}
