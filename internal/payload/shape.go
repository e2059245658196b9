package payload

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// How Go types are encoded. Fields are named by their msgpack tags, those that have none by their
// json tags. A json tag that asks for what the encoder does not do is refused.

// fallbackTag is the tag of fields that have no msgpack tag.
const fallbackTag = "json"

// shape is what is known of a type.
type shape struct {
	// err says why values of the type are not encoded.
	err error
	// isOpaque says that the type has code of its own that encodes it.
	isOpaque bool
	// isFlat says that no value of the type is nested deeper than depth containers.
	isFlat bool
	depth  int
	// fields are those of a struct that may have containers in them.
	fields []shapeField
}

// shapeField is a field of a struct. If it isInlined, its own fields are encoded as those of the struct.
type shapeField struct {
	index     int
	isInlined bool
}

var shapes sync.Map // of *shape, by their reflect.Type

var (
	customEncoder = reflect.TypeFor[msgpack.CustomEncoder]()
	marshaler     = reflect.TypeFor[msgpack.Marshaler]()
	binaryMarshal = reflect.TypeFor[encoding.BinaryMarshaler]()
	textMarshal   = reflect.TypeFor[encoding.TextMarshaler]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	jsonNumber    = reflect.TypeFor[json.Number]()
	errorValue    = reflect.TypeFor[error]()
)

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	return findShape(t, map[reflect.Type]bool{})
}

// findShape finds the shape of a type. Those that are being looked at contain this one, and so themselves.
func findShape(t reflect.Type, outer map[reflect.Type]bool) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	if outer[t] {
		return &shape{}
	}
	outer[t] = true
	s := newShape(t, outer)
	delete(outer, t)
	shapes.Store(t, s)
	return s
}

func newShape(t reflect.Type, outer map[reflect.Type]bool) *shape {
	if t.Kind() == reflect.Pointer {
		if leadsToItself(t) {
			return &shape{err: fmt.Errorf("the type %v is a pointer to itself, and leads to no value", t)}
		}
		elem := findShape(t.Elem(), outer)
		if implements(t, customEncoder) || implements(t, marshaler) {
			return &shape{isOpaque: true}
		}
		return elem
	}
	switch {
	case implements(t, customEncoder), implements(t, marshaler):
		return &shape{isOpaque: true}
	case implements(t, binaryMarshal), implements(t, textMarshal):
		return &shape{isFlat: true}
	case t == errorValue:
		return &shape{isFlat: true}
	case t == jsonNumber:
		return &shape{err: fmt.Errorf("%v would be a string: convert it to a number", t)}
	case implements(t, jsonMarshaler):
		return &shape{err: fmt.Errorf("%v encodes itself as JSON only (MarshalJSON): give it EncodeMsgpack, or convert it to a map", t)}
	}
	switch t.Kind() {
	case reflect.Interface:
		return &shape{}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return &shape{isFlat: true}
		}
		return containerOf(findShape(t.Elem(), outer))
	case reflect.Map:
		return containerOf(findShape(t.Key(), outer), findShape(t.Elem(), outer))
	case reflect.Struct:
		return structShape(t, outer)
	}
	return &shape{isFlat: true}
}

// containerOf returns the shape of what has values of those shapes in it.
func containerOf(items ...*shape) *shape {
	s := &shape{isFlat: true, depth: 1}
	for _, item := range items {
		if item.err != nil {
			return item
		}
		s.isFlat = s.isFlat && item.isFlat
		s.depth = max(s.depth, 1+item.depth)
	}
	return s
}

func structShape(t reflect.Type, outer map[reflect.Type]bool) *shape {
	if name := embedsItself(t, map[reflect.Type]bool{}); name != "" {
		return &shape{err: fmt.Errorf("the struct %v has itself as the embedded field %s", t, name)}
	}
	s := &shape{isFlat: true, depth: 1}
	for k := range t.NumField() {
		f := t.Field(k)
		name, options := fieldTag(f)
		if name == "-" || (!f.IsExported() && !f.Anonymous) {
			continue
		}
		if f.Tag.Get("msgpack") == "" {
			if err := jsonTagError(t, f, name, options); err != nil {
				return &shape{err: err}
			}
		}
		field := findShape(f.Type, outer)
		if field.err != nil {
			return &shape{err: fmt.Errorf("%v.%s: %w", t, f.Name, field.err)}
		}
		s.isFlat = s.isFlat && field.isFlat
		if !field.isFlat || field.depth > 0 {
			s.fields = append(s.fields, shapeField{index: k, isInlined: isInlined(f)})
		}
		s.depth = max(s.depth, 1+field.depth)
	}
	return s
}

// isInlined reports whether the fields of an embedded struct are encoded as those of the struct around it.
func isInlined(f reflect.StructField) bool {
	inner := structIn(f.Type)
	if !f.Anonymous || inner.Kind() != reflect.Struct {
		return false
	}
	name, options := fieldTag(f)
	return name != "-" && !slices.Contains(strings.Split(options, ","), "noinline") && !encodesItself(inner)
}

// embedsItself returns the name of the embedded field by which a struct has itself as a part of itself, or "". Its list
// of fields would have no end. outer are the structs that have this one embedded.
func embedsItself(t reflect.Type, outer map[reflect.Type]bool) string {
	outer[t] = true
	defer delete(outer, t)
	for k := range t.NumField() {
		f := t.Field(k)
		if !isInlined(f) {
			continue
		}
		inner := structIn(f.Type)
		if outer[inner] || embedsItself(inner, outer) != "" {
			return f.Name
		}
	}
	return ""
}

// encodesItself reports whether a type has code of its own that encodes it.
func encodesItself(t reflect.Type) bool {
	return slices.ContainsFunc([]reflect.Type{customEncoder, marshaler, binaryMarshal, textMarshal},
		func(i reflect.Type) bool { return implements(t, i) })
}

// jsonTagError says what a field's json tag asks for that is not done.
func jsonTagError(t reflect.Type, f reflect.StructField, name, options string) error {
	for option := range strings.SplitSeq(options, ",") {
		if option == "string" || option == "omitzero" {
			return fmt.Errorf("%v.%s: the option %q of its json tag is not known here: give the field a msgpack tag",
				t, f.Name, option)
		}
	}
	if f.Anonymous && name != "" {
		return fmt.Errorf("%v.%s: an embedded field is not named by its json tag: give it a name, or the tag `msgpack:\"%s,noinline\"`",
			t, f.Name, name)
	}
	return nil
}

// fieldTag returns the name and the options of the tag that counts.
func fieldTag(f reflect.StructField) (name, options string) {
	tag := f.Tag.Get("msgpack")
	if tag == "" {
		tag = f.Tag.Get(fallbackTag)
	}
	name, options, _ = strings.Cut(tag, ",")
	return name, options
}

// implements reports whether values of a type, or pointers to them, implement an interface.
func implements(t, i reflect.Type) bool {
	return t.Implements(i) || (t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface &&
		reflect.PointerTo(t).Implements(i))
}

// structIn returns the type that a type points to, however often.
func structIn(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer && !leadsToItself(t) {
		t = t.Elem()
	}
	return t
}

// leadsToItself reports whether a pointer type has no end.
func leadsToItself(t reflect.Type) bool {
	seen := map[reflect.Type]bool{}
	for ; t.Kind() == reflect.Pointer; t = t.Elem() {
		if seen[t] {
			return true
		}
		seen[t] = true
	}
	return false
}
