// Package entropy has the source of the entropy of actions.
package entropy

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// Source gives entropy to actions: streams of ChaCha8, each seeded by the system. There are
// several, so that callers do not wait for each other. The zero value is ready to use.
type Source struct {
	turn    atomic.Uint32
	streams [8]struct {
		mu     sync.Mutex // guards random
		random *rand.ChaCha8
		_      [48]byte // keeps the streams on cache lines of their own
	}
}

// Fill writes fresh entropy into to.
func (s *Source) Fill(to *[16]byte) {
	x := &s.streams[s.turn.Add(1)%uint32(len(s.streams))]
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.random == nil {
		var seed [32]byte
		_, _ = crand.Read(seed[:]) // never fails
		x.random = rand.NewChaCha8(seed)
	}
	binary.LittleEndian.PutUint64(to[:], x.random.Uint64())
	binary.LittleEndian.PutUint64(to[8:], x.random.Uint64())
}
