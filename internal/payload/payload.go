// Package payload turns a caller's value into MessagePack and back. The value may be anything: it
// may contain itself, and it may be larger than memory once it is encoded. So it is walked before
// it is encoded, no deeper than it may be nested, and what is encoded is bounded while it is
// written.
package payload

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/fault"
	"hypertoken/wasm"
)

// Limits bound a value. The options that they come from are named in errors.
type Limits struct {
	// Depth is how deep the value may be nested, MaxDepth the option that says so.
	Depth, MaxDepth int
	// Bytes is how many bytes the value may have once it is encoded, Option the name of the option that says so.
	Bytes  int
	Option string
}

// Buffer is the buffer that a value is encoded to. It takes no more than its limit.
type Buffer struct {
	bytes   []byte
	most    int
	nesting wasm.Nesting // of what code of the caller writes
	follows bool
	// failure is the first error of a write. Code of the caller may have ignored it.
	failure error
}

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// NewBuffer returns a buffer that nobody has. The caller calls Free once it is done with what was encoded.
func NewBuffer() *Buffer { return buffers.Get().(*Buffer) }

// errFull is returned if a value has more bytes than it may.
var errFull = errors.New("too many bytes")

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	if len(p) > b.most-len(b.bytes) {
		b.failure = errFull
		return 0, errFull
	}
	b.bytes = append(b.bytes, p...)
	return len(p), b.follow()
}

// WriteByte implements [io.ByteWriter].
func (b *Buffer) WriteByte(c byte) error {
	if len(b.bytes) >= b.most {
		b.failure = errFull
		return errFull
	}
	b.bytes = append(b.bytes, c)
	return b.follow()
}

// follow looks at what was written last.
func (b *Buffer) follow() error {
	if b.follows && b.failure == nil {
		b.failure = b.nesting.Follow(b.bytes)
	}
	return b.failure
}

// Free lets another call have the buffer. Then the bytes that were encoded are gone.
func (b *Buffer) Free() {
	if cap(b.bytes) > keptPayload {
		b.bytes = nil
	}
	buffers.Put(b)
}

// keptPayload is how large a buffer may be that is used again, in bytes.
const keptPayload = 64 << 10

// Encode turns a value into MessagePack, which lies in b. It fails with ErrBadInput for a value that
// can't be encoded, that is nested too deep or that contains itself, and with ErrPayloadTooLarge. what
// names the value.
func (b *Buffer) Encode(what string, value any, limits Limits) ([]byte, error) {
	w := walk{depth: limits.Depth, budget: limits.Bytes}
	if err := w.any(value, 0); err != nil {
		return nil, failureOf(what, value, limits, err)
	}
	b.bytes, b.most, b.follows, b.failure = b.bytes[:0], limits.Bytes, w.opaque, nil
	if w.opaque {
		b.nesting = wasm.Nesting{Most: limits.Depth}
	}
	err := b.write(value)
	if b.failure != nil {
		err = b.failure
	}
	if err != nil {
		return nil, failureOf(what, value, limits, err)
	}
	return b.bytes, nil
}

// write encodes a value. A panic of the value's own code, such as its MarshalText, is an error.
func (b *Buffer) write(value any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its encoder panicked: %v", p)
		}
	}()
	enc := msgpack.GetEncoder()
	enc.Reset(b)
	enc.UseCompactInts(true)
	enc.SetSortMapKeys(true)
	enc.SetCustomStructTag(fallbackTag)
	err = enc.Encode(value)
	enc.Reset(nil) // the pool keeps no buffer
	msgpack.PutEncoder(enc)
	return err
}

func failureOf(what string, value any, limits Limits, err error) error {
	switch {
	case errors.Is(err, errFull):
		return fault.ErrPayloadTooLarge.With("%s: a payload of type %T has more bytes than %d (%s)",
			what, value, limits.Bytes, limits.Option)
	case errors.Is(err, wasm.ErrNested):
		return fault.ErrBadInput.With("%s: a payload of type %T is nested more than %d levels deep (MaxDepth is %d), or contains itself",
			what, value, limits.Depth, limits.MaxDepth)
	case errors.Is(err, errPointers):
		return fault.ErrBadInput.With("%s: a payload of type %T has a chain of more than %d pointers, "+
			"which leads to no value or to itself (MaxDepth is %d)",
			what, value, mostPointers, limits.MaxDepth)
	}
	return fault.ErrBadInput.Because(err, "%s: a payload of type %T can't be encoded: %v", what, value, err)
}

// mostPointers is how many pointers and interfaces may lie between two containers: they are no levels
// of what is encoded.
const mostPointers = 100

var errPointers = errors.New("too many pointers")

// walk looks at a value before it is encoded. Each value that it visits is a byte of what is
// encoded at least, so the budget in bytes bounds it, too: few values may contain each other in very
// many ways.
type walk struct {
	depth  int // how many containers may be open
	budget int
	// opaque says that code of the caller encodes a part of the value.
	opaque bool
}

func (w *walk) spend(bytes int) error {
	if w.budget -= bytes; w.budget < 0 {
		return errFull
	}
	return nil
}

// enter begins a container of so many items that lies in depth others. An empty one is no level.
func (w *walk) enter(depth, items int) error {
	if depth >= w.depth && items > 0 {
		return wasm.ErrNested
	}
	return w.spend(1)
}

// any visits a value that lies in depth containers.
func (w *walk) any(value any, depth int) error {
	switch v := value.(type) {
	case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64:
		return w.spend(1)
	case string:
		return w.spend(1 + len(v))
	case map[string]any:
		if err := w.enter(depth, len(v)); err != nil {
			return err
		}
		for key, item := range v {
			if err := w.spend(1 + len(key)); err != nil {
				return err
			}
			if err := w.any(item, depth+1); err != nil {
				return err
			}
		}
		return nil
	case []any:
		if err := w.enter(depth, len(v)); err != nil {
			return err
		}
		for _, item := range v {
			if err := w.any(item, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return w.value(reflect.ValueOf(value), depth)
}

// value visits a value that lies in depth containers.
func (w *walk) value(v reflect.Value, depth int) error {
	var s *shape
	for pointers := 0; ; pointers++ {
		if !v.IsValid() {
			return w.spend(1)
		}
		if s = shapeOf(v.Type()); s.err != nil {
			return s.err
		}
		if s.isOpaque || w.fits(s, depth) || (v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface) {
			break
		}
		if pointers == mostPointers {
			return errPointers
		}
		v = v.Elem()
	}
	switch {
	case s.isOpaque:
		w.opaque = true
		return w.spend(1)
	case w.fits(s, depth):
		return w.spend(1)
	}
	return w.container(v, s, depth)
}

// fits reports whether no value of a type is nested too deep, at that depth.
func (w *walk) fits(s *shape, depth int) bool {
	return s.isFlat && depth+s.depth <= w.depth
}

// container visits what is in a map, a slice, an array or a struct.
func (w *walk) container(v reflect.Value, s *shape, depth int) error {
	items := 1
	if v.Kind() != reflect.Struct {
		items = v.Len()
	}
	if err := w.enter(depth, items); err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := w.value(it.Key(), depth+1); err != nil {
				return err
			}
			if err := w.value(it.Value(), depth+1); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		for k := range v.Len() {
			if err := w.value(v.Index(k), depth+1); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for _, field := range s.fields {
			f := v.Field(field.index)
			if f.IsZero() {
				continue // it may be left out
			}
			inner := depth + 1
			if field.isInlined {
				inner = depth
			}
			if err := w.value(f, inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// Decode decodes what was scanned before.
func Decode(b []byte, v any) error {
	if t := reflect.TypeOf(v); t != nil {
		if err := shapeOf(t).err; err != nil {
			return err
		}
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(b))
	dec.SetCustomStructTag(fallbackTag)
	err := dec.Decode(v)
	dec.Reset(nil) // the pool keeps no result
	return err
}
