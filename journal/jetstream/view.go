package jetstream

import (
	"context"
	"sync"
	"time"
)

// View is what the NATS servers said of the streams and of the slots at a moment.
type View struct {
	// At is when they were asked. It is zero if no answer has come yet.
	At time.Time
	// Streams are the streams of the store, and that of the members in a cluster.
	Streams []StreamState
	// Owners has the owner record of each slot. Its Epoch is 0 if nobody ever owned the slot, or if that
	// is not known.
	Owners []OwnerRecord
}

// StreamState is what the servers say of a stream.
type StreamState struct {
	Name string
	// Leader is the server that leads the stream; "" if none does, or if none has answered. Then Err says
	// why, and nothing else is known.
	Leader string
	Err    error
	// Messages and Bytes are what the leader has.
	Messages, Bytes uint64
	// Replicas are the copies on other servers than the leader.
	Replicas []Replica
}

// Replica is a copy of a stream, as the stream's leader sees it.
type Replica struct {
	Server string
	// IsCurrent says that it has what the leader has. While much is written, it often is a few writes
	// behind. IsOffline says that the leader has heard nothing of it for offlineAfter.
	IsCurrent, IsOffline bool
	// Lag is how many writes it is behind.
	Lag uint64
}

// Lag returns how many writes the replica of the stream is behind that is farthest behind.
func (s *StreamState) Lag() (most uint64) {
	for _, r := range s.Replicas {
		most = max(most, r.Lag)
	}
	return most
}

// questionEvery is how much time a view leaves for each question to the servers. With one stream of
// journals a view takes four.
const questionEvery = time.Second

// offlineAfter is how long a leader hears nothing of a replica until the replica counts as offline. A
// replica answers each second. The servers themselves do not say that one was killed.
const offlineAfter = 5 * time.Second

// viewer makes views. At most one is being made, and all who ask meanwhile wait for it.
type viewer struct {
	every time.Duration // questionEvery, but for tests

	mu     sync.Mutex // guards what follows
	last   View
	nextAt time.Time     // not before that are servers asked again
	ended  chan struct{} // closed when the view that is being made is there; nil if none is being made
}

// View returns what the servers say of the streams, and who owns the slots. However often it is called,
// it asks one question a second on average, so what it returns may be some seconds old. It waits for
// answers until ctx ends, and then returns the former view. The lists are shared: do not change them.
func (s *Store) View(ctx context.Context) View {
	v := &s.viewer
	v.mu.Lock()
	ended := v.ended
	isMine := ended == nil && !time.Now().Before(v.nextAt)
	if isMine {
		ended = make(chan struct{})
		v.ended = ended
		v.nextAt = time.Now().Add(time.Duration(s.questions()) * v.every)
	}
	v.mu.Unlock()
	if isMine {
		s.background(s.look, func(error) { v.end(nil) })
	}
	if ended != nil {
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// end says that a view was made; nil if the store is closed.
func (v *viewer) end(made *View) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if made != nil {
		v.last = *made
	}
	close(v.ended)
	v.ended = nil
}

// streamNames returns the names of the streams that a view has.
func (s *Store) streamNames() (names []string) {
	for p := range s.o.Streams {
		names = append(names, s.layout.journalStream(p), s.layout.pieceStream(p))
	}
	if _, isNode := s.o.Claims.(*Members); isNode {
		names = append(names, s.layout.memberStream())
	}
	return names
}

// questions returns how many questions a view takes: one for each stream, and one for the owners of the
// slots of each stream of journals.
func (s *Store) questions() int { return len(s.streamNames()) + s.o.Streams }

// look makes a view.
func (s *Store) look(ctx context.Context) {
	names := s.streamNames()
	made := View{At: time.Now(), Streams: make([]StreamState, len(names)), Owners: make([]OwnerRecord, Slots)}
	var asking sync.WaitGroup
	for k, name := range names {
		asking.Go(func() { made.Streams[k] = s.askStream(ctx, name) })
	}
	var mu sync.Mutex // guards made.Owners
	for p := range s.o.Streams {
		asking.Go(func() {
			for slot, owner := range s.askOwners(ctx, p) {
				mu.Lock()
				made.Owners[slot] = owner
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	s.viewer.end(&made)
}

// askStream asks the leader of a stream how the stream is.
func (s *Store) askStream(ctx context.Context, name string) StreamState {
	var info struct {
		State struct {
			Messages uint64 `json:"messages"`
			Bytes    uint64 `json:"bytes"`
		} `json:"state"`
		Cluster *struct {
			Leader   string `json:"leader"`
			Replicas []struct {
				Name    string `json:"name"`
				Current bool   `json:"current"`
				Offline bool   `json:"offline"`
				// Active is how long ago the leader heard of it, in nanoseconds.
				Active time.Duration `json:"active"`
				Lag    uint64        `json:"lag"`
			} `json:"replicas"`
		} `json:"cluster"`
	}
	err := s.conn.request(ctx, "$JS.API.STREAM.INFO."+name, struct{}{}, &info, s.o.AnswerTimeout)
	if err != nil {
		return StreamState{Name: name, Err: err}
	}
	state := StreamState{Name: name, Messages: info.State.Messages, Bytes: info.State.Bytes}
	if info.Cluster == nil { // a server that stands alone
		state.Leader = s.conn.nc.ConnectedServerName()
		return state
	}
	if state.Leader = info.Cluster.Leader; state.Leader == "" {
		return StreamState{Name: name, Err: errNoResponders}
	}
	for _, r := range info.Cluster.Replicas {
		isOffline := r.Offline || r.Active > offlineAfter
		state.Replicas = append(state.Replicas, Replica{r.Name, r.Current && !isOffline, isOffline, r.Lag})
	}
	return state
}

// askOwners returns the owner records of the slots of a stream, as any replica has them. If no replica
// answers, it returns nothing.
func (s *Store) askOwners(ctx context.Context, p int) map[int]OwnerRecord {
	found := map[int]OwnerRecord{}
	all := query{Last: []string{s.layout.ownerSubjects(p)}}
	list, _, err := s.conn.read(ctx, s.layout.journalStream(p), all, s.o.AnswerTimeout)
	if err != nil {
		return found
	}
	bySubject := map[string]message{}
	for _, m := range list {
		bySubject[m.subject] = m
	}
	for slot := range Slots {
		m, ok := bySubject[s.layout.ownerSubject(slot)]
		if !ok {
			continue
		}
		if owner, err := parseOwner(m.data, m.at); err == nil {
			found[slot] = owner
		}
	}
	return found
}

// viewPatience is how long a scrape waits for the servers.
const viewPatience = time.Second
