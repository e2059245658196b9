package driver

// Details are how an engine is, for tests.
type Details struct {
	// Sequence is that of its newest action.
	Sequence uint64
	// Keys is how many keys are remembered. Capacity and KeysCapacity are for how many requests, and
	// for how many keys, there is memory.
	Keys, Capacity, KeysCapacity int
}

// Details returns how the engine is.
func (e *Driver) Details() Details {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Details{Sequence: e.m.View().Sequence, Keys: e.keys.Len(), Capacity: e.m.Details().Capacity,
		KeysCapacity: e.keys.Cap()}
}
