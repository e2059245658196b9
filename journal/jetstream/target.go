package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// Target says which core the journals of a cluster are to be with. It lies beside the cores, in the
// stream of pieces, because it names one of them: it is backed up and restored together with them, and
// the stream of members may be removed.
//
// A target is written in two steps. The first one announces a core: members fetch it, and say so in
// their records. The second one puts it in force, once all living members have it. Until then the
// journals stay with the former core.
type Target struct {
	// Generation grows by 1 with each target, also if it goes back to a former core. It is 0 if there
	// is none.
	Generation uint64 `json:"generation"`
	// Core is the SHA-256 of the core, in hexadecimal.
	Core string `json:"core"`
	// InForce says that journals go over to Core. As long as it is false, they stay with Former, which
	// was in force before.
	InForce bool   `json:"in_force"`
	Former  string `json:"former,omitempty"`
	// Nonce tells two writes of one generation apart.
	Nonce string `json:"nonce"`

	at uint64 // the stream sequence of the record
}

// Present returns the core that is in force; "" if there is no target.
func (t Target) Present() string {
	if t.InForce {
		return t.Core
	}
	return t.Former
}

// IsNewerThan reports whether the target was written later than another one.
func (t Target) IsNewerThan(other Target) bool { return t.at > other.at }

// ErrTargetChanged is returned if somebody else has written another target meanwhile.
var ErrTargetChanged = errors.New("jetstream: somebody else has set another target meanwhile")

// Target returns the target as of some time after the call. It asks a majority of the servers.
func (s *Store) Target(ctx context.Context) (Target, error) {
	mark, err := s.mark(ctx, s.layout.pieceReadSubject())
	if err != nil {
		return Target{}, fmt.Errorf("jetstream: the target core: %w", err)
	}
	return s.targetSince(ctx, mark)
}

// PeekTarget returns the target as any one server has it, which may be behind.
func (s *Store) PeekTarget(ctx context.Context) (Target, error) { return s.targetSince(ctx, 0) }

// targetSince reads the target from a replica that has the stream sequence atLeast.
func (s *Store) targetSince(ctx context.Context, atLeast uint64) (t Target, err error) {
	var m *message
	err = s.try(ctx, func(ctx context.Context) (err error) {
		stream, witness := s.layout.pieceStream(0), s.layout.pieceReadSubject()
		m, _, err = s.lastOf(ctx, stream, s.layout.targetSubject(), witness, atLeast)
		return err
	})
	if err == nil && m != nil {
		t, err = parseTarget(m.data)
		t.at = m.at
	}
	if err != nil {
		return Target{}, fmt.Errorf("jetstream: the target core: %w", err)
	}
	return t, nil
}

// parseTarget reads a target.
func parseTarget(b []byte) (t Target, err error) {
	if err := json.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("%w: %w", journal.ErrDamaged, err)
	}
	if t.Generation == 0 || checkHash(t.Core) != nil || checkHash(t.Present()) != nil {
		return t, fmt.Errorf("%w: %q is no target", journal.ErrDamaged, b)
	}
	return t, nil
}

// Announce writes the target that follows another one: the next generation, with a core that the store
// has. The first target, and one with the core that is in force already, are in force at once. Announce
// returns the new target. It fails with [ErrTargetChanged] if former is not the newest one, and with a
// [journal.ErrRefused] if the store does not have the core.
func (s *Store) Announce(ctx context.Context, former Target, core string) (Target, error) {
	switch code, err := s.core(ctx, core); {
	case err != nil:
		return former, fmt.Errorf("jetstream: the target core: %w", err)
	case code == nil:
		return former, journal.Refused("the store does not have the core %s", core)
	}
	present := former.Present()
	next := Target{Generation: former.Generation + 1, Core: core, Former: present}
	if next.InForce = present == "" || present == core; next.InForce {
		next.Former = ""
	}
	return s.replaceTarget(ctx, former, next)
}

// PutInForce writes that a target which was announced is in force. The caller has seen that all living
// members have its core. It fails with [ErrTargetChanged] if announced is not the newest target.
func (s *Store) PutInForce(ctx context.Context, announced Target) (Target, error) {
	if announced.InForce {
		return announced, nil
	}
	next := announced
	next.InForce = true
	return s.replaceTarget(ctx, announced, next)
}

// replaceTarget writes a target on the condition that the newest one is former.
func (s *Store) replaceTarget(ctx context.Context, former, next Target) (Target, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Patience)
	defer cancel()
	next.Nonce = randomHex(8)
	for try := 0; ; try++ {
		m := nats.NewMsg(s.layout.targetSubject())
		var err error
		if m.Data, err = json.Marshal(next); err != nil {
			return former, err
		}
		m.Header.Set(headerExpected, strconv.FormatUint(former.at, 10))
		m.Header.Set(headerRollup, rollupSubject)
		if next.at, err = s.conn.write(ctx, m, s.o.AnswerTimeout); err == nil {
			return next, nil
		}
		if outcomeOf(err) == isFenced {
			// An earlier try that was not answered may be stored.
			if newest, err := s.Target(ctx); err == nil && newest.Nonce == next.Nonce {
				return newest, nil
			} else if err == nil && newest.at > former.at {
				return newest, ErrTargetChanged
			}
		}
		if !s.pause(ctx, try) {
			return former, fmt.Errorf("jetstream: the target core: %w", unavailable("%v", err))
		}
	}
}

// MayUpgrade implements [journal.CoreChooser]: journals go over to the core that is in force. Without a
// target they go over to any core.
//
// The target is read after the journal, from a replica that has everything that was written before. So
// if a journal is with the core of a later generation than this node knows of, the target that is read
// is of that generation, too, or of a later one.
func (s *Store) MayUpgrade(hash string, done journal.Done) {
	s.background(func(ctx context.Context) {
		t, err := s.Target(ctx)
		if present := t.Present(); err == nil && present != "" && present != hash {
			err = fmt.Errorf("%w: the core %s, of generation %d", journal.ErrNotTarget, present, t.Generation)
		}
		done.Report(err)
	}, done.Report)
}
