package peers

import "time"

// Overview is a cluster as one of its nodes sees it. As JSON it is the answer to GET /v1/cluster.
type Overview struct {
	// Self is the address of that node, and Node its ID, which is new for each life.
	Self string `json:"self"`
	Node string `json:"node"`
	// Lease says whether its lease holds. LeaseAge is how many seconds ago the renewal was sent that the
	// lease counts from; nil if there is none.
	Lease    bool     `json:"lease"`
	LeaseAge *float64 `json:"lease_age"`
	// Slots is how many slots of engines it has.
	Slots   int      `json:"slots"`
	Members []Member `json:"members"`
	// Target is the core that the games are to be with; nil if that is not known.
	Target *Target `json:"target,omitempty"`

	// AskedAt is when the servers were asked for the slots of members, for streams and for owners; zero if
	// no answer has come yet.
	AskedAt time.Time `json:"asked_at,omitzero"`
	Streams []Stream  `json:"streams"`
	// Owners has the slots whose owner is known, if it was asked for.
	Owners []SlotOwner `json:"slot_owners,omitempty"`
}

// Target is the target core of the cluster. Until it is in force, games stay with the former one.
type Target struct {
	Generation uint64 `json:"generation"`
	Core       string `json:"core"`
	InForce    bool   `json:"in_force"`
	Former     string `json:"former,omitempty"`
}

// Member is a node that lives.
type Member struct {
	Address  string `json:"address"`
	Node     string `json:"node"`
	Draining bool   `json:"draining,omitempty"`
	// Slots is how many slots it owns.
	Slots   int    `json:"slots"`
	Version string `json:"version,omitempty"`
	// Cores are those that it has, first the one that it runs. ABI is the newest one of cores that it runs.
	Cores []string `json:"cores,omitempty"`
	ABI   int      `json:"abi,omitempty"`
	// Client is the URL at which clients reach it, if it names one.
	Client string `json:"client,omitempty"`
}

// Stream is a stream of the NATS servers. Without a Leader, Error says why, and nothing else is known.
type Stream struct {
	Name     string    `json:"name"`
	Leader   string    `json:"leader,omitempty"`
	Error    string    `json:"error,omitempty"`
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	Replicas []Replica `json:"replicas"`
}

// Replica is a copy of a stream on another server than the leader. Lag is how many writes it is behind.
type Replica struct {
	Server  string `json:"server"`
	Current bool   `json:"current"`
	Offline bool   `json:"offline,omitempty"`
	Lag     uint64 `json:"lag"`
}

// SlotOwner is the owner of a slot. If its node is no member, it is dead, and the slot goes to another
// node with the next line.
type SlotOwner struct {
	Slot    int    `json:"slot"`
	Address string `json:"address"`
	Node    string `json:"node"`
	Epoch   uint64 `json:"epoch"`
}
