package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hypertoken/internal/cluster"
)

// livingLook is how often the records of members are read until all have been renewed.
const livingLook = 100 * time.Millisecond

// LivingMembers returns the members whose records are renewed while it watches, in the order of their
// addresses. It is for programs that are no member. It takes as long as a member may stand still, about a
// second, if one does, and a renewal otherwise.
func (s *Store) LivingMembers(ctx context.Context) ([]Member, error) {
	first, err := s.readMembers(ctx)
	if err != nil {
		return nil, err
	}
	alive := map[cluster.NodeID]Member{}
	ticker := time.NewTicker(livingLook)
	defer ticker.Stop()
	for until := time.Now().Add(cluster.DefaultConfig().StandStill); len(alive) < len(first); {
		select {
		case now := <-ticker.C:
			if now.After(until) {
				return inOrder(alive), nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("jetstream: the members: %w", ctx.Err())
		}
		newest, err := s.readMembers(ctx)
		if err != nil {
			return nil, err
		}
		for node, r := range newest {
			if before, wasThere := first[node]; wasThere && r.Renewal > before.Renewal {
				alive[node] = memberOf(&r)
			}
		}
		for node := range first {
			if _, isThere := newest[node]; !isThere {
				delete(first, node) // it has died meanwhile
				delete(alive, node)
			}
		}
	}
	return inOrder(alive), nil
}

func inOrder(members map[cluster.NodeID]Member) (list []Member) {
	for _, m := range members {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Node, b.Node))
	})
	return list
}

// readMembers returns the records of the members that are not known to be dead.
func (s *Store) readMembers(ctx context.Context) (map[cluster.NodeID]cluster.MemberRecord, error) {
	var found []message
	err := s.try(ctx, func(ctx context.Context) (err error) {
		found, _, err = s.conn.read(ctx, s.layout.memberStream(), query{Last: []string{s.layout.memberSubject("*")}},
			readSilence)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("jetstream: the members: %w", err)
	}
	records := map[cluster.NodeID]cluster.MemberRecord{}
	var errs []error
	for _, f := range found {
		r, err := s.layout.parseMember(f)
		if err != nil {
			errs = append(errs, err)
		} else if !r.IsDead {
			records[r.Node] = r
		}
	}
	return records, errors.Join(errs...)
}
