package describe_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/cmd/hypertoken/internal/describe"
	"hypertoken/host"
	"hypertoken/internal/trace"
	"hypertoken/wasm"
)

// fits returns an error that names the part of a value that does not have the shape; nil if it
// has.
func fits(c *describe.Core, s *describe.Shape, v any, at string) error {
	wrong := func() error { return fmt.Errorf("%s: want %s, got %T %v", at, s, v, v) }
	ok := true
	switch {
	case s.Literal != nil:
		ok = v == *s.Literal
	case s.Items != nil:
		items, isArray := v.([]any)
		for i, item := range items {
			if err := fits(c, s.Items, item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		ok = isArray
	case s.Values != nil:
		entries, isMap := v.(map[string]any)
		for k, value := range entries {
			if err := fits(c, s.Values, value, at+"."+k); err != nil {
				return err
			}
		}
		ok = isMap
	case s.OneOf != nil:
		var err error
		for _, o := range s.OneOf {
			if err = fits(c, o, v, at); err == nil {
				return nil
			}
		}
		return err
	default:
		switch s.Name {
		case "any":
		case "null":
			ok = v == nil
		case "bool":
			_, ok = v.(bool)
		case "string":
			_, ok = v.(string)
		case "number":
			_, ok = v.(float64)
		case "int":
			f, isNumber := v.(float64)
			ok = isNumber && f == math.Trunc(f)
		default:
			return fitsRecord(c, c.Record(s.Name), v, at)
		}
	}
	if !ok {
		return wrong()
	}
	return nil
}

func fitsRecord(c *describe.Core, r *describe.Record, v any, at string) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: want %s, got %T", at, r.Name, v)
	}
	known := map[string]bool{}
	for _, f := range r.Fields {
		known[f.Name] = true
		value, there := m[f.Name]
		switch {
		case there:
			if err := fits(c, f.Shape, value, at+"."+f.Name); err != nil {
				return err
			}
		case !f.Optional:
			return fmt.Errorf("%s: a %s without %s", at, r.Name, f.Name)
		}
	}
	for k, value := range m {
		if known[k] {
			continue
		}
		if r.Rest == nil {
			return fmt.Errorf("%s: a %s has no %s", at, r.Name, k)
		}
		if err := fits(c, r.Rest, value, at+"."+k); err != nil {
			return err
		}
	}
	return nil
}

// numbered decodes a value with all its numbers as float64.
func numbered(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := msgpack.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return floats(v)
}

func floats(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = floats(v[k])
		}
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
	case int8, int16, int32, int64, uint8, uint16, uint32, uint64:
		var f float64
		_, _ = fmt.Sscan(fmt.Sprint(v), &f)
		return f
	case float32:
		return float64(v)
	}
	return v
}

// shapeChecker is an engine that compares its results with the shapes of the core.
type shapeChecker struct {
	t        *testing.T
	instance *wasm.Instance
	core     *describe.Core
	// sent counts the actions, whose entropy it is.
	sent uint64
	// results counts the results of each action.
	results map[string]int
}

func (s *shapeChecker) Dispatch(ctx context.Context, step trace.Step) (trace.Outcome, error) {
	s.sent++
	action := wasm.Action{Now: step.Now, Type: step.Type, Payload: step.Payload}
	binary.LittleEndian.PutUint64(action.Entropy[:], s.sent)
	reply, err := s.instance.Dispatch(ctx, &action)
	if err != nil {
		return trace.Outcome{Failed: err}, nil
	}
	o := trace.Outcome{Result: bytes.Clone(reply.Result)}
	a := s.core.Action(step.Type)
	s.results[a.Name]++
	if err := fits(s.core, a.Result, numbered(s.t, o.Result), a.Name); err != nil {
		s.t.Errorf("the result is not as described: %v", err)
	}
	// The payload is as described too, since the action took it.
	payload, _ := numbered(s.t, append([]byte{}, step.Payload...)).(map[string]any)
	for _, f := range a.Fields {
		if v, ok := payload[f.Name]; ok {
			if err := fits(s.core, f.Shape, v, a.Name+"."+f.Name); err != nil {
				s.t.Errorf("the payload was taken, and is not as described: %v", err)
			}
		}
	}
	return o, nil
}

func (s *shapeChecker) Batch(context.Context, bool, []trace.Step) ([]trace.Outcome, error) {
	panic("single steps only")
}

func (s *shapeChecker) State(ctx context.Context) ([]byte, error) {
	var b []byte
	err := s.instance.State(ctx, func(chunk []byte) error {
		b = append(b, chunk...)
		return nil
	})
	if err == nil {
		if err := fits(s.core, &describe.Shape{Name: "State"}, numbered(s.t, b), "state"); err != nil {
			s.t.Errorf("the state is not as described: %v", err)
		}
	}
	return b, err
}

// Every result, state and setup of the traces, and every payload that an action took, has the
// shape that the core describes.
func TestShapesAreTrue(t *testing.T) {
	h, err := host.New(t.Context(), host.Options{InProcess: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	described, err := describe.Of(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	core, err := wasm.Compile(t.Context(), wasm.Builtin(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = core.Close(t.Context()) }()
	s := &shapeChecker{t: t, core: described, results: map[string]int{}}
	traces, err := trace.ReadDir("../../../../integration/testdata/conformance")
	if err != nil || len(traces) < 37 {
		t.Fatalf("%d traces found: %v", len(traces), err)
	}
	for _, tr := range traces {
		if len(tr.Setup) > 0 {
			if err := fits(described, &describe.Shape{Name: "Setup"}, numbered(t, tr.Setup), "setup"); err != nil {
				t.Errorf("the setup was taken, and is not as described: %v", err)
			}
		}
		if s.instance, err = core.Instantiate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.instance.Open(t.Context(), wasm.DefaultLimits, tr.Setup); err != nil {
			t.Fatal(err)
		}
		if report, err := (&trace.Verifier{}).Verify(t.Context(), tr, s); err != nil || report.Difference != nil {
			t.Fatalf("%s: %v %v", tr.Name, report.Difference, err)
		}
		_ = s.instance.Close(t.Context())
		if t.Failed() {
			t.Fatalf("in the trace %s", tr.Name)
		}
	}
	for _, a := range described.Actions {
		// source:removeStack is in no trace.
		if s.results[a.Name] == 0 && a.Name != "source:removeStack" {
			t.Errorf("no trace has a result of %s", a.Name)
		}
	}
}
