package scheduler

// What tests see of a scheduler, and how they hold it up.

// Details are how a scheduler is.
type Details struct {
	// Asks are the engines that wait for a place.
	Asks []AskDetails
	// SlotsFree is how many instances may still be made in this process.
	SlotsFree int
	// Placements counts the places that there were.
	Placements uint64
}

// AskDetails are those of an engine that waits for a place. Placement is 0 if no worker is reserved
// for it.
type AskDetails struct {
	Engine    Engine
	IsAlone   bool
	Placement uint64
}

// Details returns how the scheduler is.
func (s *Scheduler) Details() Details {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := Details{SlotsFree: s.slotsFree, Placements: s.placements}
	for _, a := range s.asks.All() {
		d.Asks = append(d.Asks, AskDetails{a.engine, a.isAlone, a.placement})
	}
	return d
}

// Hold has Assign do nothing until Release is called.
func (s *Scheduler) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isAssigning = true
}

// Release ends Hold. It does not call Assign.
func (s *Scheduler) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isAssigning = false
}

// Next decides what Assign would do next, and returns a function that does it; nil if there is
// nothing to do.
func (s *Scheduler) Next() (tell func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.nextLocked()
	if !ok {
		return nil
	}
	return func() { g.tell(g.engine) }
}
