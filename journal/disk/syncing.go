package disk

import "time"

// sync is the syncing goroutine.
func (s *Store) sync() {
	for f := range s.syncs {
		var err error
		if f.stage == stageSyncing && f.batch != nil && s.Err() == nil {
			if err = f.batch.SyncWait(); err != nil {
				s.fail(err)
			} else {
				_ = f.batch.Close()
			}
		}
		// A failure of an earlier batch, or of a table, is one of this batch.
		if failure := s.Err(); failure != nil {
			err = failure
		}
		s.land(f, err)
	}
}

// land reports the calls of a flight, and keeps the flight's memory.
func (s *Store) land(f *flight, failure error) {
	s.mu.Lock()
	isReported := f.isReported
	f.isReported = true
	s.mu.Unlock()
	calls := 0
	for k := range f.ops {
		o := &f.ops[k]
		err := o.err
		if failure != nil {
			err = failure
		}
		switch {
		case isReported || err != nil:
			if o.iterator != nil {
				_ = o.iterator.Close()
			}
			if !isReported {
				o.report(err)
			}
		case o.iterator != nil:
			s.reads.push(*o)
		default:
			o.report(nil)
		}
		if o.kind == opAppend || o.kind == opInstall {
			calls++
		}
	}
	if calls > 0 {
		s.stats.observeBatch(calls)
	}
	s.mu.Lock()
	for k, other := range s.flights {
		if other == f {
			s.flights = append(s.flights[:k], s.flights[k+1:]...)
			break
		}
	}
	clear(f.ops)
	*f = flight{ops: f.ops[:0]}
	if cap(f.ops) <= maxSpareCalls {
		s.spares = append(s.spares, f)
	}
	s.mu.Unlock()
}

// maxSpareCalls is the number of calls up to which the memory of a flight is used again.
const maxSpareCalls = 1 << 14

// watch looks at the disk every second, and with SyncInterval syncs the logs.
func (s *Store) watch() {
	space := time.NewTicker(time.Second)
	defer space.Stop()
	ticks := 0
	var sync <-chan time.Time
	if s.o.Sync == SyncInterval {
		ticker := time.NewTicker(s.o.Interval)
		defer ticker.Stop()
		sync = ticker.C
	}
	for {
		select {
		case <-s.stop:
			return
		case <-space.C:
			s.space.check(s)
			if ticks++; ticks%usedEvery == 0 {
				s.measureUsed()
			}
		case <-s.space.urgent:
			s.space.check(s)
		case <-sync:
			s.gate.syncLogs()
		}
	}
}

// usedEvery is the number of seconds between two looks at what the files take.
const usedEvery = 10

// measureUsed notes what pebble's files take on the disk.
func (s *Store) measureUsed() {
	if s.useDB() != nil {
		return
	}
	defer s.inUse.Done()
	used := s.db.Metrics().DiskSpaceUsage()
	s.space.mu.Lock()
	if s.space.used = used; s.space.hasBallast {
		s.space.used += uint64(s.o.ballast)
	}
	s.space.mu.Unlock()
}

// outcome is the error of a call whose engine's rows could not be read.
func (s *Store) outcome(err error) error {
	if failure := s.Err(); failure != nil {
		return failure
	}
	return err
}
