package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"testing"

	"hypertoken/internal/cluster"
	"hypertoken/journal"
)

// keepCode has a store keep the code of a core, and returns its hash.
func keepCode(t *testing.T, s *Store, code string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(code))
	hash := hex.EncodeToString(sum[:])
	if err := s.keepCore(t.Context(), hash, []byte(code)); err != nil {
		t.Fatal(err)
	}
	return hash
}

// mayUpgrade asks whether journals go over to a core.
func mayUpgrade(s *Store, hash string) error {
	ended := make(chan error, 1)
	s.MayUpgrade(hash, journal.DoneFunc(func(err error) { ended <- err }))
	return <-ended
}

// A target is announced, then put in force; only the core that is in force takes journals over. Going
// back is a new generation.
func TestTheTargetCore(t *testing.T) {
	c, name := shared(t), newName()
	s, other := openStore(t, c.options(name)), openStore(t, c.options(name))
	expect := func(generation uint64, core, present string) Target {
		t.Helper()
		var newest Target
		for _, s := range []*Store{s, other} {
			var err error
			newest, err = s.Target(t.Context())
			if err != nil || newest.Generation != generation || newest.Core != core || newest.Present() != present {
				t.Fatalf("the target is %+v, %v, want the generation %d with %s, and %s in force", newest, err, generation,
					core, present)
			}
		}
		return newest
	}
	allowed := func(hashes ...string) {
		t.Helper()
		for _, hash := range hashes {
			if err := mayUpgrade(other, hash); err != nil {
				t.Errorf("%.8s: %v", hash, err)
			}
		}
	}
	refused := func(hash string) {
		t.Helper()
		if err := mayUpgrade(other, hash); !errors.Is(err, journal.ErrNotTarget) {
			t.Errorf("%.8s: %v", hash, err)
		}
	}
	former, newer := keepCode(t, s, "former"), keepCode(t, s, "newer")
	none := expect(0, "", "")
	allowed(former, newer)
	if _, err := s.Announce(t.Context(), none, hex.EncodeToString(make([]byte, 32))); !errors.Is(err,
		journal.ErrRefused) {
		t.Errorf("a core that the store does not have: %v", err)
	}
	first, err := s.Announce(t.Context(), none, former)
	if err != nil || !first.InForce {
		t.Fatalf("the first target is %+v, %v", first, err)
	}
	expect(1, former, former)
	allowed(former)
	refused(newer)
	if newest, err := other.Announce(t.Context(), none, newer); !errors.Is(err, ErrTargetChanged) ||
		newest.Generation != 1 {
		t.Errorf("behind a target that is not the newest: %+v, %v", newest, err)
	}
	announced, err := other.Announce(t.Context(), first, newer)
	if err != nil {
		t.Fatal(err)
	}
	expect(2, newer, former)
	allowed(former)
	refused(newer)
	if _, err := s.PutInForce(t.Context(), announced); err != nil {
		t.Fatal(err)
	}
	inForce := expect(2, newer, newer)
	allowed(newer)
	refused(former)
	if !inForce.IsNewerThan(announced) || announced.IsNewerThan(inForce) {
		t.Error("a target that was put in force is newer than when it was announced")
	}
	if _, err := other.PutInForce(t.Context(), announced); !errors.Is(err, ErrTargetChanged) {
		t.Errorf("put in force twice: %v", err)
	}
	back, err := s.Announce(t.Context(), inForce, former)
	if err != nil {
		t.Fatal(err)
	}
	expect(3, former, newer)
	// Nobody has to fetch the core that is in force.
	if _, err := s.Announce(t.Context(), back, newer); err != nil {
		t.Fatal(err)
	}
	expect(4, newer, newer)
	refused(former)
}

// Of many who write the target at once, one succeeds, and each other one is told who.
func TestOneTargetIsWritten(t *testing.T) {
	c, name := shared(t), newName()
	var writing sync.WaitGroup
	targets, errs := make([]Target, 4), make([]error, 4)
	for k := range targets {
		s := openStore(t, c.options(name))
		hash := keepCode(t, s, string(rune('a'+k)))
		writing.Go(func() { targets[k], errs[k] = s.Announce(context.WithoutCancel(t.Context()), Target{}, hash) })
	}
	writing.Wait()
	written := 0
	for k, err := range errs {
		if err == nil {
			written++
		} else if !errors.Is(err, ErrTargetChanged) {
			t.Errorf("%v", err)
		}
		if targets[k].Generation != 1 || targets[k].Core != targets[0].Core {
			t.Errorf("%+v and %+v", targets[k], targets[0])
		}
	}
	if written != 1 {
		t.Errorf("%d have written it", written)
	}
}

// Slots go to members that have the core that is in force.
func TestSlotsGoToThoseThatHaveTheCore(t *testing.T) {
	m := NewMembers(MemberOptions{})
	m.id = 1
	m.machine = cluster.NewMember(&m.config, cluster.MemberRecord{Node: m.id})
	see := func(node cluster.NodeID, sequence uint64, cores ...string) {
		r := cluster.MemberRecord{Node: node, Name: nodeToken(node), Cores: cores}
		m.step(t.Context(), func() { m.machine.Seen(r, sequence, m.clock()) })
	}
	share := func(node cluster.NodeID) (n int) {
		for _, owner := range m.desired {
			if owner == node {
				n++
			}
		}
		return n
	}
	see(2, 1, "former")
	see(3, 2, "former", "newer")
	m.SetTarget(Target{Generation: 2, Core: "newer", Former: "former"})
	if share(2) == 0 || share(3) == 0 {
		t.Errorf("as long as the former core is in force, %d and %d slots", share(2), share(3))
	}
	if list := m.Lacking("newer"); len(list) != 1 || list[0].Node != nodeToken(2) {
		t.Errorf("without the core: %+v", list)
	}
	m.SetTarget(Target{Generation: 2, Core: "newer", InForce: true})
	if share(2) != 0 || share(3) != Slots {
		t.Errorf("with the newer core in force, %d and %d slots", share(2), share(3))
	}
	see(2, 3, "newer", "former")
	if share(2) == 0 || share(3) == 0 || len(m.Lacking("newer")) > 0 {
		t.Errorf("once both have it, %d and %d slots", share(2), share(3))
	}
}
