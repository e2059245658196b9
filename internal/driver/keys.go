package driver

// shedKeys makes engines forget keys while those of all engines take more than MaxKeyBytes: the
// engine whose keys take most forgets the older half of them. No engine's lock is held.
func (h *Engines) shedKeys() {
	for h.keyBytes.Load() > h.config.MaxKeyBytes {
		var largest *Driver
		most := int64(-1)
		h.mu.Lock()
		for _, e := range h.drivers {
			if n := e.keys.Bytes(); n > most || (n == most && e.number < largest.number) {
				largest, most = e, n
			}
		}
		h.mu.Unlock()
		if largest == nil {
			return // it has just been closed
		}
		largest.mu.Lock()
		forgot := largest.keys.Shrink(largest.keys.Bytes()/2, 0)
		if forgot {
			largest.m.KeysShed(largest.now())
			largest.performLocked()
		}
		largest.unlockAndDeliver(false)
		if !forgot {
			return
		}
	}
}
