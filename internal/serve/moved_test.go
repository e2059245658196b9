package serve

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/journal"
)

// movingStore is a store in memory. While isAway is set, it says that another node has all journals.
type movingStore struct {
	journal.Store
	isAway atomic.Bool
}

var errElsewhere = fmt.Errorf("the slot 7 belongs to another node: %w", journal.ErrNotOwner)

func (s *movingStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	if s.isAway.Load() {
		done(nil, errElsewhere)
		return
	}
	s.Store.Load(name, owner, done)
}

func (s *movingStore) Append(name string, o journal.Owner, after uint64, g []journal.Record, done journal.Done) {
	if s.isAway.Load() {
		done.Report(errElsewhere)
		return
	}
	s.Store.Append(name, o, after, g, done)
}

// A line to an engine that another node has fails, and had no effect. Once the engine is back, it is
// opened by the next line.
func TestAnEngineThatMovesAwayAndBack(t *testing.T) {
	store := &movingStore{Store: journal.NewMemory()}
	s := start(t, host.Options{InProcess: true, Store: store}, func(o *Options) { o.IsDurable = true })
	const draw = `{"type":"stack:draw"}`
	s.want("e", deck+draw, http.StatusOK, `{"n":1,"result":[{"id":"c"}]}`)
	store.isAway.Store(true)
	s.want("e", draw, http.StatusOK, `{"n":1,"error":{"code":"moved","message":"stack:draw: another owner has`)
	s.want("e", draw, http.StatusServiceUnavailable, `"code":"moved"`)
	store.isAway.Store(false)
	s.want("e", draw, http.StatusOK, `{"n":1,"result":[{"id":"b"}]}`)
	if status, body := s.do("DELETE", "/v1/engines/e", ""); status != http.StatusNoContent {
		t.Errorf("got %d %s", status, body)
	}
}

// heldStore is a store in memory that hands over the first load, and does not answer it.
type heldStore struct {
	journal.Store
	isHolding atomic.Bool
	held      chan func(*journal.Stored, error)
}

func (s *heldStore) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	if s.isHolding.CompareAndSwap(true, false) {
		s.held <- done
		return
	}
	s.Store.Load(name, owner, done)
}

// While an engine is being made, nobody knows whether there will be one: a setup that comes meanwhile is
// not told that it exists.
func TestASetupWhileAnotherOneIsOnItsWay(t *testing.T) {
	store := &heldStore{Store: journal.NewMemory(), held: make(chan func(*journal.Stored, error), 1)}
	s := start(t, host.Options{InProcess: true, Store: store}, func(o *Options) { o.IsDurable = true })
	store.isHolding.Store(true)
	first := make(chan string)
	go func() {
		_, body, err := s.try("POST", "/v1/engines/e", strings.NewReader(deck))
		first <- fmt.Sprint(body, err)
	}()
	fail := <-store.held
	s.want("e", `{"setup":{},"timeout":20}`, http.StatusUnprocessableEntity, `"code":"timeout"`)
	second := make(chan string)
	go func() {
		_, body, err := s.try("POST", "/v1/engines/e", strings.NewReader(deck))
		second <- fmt.Sprint(body, err)
	}()
	fail(nil, errElsewhere)
	if body := <-first; !strings.Contains(body, `"code":"moved"`) {
		t.Errorf("the first setup: %s", body)
	}
	if body := <-second; !strings.Contains(body, `{"ok":true}`) {
		t.Errorf("the second setup: %s", body)
	}
	s.want("e", deck, http.StatusConflict, `"code":"exists"`)
}

// A request may wait for longer than a write may take: it is refused all the same, and not cut off.
func TestARefusalAfterTheWriteTimeout(t *testing.T) {
	store := &heldStore{Store: journal.NewMemory(), held: make(chan func(*journal.Stored, error), 1)}
	store.isHolding.Store(true)
	s := start(t, host.Options{InProcess: true, Store: store}, func(o *Options) {
		o.IsDurable, o.WriteTimeout = true, 2*time.Second
	})
	s.want("e", `{"setup":{},"timeout":2500}`, http.StatusUnprocessableEntity, `"code":"timeout"`)
}
