package top

import (
	"encoding/json"
	"fmt"
	"time"

	"hypertoken/internal/printable"
)

// Cluster is the server as a node of a cluster. Totals count from the start of its process.
type Cluster struct {
	Self     string `json:"self"` // the address at which the other nodes reach it
	Lease    Figure `json:"lease_held"`
	LeaseAge Figure `json:"lease_age_seconds"` // since the renewal was sent that the lease counts from
	Members  Figure `json:"members"`
	Draining Figure `json:"members_draining"`
	Deaths   Figure `json:"member_deaths"`
	Slots    Figure `json:"slots"`
	TakeOver Figure `json:"slots_taken_over"`

	Forwarded figures `json:"forwarded_lines_per_second"` // by outcome
	Healthy   Figure  `json:"healthy"`                    // 1 if the servers store what is sent
	Batches   Figure  `json:"batches_per_second"`
	Writes    Figure  `json:"writes_per_batch"`
	P50       Figure  `json:"batch_p50_seconds"`
	P99       Figure  `json:"batch_p99_seconds"`
	Doubts    Figure  `json:"doubts"`
	Refused   Figure  `json:"refused_batches"`
	Failed    Figure  `json:"failed_batches"`

	Target Target `json:"target"` // its Generation is unknown if the server does not say

	AskedAge Figure   `json:"asked_age_seconds"` // since the servers were asked for slots and streams
	Nodes    []Node   `json:"nodes"`
	Streams  []Stream `json:"streams"`
	Err      string   `json:"cluster_error,omitempty"` // why Nodes and Streams are not known
}

// Target is the core that all games are to be with.
type Target struct {
	Generation Figure `json:"generation"`
	Core       string `json:"core"`
	InForce    bool   `json:"in_force"`
	Former     string `json:"former,omitempty"` // in force until all members have Core
}

// Node is a member of the cluster.
type Node struct {
	Address  string   `json:"address"`
	ID       string   `json:"node"`
	Draining bool     `json:"draining"`
	Slots    Figure   `json:"slots"`
	Version  string   `json:"version"`
	Cores    []string `json:"cores"` // first the one that it runs
}

// Stream is a stream of the NATS servers.
type Stream struct {
	Name     string    `json:"name"`
	Leader   string    `json:"leader"` // "" if it has none; Error says why
	Error    string    `json:"error,omitempty"`
	Messages Figure    `json:"messages"`
	Bytes    Figure    `json:"bytes"`
	Replicas []Replica `json:"replicas"`
}

// Replica is a copy of a stream on another server than the leader.
type Replica struct {
	Server  string `json:"server"`
	Current bool   `json:"current"`
	Offline bool   `json:"offline"`
	Lag     Figure `json:"lag"`
}

// membersMetric is a metric that nodes of a cluster have, and no other server.
const membersMetric = "hypertoken_jetstream_members"

// overview is the answer to GET /v1/cluster.
type overview struct {
	Self    string
	AskedAt time.Time `json:"asked_at"`
	Target  *struct {
		Generation   float64
		Core, Former string
		InForce      bool `json:"in_force"`
	}
	Members []struct {
		Address, Node, Version string
		Draining               bool
		Slots                  float64
		Cores                  []string
	}
	Streams []struct {
		Name, Leader, Error string
		Messages, Bytes     float64
		Replicas            []struct {
			Server           string
			Current, Offline bool
			Lag              float64
		}
	}
}

// Bounds of what is kept of an overview.
const (
	maxNodes    = 1000
	maxStreams  = 200
	maxReplicas = 5
)

func parseOverview(body []byte) (*overview, error) {
	o := &overview{}
	if err := json.Unmarshal(body, o); err != nil {
		return nil, fmt.Errorf("its cluster can't be read: %s", printable.Line(err.Error(), 200))
	}
	return o, nil
}

// newCluster returns the figures of a node at the end of an interval; nil if the server is none. now is
// the server's time.
func newCluster(i interval, now Figure) *Cluster {
	s := i.to
	if s.families[membersMetric] == nil {
		return nil
	}
	gauge := func(name string) Figure { return s.gauge("hypertoken_jetstream_" + name) }
	c := &Cluster{
		Lease: gauge("lease_held"), LeaseAge: gauge("lease_age_seconds"), Members: gauge("members"),
		Draining: gauge("members_draining"), Deaths: gauge("member_deaths_total"), Slots: gauge("slots"),
		TakeOver: gauge("slots_taken_over_total"), Healthy: gauge("healthy"), Doubts: gauge("doubts_total"),
		Refused: gauge("refused_batches_total"), Failed: gauge("failed_batches_total"),
		Forwarded: i.rates("hypertoken_serve_forwarded_lines_total", "outcome"),
		Batches:   i.rates("hypertoken_jetstream_batches_total", "").sum(), Writes: unknown, AskedAge: unknown,
		Target: Target{Generation: unknown},
	}
	took := i.histograms("hypertoken_jetstream_batch_seconds", "")[""]
	c.P50, c.P99 = took.quantile(0.5), took.quantile(0.99)
	if sent := i.histograms("hypertoken_jetstream_batch_writes", "")[""]; sent.count() > 0 {
		c.Writes = Figure(sent.sum / sent.count())
	}
	if s.clusterErr != nil {
		c.Err = s.clusterErr.Error()
	}
	if s.cluster != nil {
		c.add(s.cluster, now)
	}
	return c
}

// add adds what the server says of its cluster.
func (c *Cluster) add(o *overview, now Figure) {
	text := func(s string) string { return printable.Line(s, maxLabel) }
	c.Self = text(o.Self)
	if !o.AskedAt.IsZero() {
		c.AskedAge = age(now, Figure(float64(o.AskedAt.UnixMilli())/1000))
	}
	if t := o.Target; t != nil {
		c.Target = Target{Figure(t.Generation), text(t.Core), t.InForce, text(t.Former)}
	}
	for _, m := range o.Members[:min(len(o.Members), maxNodes)] {
		n := Node{Address: text(m.Address), ID: text(m.Node), Draining: m.Draining, Slots: Figure(m.Slots),
			Version: text(m.Version)}
		for _, core := range m.Cores[:min(len(m.Cores), maxReplicas)] {
			n.Cores = append(n.Cores, text(core))
		}
		c.Nodes = append(c.Nodes, n)
	}
	for _, from := range o.Streams[:min(len(o.Streams), maxStreams)] {
		s := Stream{Name: text(from.Name), Leader: text(from.Leader), Error: text(from.Error),
			Messages: Figure(from.Messages), Bytes: Figure(from.Bytes)}
		for _, r := range from.Replicas[:min(len(from.Replicas), maxReplicas)] {
			s.Replicas = append(s.Replicas, Replica{text(r.Server), r.Current, r.Offline, Figure(r.Lag)})
		}
		c.Streams = append(c.Streams, s)
	}
}
