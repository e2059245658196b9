package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// historyStore is what the store in memory can do.
type historyStore interface {
	journal.Store
	journal.Lister
	journal.Historian
}

// choosingStore is a store in memory whose journals are to be with one core.
type choosingStore struct {
	historyStore
	mu      sync.Mutex // guards what follows
	target  string     // the hash of that core
	refused chan struct{}
}

// choose says which core it is from now on.
func (s *choosingStore) choose(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = hash
}

func (s *choosingStore) MayUpgrade(hash string, done journal.Done) {
	s.mu.Lock()
	isTarget := hash == s.target
	s.mu.Unlock()
	if isTarget {
		done.Report(nil)
		return
	}
	select {
	case s.refused <- struct{}{}:
	default:
	}
	done.Report(journal.ErrNotTarget)
}

// While clients play, the server goes on with a host that has another core: each line is answered, in its
// order. A line for an engine that is with the other core already waits for that host.
func TestChangeHost(t *testing.T) {
	store := &choosingStore{historyStore: journal.NewMemoryWith(journal.MemoryOptions{}).(historyStore),
		refused: make(chan struct{}, 1)}
	s := startNode(t, store)
	former := s.host
	newer, err := host.New(t.Context(), host.Options{InProcess: true, Store: store, Core: cores.Example,
		Cores: [][]byte{wasm.Builtin()}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = newer.Shutdown(context.Background()) })
	store.choose(newer.CoreHash())
	late, err := newer.Open(t.Context(), "late", host.EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	const players, before = 3, 20
	var playing, begun sync.WaitGroup
	enough := make(chan struct{})
	begun.Add(players)
	for k := range players {
		name := fmt.Sprint("e", k)
		s.want(name, `{"setup":{}}`, http.StatusOK, `"ok":true`)
		playing.Go(func() {
			afterwards := -1 // how many lines are still to be sent once the host has changed
			for n := 1; afterwards != 0; n++ {
				line := fmt.Sprintf(`{"type":"game:setProperty","payload":{"key":"n","value":%d}}`, n)
				status, body, err := s.try("POST", "/v1/engines/"+name, strings.NewReader(line))
				if err != nil || status != http.StatusOK || strings.Contains(body, `"error"`) {
					t.Errorf("%s, line %d: %d %s, %v", name, n, status, body, err)
					break
				}
				if n == before {
					begun.Done()
				}
				select {
				case <-enough:
					if afterwards--; afterwards < 0 {
						afterwards = before
					}
				default:
				}
			}
		})
	}
	begun.Wait()
	waiting := make(chan string, 1)
	go func() {
		_, body, err := s.try("POST", "/v1/engines/late", strings.NewReader(`{"digest":true}`))
		waiting <- fmt.Sprint(body, err)
	}()
	<-store.refused
	s.ChangeHost(t.Context(), newer)
	for range former.Engines() {
		t.Error("an engine is still open on the former host")
	}
	if err := former.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if body := <-waiting; !strings.Contains(body, `"digest"`) || strings.Contains(body, "error") {
		t.Errorf("the line that waited got %s", body)
	}
	close(enough)
	playing.Wait()
	for k := range players {
		if _, body := s.do("GET", fmt.Sprint("/v1/engines/e", k), ""); !strings.Contains(body, newer.CoreHash()) {
			t.Errorf("an engine is %s, want the core %s", body, newer.CoreHash())
		}
		// Each change is there once, beside the marker of the upgrade.
		_, body := s.do("GET", fmt.Sprintf("/v1/engines/e%d/journal?from=0", k), "")
		if n, markers := strings.Count(body, "game:setProperty"), strings.Count(body, `"marker":"upgrade"`); markers != 1 ||
			n < 2*before {
			t.Errorf("the history has %d changes and %d upgrades", n, markers)
		}
	}
	_, metrics, err := s.try("GET", "/metrics", strings.NewReader(""))
	if err != nil || !strings.Contains(metrics, "hypertoken_placings_total") {
		t.Errorf("%v, metrics: %s", err, short(metrics))
	}
}
