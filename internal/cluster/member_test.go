package cluster_test

import (
	"slices"
	"testing"
	"time"

	"hypertoken/internal/cluster"
)

// Clients of a member that has died find the others for a while, and the others know them.
func TestClientsOfMembers(t *testing.T) {
	config := cluster.DefaultConfig()
	m := cluster.NewMember(&config, cluster.MemberRecord{Node: here, Client: "http://m"})
	see := func(node cluster.NodeID, sequence uint64, client string, isDead bool, now time.Duration) {
		m.Seen(cluster.MemberRecord{Node: node, Client: client, IsDead: isDead}, sequence, now)
	}
	want := func(now time.Duration, list ...string) {
		t.Helper()
		if got := m.Clients(now, time.Hour); !slices.Equal(got, list) {
			t.Errorf("after %v: %q, want %q", now, got, list)
		}
	}
	want(0, "http://m")
	see(2, 1, "http://z", false, 0)
	see(3, 2, "http://a", false, 0)
	see(4, 3, "", false, 0) // it names none
	see(5, 4, "http://a", false, 0)
	want(0, "http://a", "http://m", "http://z")
	see(3, 5, "http://a", true, time.Minute) // the node 5 has the same URL
	want(time.Minute, "http://a", "http://m", "http://z")
	see(5, 6, "http://a", true, 2*time.Minute)
	see(2, 7, "http://z", true, 3*time.Minute)
	want(3*time.Minute, "http://m", "http://z", "http://a") // the last one to die is first
	want(62*time.Minute, "http://m", "http://z")
	want(63*time.Minute, "http://m")
	see(6, 8, "http://z", false, 64*time.Minute) // it is back, as another node
	want(64*time.Minute, "http://m", "http://z")
}
