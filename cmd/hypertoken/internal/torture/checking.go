package torture

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hypertoken/host"
)

// lives are the engines that live at once, and the checks of those whose life has ended.
type lives struct {
	ended            chan *history // each live sends the histories of its engines
	living, checking sync.WaitGroup
}

// startLives calls live for each slot, on a goroutine of its own. Another goroutine calls check for
// each history that comes through ended, one after the other; fail is told of its errors. The
// caller calls wait.
func startLives(slots int, ended chan *history, live func(slot int), check func(*history) error,
	fail func(error)) *lives {
	l := &lives{ended: ended}
	for slot := range slots {
		l.living.Go(func() { live(slot) })
	}
	l.checking.Go(func() {
		for h := range ended {
			if err := check(h); err != nil {
				fail(err)
			}
		}
	})
	return l
}

// wait returns once all lives have ended and all histories are checked. It calls lived in between.
func (l *lives) wait(lived func()) {
	l.living.Wait()
	close(l.ended)
	lived()
	l.checking.Wait()
}

// checkOnModel checks a history against a fresh engine of the host models. It returns the
// violations; its error says that the check could not run. suspectWait is how long a suspect waits
// for a worker before it fails; 0 if there was always a worker.
func checkOnModel(ctx context.Context, models *host.Host, h *history, suspectWait time.Duration) ([]Violation, error) {
	model, err := models.Open(ctx, h.engine, host.EngineOptions{Setup: h.setup})
	if err != nil {
		return nil, fmt.Errorf("the model of %s: %w", h.engine, err)
	}
	found, err := check(ctx, h, model, suspectWait)
	if err != nil {
		return nil, fmt.Errorf("checking %s: %w", h.engine, err)
	}
	if err := model.Delete(ctx); err != nil {
		return nil, fmt.Errorf("the model of %s: %w", h.engine, err)
	}
	return found, nil
}
