package jetstream

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A view has the streams and the owners of slots. However many ask, the servers are asked once.
func TestView(t *testing.T) {
	o := shared(t).options(newName())
	o.AnswerTimeout, o.Patience = time.Minute, time.Minute
	s := openStore(t, o)
	s.viewer.every = time.Millisecond
	c := client{t, s}
	c.must(c.install("a", ownerOf(1, 1), setup()))
	c.waitFor("the view has the owner of the slot", func() bool { // replicas may be behind
		v := s.View(t.Context())
		return v.Owners[SlotOf("a")].Node == s.o.Node && v.Streams[0].Messages >= 2 && v.Streams[0].Bytes > 0 &&
			v.Streams[0].Leader != "" && v.Streams[1].Leader != ""
	})
	askAgainAfter := func(every time.Duration) {
		s.viewer.mu.Lock()
		defer s.viewer.mu.Unlock()
		s.viewer.every, s.viewer.nextAt = every, time.Time{}
	}
	askAgainAfter(time.Hour)
	var asking sync.WaitGroup
	views := make([]View, 16)
	for k := range views {
		asking.Go(func() { views[k] = s.View(t.Context()) })
	}
	asking.Wait()
	v := views[0]
	for _, other := range views {
		if v.At.IsZero() || !v.At.Equal(other.At) {
			t.Fatalf("views of %v and %v", v.At, other.At)
		}
	}
	if len(v.Streams) != 2 || v.Streams[0].Name != s.layout.journalStream(0) ||
		v.Streams[1].Name != s.layout.pieceStream(0) || len(v.Streams[0].Replicas) != len(shared(t).list)-1 {
		t.Fatalf("%+v", v.Streams)
	}
	for slot, owner := range v.Owners {
		if slot != SlotOf("a") && owner.Epoch > 0 {
			t.Errorf("the slot %d: %+v", slot, owner)
		}
	}
	c.must(s.Close())
	askAgainAfter(time.Hour)
	if again := s.View(t.Context()); !again.At.Equal(v.At) {
		t.Errorf("after Close it is the view of %v, want that of %v", again.At, v.At)
	}
}

// Who does not want to wait for the servers gets the former view. If no server answers, no stream has a
// leader.
func TestViewOfServersThatDoNotAnswer(t *testing.T) {
	s, _ := quickStore(t)
	nothing := func(*nats.Msg) error { return nil }
	s.conn.seam.Store(&nothing)
	ended, end := context.WithCancel(t.Context())
	end()
	if v := s.View(ended); !v.At.IsZero() {
		t.Errorf("%+v", v)
	}
	v := s.View(t.Context())
	for _, st := range v.Streams {
		if st.Leader != "" || st.Err == nil {
			t.Errorf("%+v", st)
		}
	}
	if v.At.IsZero() || len(v.Streams) != 2 {
		t.Errorf("%+v", v)
	}
}

// What the leader of a stream says, or who says that there is none.
func TestViewOfAStream(t *testing.T) {
	s, _ := quickStore(t)
	for _, row := range []struct {
		name, answer string
		want         StreamState
		lag          uint64
	}{
		{"a leader and its replicas", `{"state":{"messages":7,"bytes":99},"cluster":{"leader":"n2","replicas":[
			{"name":"n1","current":true,"active":1},{"name":"n3","current":false,"lag":5},
			{"name":"n4","current":true,"offline":true,"lag":3},{"name":"n5","current":true,"active":5000000001}]}}`,
			StreamState{Leader: "n2", Messages: 7, Bytes: 99, Replicas: []Replica{{"n1", true, false, 0},
				{"n3", false, false, 5}, {"n4", false, true, 3}, {"n5", false, true, 0}}}, 5},
		{"a stream of one", `{"state":{"messages":7,"bytes":99},"cluster":{"leader":"n2"}}`,
			StreamState{Leader: "n2", Messages: 7, Bytes: 99}, 0},
		{"no leader", `{"error":{"code":503,"err_code":10008,"description":"unavailable"}}`, StreamState{}, 0},
		{"a leader is being chosen", `{"state":{"messages":7},"cluster":{"leader":"","replicas":[{"name":"n1"}]}}`,
			StreamState{}, 0},
		{"nonsense", `{"state":5}`, StreamState{}, 0},
	} {
		answer := func(m *nats.Msg) error {
			s.conn.take(&nats.Msg{Subject: m.Reply, Data: []byte(row.answer)})
			return nil
		}
		s.conn.seam.Store(&answer)
		got := s.askStream(t.Context(), "s")
		if (got.Err == nil) != (row.want.Leader != "") {
			t.Errorf("%s: %v", row.name, got.Err)
		}
		got.Err, row.want.Name = nil, "s"
		if !reflect.DeepEqual(got, row.want) || got.Lag() != row.lag {
			t.Errorf("%s: %+v, lag %d", row.name, got, got.Lag())
		}
	}
	direct := s.conn.nc.PublishMsg
	s.conn.seam.Store(&direct)
}
