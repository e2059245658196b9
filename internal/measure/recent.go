package measure

import (
	"errors"
	"sync"
	"time"

	"hypertoken/internal/fault"
)

// RecentError is an error that a caller was told.
type RecentError struct {
	At             time.Time
	Engine, Action string
	Code           string
	// Message is cut after 512 bytes, and so is Action.
	Message string
}

// recentErrors are the last errors that callers were told.
type recentErrors struct {
	mu   sync.Mutex // guards what follows; a leaf
	list [maxRecent]RecentError
	n    int
}

const (
	maxRecent = 32
	// maxMessage is what is kept of a message, and of an action's name, in bytes.
	maxMessage = 512
)

func (l *recentErrors) add(at time.Time, engine, action string, err error) {
	r := RecentError{At: at, Engine: engine, Action: action[:min(len(action), maxMessage)], Code: fault.CodeOf(err),
		Message: err.Error()}
	var own *fault.Error
	var core *fault.ActionError
	switch {
	case errors.As(err, &own):
		r.Message = own.Message
	case errors.As(err, &core):
		r.Message = core.Message
	}
	r.Message = r.Message[:min(len(r.Message), maxMessage)]
	l.mu.Lock()
	l.list[l.n%maxRecent] = r
	l.n++
	l.mu.Unlock()
}

// RecentErrors returns the last 32 errors, newest first.
func (m *Recorder) RecentErrors() []RecentError {
	l := &m.recent
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []RecentError
	for k := l.n - 1; k >= max(0, l.n-maxRecent); k-- {
		list = append(list, l.list[k%maxRecent])
	}
	return list
}
