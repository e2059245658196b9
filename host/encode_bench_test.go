package host_test

import (
	"context"
	"testing"

	"hypertoken/host"
)

// What it costs to encode a payload: an action whose context has ended goes no further.
func BenchmarkPayload(b *testing.B) {
	type draw struct {
		Count int `msgpack:"count"`
	}
	h := newHost(b, host.Options{})
	e := open(b, h, "e", nil)
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	for _, c := range []struct {
		name    string
		payload any
	}{
		{"nil", nil},
		{"raw", host.Raw{0x81, 0xa5, 'c', 'o', 'u', 'n', 't', 1}},
		{"map", dict{"count": 1}},
		{"struct", draw{1}},
		{"nested map", dict{"zone": "hand", "card": map[string]any{"id": "a7", "tags": []any{"x", "y"}}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = e.Dispatch(ctx, "no:such", c.payload)
			}
		})
	}
}
