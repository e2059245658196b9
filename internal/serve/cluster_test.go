package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"hypertoken/host"
	"hypertoken/internal/peers"
	"hypertoken/journal"
)

// The answer of /v1/cluster is what openapi.json says, with all that it may have and with as little as
// possible.
func TestClusterOverview(t *testing.T) {
	age := 0.125
	full := peers.Overview{Self: "a:1", Node: "0a", Lease: true, LeaseAge: &age, Slots: 3, AskedAt: time.Now(),
		Members: []peers.Member{
			{Address: "a:1", Node: "0a", Slots: 3, Version: "1", Cores: []string{"c"}, ABI: 1, Draining: true,
				Client: "http://a:2"}},
		Target: &peers.Target{Generation: 2, Core: "d", Former: "c"},
		Streams: []peers.Stream{{Name: "s", Leader: "n1", Messages: 1, Bytes: 2,
			Replicas: []peers.Replica{{Server: "n2", Current: true, Offline: true, Lag: 1}}},
			{Name: "t", Error: "no leader", Replicas: []peers.Replica{}}},
		Owners: []peers.SlotOwner{{Slot: 7, Address: "b:1", Node: "0b", Epoch: 2}}}
	bare := peers.Overview{Self: "a:1", Node: "0a", Members: []peers.Member{}, Streams: []peers.Stream{}}
	isBare := false
	p := peers.New(peers.Options{Self: "a:1", Secret: nodeSecret, Ready: func() string { return "" },
		Overview: func(ctx context.Context, hasOwners bool) peers.Overview {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("it may wait for ever")
			}
			o := full
			if isBare {
				o = bare
			}
			if !hasOwners {
				o.Owners = nil
			}
			return o
		}})
	t.Cleanup(p.Close)
	s := start(t, host.Options{InProcess: true, Store: journal.NewMemory()},
		func(o *Options) { o.IsDurable, o.Peers = true, p })
	_, document := s.do("GET", "/openapi.json", "")
	var d map[string]any
	if err := json.Unmarshal([]byte(document), &d); err != nil {
		t.Fatal(err)
	}
	schema := d
	for _, name := range []string{"paths", "/v1/cluster", "get", "responses", "200", "content", "application/json",
		"schema"} {
		schema = schema[name].(map[string]any)
	}
	for _, row := range []struct {
		path      string
		isBare    bool
		status    int
		hasOwners bool
	}{
		{"/v1/cluster", false, http.StatusOK, false},
		{"/v1/cluster?slots=0", false, http.StatusOK, false},
		{"/v1/cluster?slots=1", false, http.StatusOK, true},
		{"/v1/cluster?slots=1", true, http.StatusOK, false},
		{"/v1/cluster?slots=yes", false, http.StatusBadRequest, false},
		{"/v1/cluster?slots=", false, http.StatusBadRequest, false},
	} {
		isBare = row.isBare
		status, body := s.do("GET", row.path, "")
		if status != row.status {
			t.Errorf("%s: %d %s", row.path, status, body)
			continue
		}
		if status != http.StatusOK {
			continue
		}
		var answer map[string]any
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		if err := conforms(schema, answer); err != nil {
			t.Errorf("%s: %v: %s", row.path, err, body)
		}
		if _, has := answer["slot_owners"]; has != row.hasOwners {
			t.Errorf("%s: %s", row.path, body)
		}
		if wants, has := schema["properties"].(map[string]any), answer; row.hasOwners && len(wants) != len(has) {
			t.Errorf("the answer has %d members, openapi.json %d", len(has), len(wants))
		}
	}
}

// conforms fails if a value is not what a schema says, as far as types, members and items go.
func conforms(schema map[string]any, value any) error {
	types, _ := schema["type"].([]any)
	if one, ok := schema["type"].(string); ok {
		types = []any{one}
	}
	is := map[string]bool{}
	switch value.(type) {
	case map[string]any:
		is["object"] = true
	case []any:
		is["array"] = true
	case string:
		is["string"] = true
	case bool:
		is["boolean"] = true
	case float64:
		is["number"], is["integer"] = true, true
	case nil:
		is["null"] = true
	}
	if !slices.ContainsFunc(types, func(one any) bool { return is[one.(string)] }) {
		return fmt.Errorf("%v is no %v", value, types)
	}
	list, _ := value.([]any)
	for _, item := range list {
		if err := conforms(schema["items"].(map[string]any), item); err != nil {
			return err
		}
	}
	members, _ := value.(map[string]any)
	if members == nil {
		return nil
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := members[name.(string)]; !ok {
			return fmt.Errorf("there is no %v", name)
		}
	}
	for name, member := range members {
		of, ok := schema["properties"].(map[string]any)[name].(map[string]any)
		if !ok {
			return fmt.Errorf("%s is not described", name)
		}
		if err := conforms(of, member); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
