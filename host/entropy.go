package host

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// entropy is where actions get theirs: streams of ChaCha8, each seeded by the system, in shards.
type entropy struct {
	turn    atomic.Uint32
	streams [8]struct {
		mu     sync.Mutex // guards random
		random *rand.ChaCha8
		_      [48]byte
	}
}

func (s *entropy) fill(to *[16]byte) {
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
