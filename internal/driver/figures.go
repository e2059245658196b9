package driver

import (
	"time"

	"hypertoken/internal/clock"
	"hypertoken/internal/measure"
	"hypertoken/internal/pool"
	"hypertoken/internal/queue"
)

// What may be read of the engines of a host, at any time, also after Shutdown.

// Counts returns what is always counted.
func (h *Engines) Counts() *measure.Counts { return &h.counts }

// Recorder returns what is measured, nil if nothing is.
func (h *Engines) Recorder() *measure.Recorder { return h.measure.Load() }

// Pool returns the workers, for their figures.
func (h *Engines) Pool() *pool.Pool { return h.pool }

// Queue returns the queue, for its figures.
func (h *Engines) Queue() *queue.Queue { return h.queue }

// Clock returns the clock.
func (h *Engines) Clock() *clock.Clock { return &h.clock }

// Started returns when the clock of measurements was 0.
func (h *Engines) Started() time.Time { return h.started }

// KeyBytes returns what the keys of all engines take.
func (h *Engines) KeyBytes() int64 { return h.keyBytes.Load() }

// Residents returns how many engines have a place in this process.
func (h *Engines) Residents() int { return h.scheduler.Residents() }

// ByPlace counts the open engines by their places, and those that are held back.
func (h *Engines) ByPlace() (engines [InProcess + 1]int, held int) {
	now := h.clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.drivers {
		engines[e.Place()]++
		if e.heldUntil.Load() > int64(now) {
			held++
		}
	}
	return engines, held
}

// stamp returns the time for measurements.
func (h *Engines) stamp() time.Duration { return time.Since(h.started) }

// measures reports whether somebody wants to know when what happens.
func (h *Engines) measures() bool { return h.measure.Load() != nil || h.config.Tracer != nil }
