package jetstream

import "sync"

// activity counts what is under way. Unlike a sync.WaitGroup it may be waited for while it is at zero
// and something else begins.
type activity struct {
	mu    sync.Mutex // guards what follows
	ended sync.Cond  // of mu; has a lock once somebody waits
	n     int
}

func (a *activity) Add(n int) {
	a.mu.Lock()
	a.n += n
	if a.n == 0 && a.ended.L != nil {
		a.ended.Broadcast()
	}
	a.mu.Unlock()
}

// Done says that something has ended.
func (a *activity) Done() { a.Add(-1) }

// Go runs f on a goroutine of its own.
func (a *activity) Go(f func()) {
	a.Add(1)
	go func() {
		defer a.Done()
		f()
	}()
}

// Wait waits until nothing is under way.
func (a *activity) Wait() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended.L == nil {
		a.ended.L = &a.mu
	}
	for a.n > 0 {
		a.ended.Wait()
	}
}
