package jetstream

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hypertoken/internal/cluster"
)

// This file has the figures of members.

// Node returns the ID of this node, as [Member] has it.
func (m *Members) Node() string { return nodeToken(m.id) }

// NodeOf returns the ID of the node that an owner record names, as [Member] has it.
func NodeOf(r OwnerRecord) string { return nodeToken(idOf(r.Node)) }

// Lease returns how long ago the renewal was sent that the lease counts from, and whether the lease
// holds. The age is negative if the node has no lease and gets none: before it has joined, and once it
// is dead.
func (m *Members) Lease() (age time.Duration, holds bool) {
	now, ends := m.clock(), time.Duration(m.leaseEnds.Load())
	if ends == 0 {
		return -1, false
	}
	return max(0, now-(ends-m.config.Lease)), now < ends
}

// Deaths returns how many other members have died while this one watched. Those that have left in order,
// which say that they drain, are not counted.
func (m *Members) Deaths() uint64 { return m.deaths.Load() }

// countDeathsLocked counts the members that were among the living ones before and are dead now. The lock
// mu is held.
func (m *Members) countDeathsLocked(before []cluster.MemberRecord) {
	for k := range before {
		node := before[k].Node
		if node != m.id && m.dead[node] && !m.machine.Record(node).IsDraining {
			m.deaths.Add(1)
		}
	}
}

// NewMembersCollector returns a collector of what a node knows of the members of its cluster, for a
// registry of Prometheus. README.md has a table of the metrics.
func NewMembersCollector(m *Members) prometheus.Collector {
	return &membersCollector{
		members:  m,
		leaseAge: desc("lease_age_seconds", "Time since the renewal was sent that the node's lease counts from."),
		lease:    desc("lease_held", "1 if the node's lease holds, 0 if not."),
		living:   desc("members", "Members that live, as this node sees them, with itself."),
		draining: desc("members_draining", "Those of them that give their slots away."),
		deaths:   desc("member_deaths_total", "Other members that have died without leaving in order."),
		lacking: desc("members_without_core",
			"Members that live, do not drain, and do not have the target core."),
		generation: desc("target_generation", "The generation of the target core."),
	}
}

type membersCollector struct {
	members                                   *Members
	leaseAge, lease, living, draining, deaths *prometheus.Desc
	lacking, generation                       *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *membersCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.leaseAge, c.lease, c.living, c.draining, c.deaths,
		c.lacking, c.generation} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *membersCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	age, holds := c.members.Lease()
	if age >= 0 {
		gauge(c.leaseAge, age.Seconds())
	}
	gauge(c.lease, oneIf(holds))
	living, draining := c.members.Living(), 0
	for k := range living {
		if living[k].Draining {
			draining++
		}
	}
	gauge(c.living, float64(len(living)))
	gauge(c.draining, float64(draining))
	if target := c.members.Target(); target.Generation > 0 {
		gauge(c.lacking, float64(len(c.members.Lacking(target.Core))))
		gauge(c.generation, float64(target.Generation))
	}
	ch <- prometheus.MustNewConstMetric(c.deaths, prometheus.CounterValue, float64(c.members.Deaths()))
}
