package host

import (
	"bytes"
	"errors"
	"fmt"
	"hypertoken/internal/engine"
	"math"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/wasm"
)

// How a caller's value becomes MessagePack. The value may be anything: it may contain itself, and it
// may be larger than memory once it is encoded. So it is walked before it is encoded, as deep as
// MaxDepth lets it, and what is encoded is bounded while it is written.

// payloadLimits bound a value. The options that they come from are named in errors.
type payloadLimits struct {
	depth, maxDepth int
	bytes           int
	option          string // that bytes come from
}

// setupDepth is how much deeper than a payload a setup may be nested: it has tokens in lists.
const setupDepth = 16

func (o *Options) payloadLimits() payloadLimits {
	return payloadLimits{depth: o.MaxDepth, maxDepth: o.MaxDepth, bytes: o.MaxPayload, option: "MaxPayload"}
}

func (o *Options) setupLimits() payloadLimits {
	most := min(2*o.MaxStateBytes+engine.StreamSlack, int64(math.MaxInt))
	return payloadLimits{depth: o.MaxDepth + setupDepth, maxDepth: o.MaxDepth, bytes: int(most), option: "MaxStateBytes"}
}

// payloadBuffer is the buffer that a value is encoded to. It takes no more than its limit.
type payloadBuffer struct {
	bytes   []byte
	most    int
	nesting wasm.Nesting // of what code of the caller writes
	follows bool
	// failure is the first error of a write. Code of the caller may have ignored it.
	failure error
}

var payloadBuffers = sync.Pool{New: func() any { return new(payloadBuffer) }}

// errFull is returned if a value has more bytes than it may.
var errFull = errors.New("too many bytes")

// Write implements [io.Writer].
func (b *payloadBuffer) Write(p []byte) (int, error) {
	if len(p) > b.most-len(b.bytes) {
		b.failure = errFull
		return 0, errFull
	}
	b.bytes = append(b.bytes, p...)
	return len(p), b.follow()
}

// WriteByte implements [io.ByteWriter].
func (b *payloadBuffer) WriteByte(c byte) error {
	if len(b.bytes) >= b.most {
		b.failure = errFull
		return errFull
	}
	b.bytes = append(b.bytes, c)
	return b.follow()
}

// follow looks at what was written last.
func (b *payloadBuffer) follow() error {
	if b.follows && b.failure == nil {
		b.failure = b.nesting.Follow(b.bytes)
	}
	return b.failure
}

// free lets another call have the buffer. Then the bytes that were encoded are gone.
func (b *payloadBuffer) free() {
	if cap(b.bytes) > keptPayload {
		b.bytes = nil
	}
	payloadBuffers.Put(b)
}

// keptPayload is how large a buffer may be that is used again, in bytes.
const keptPayload = 64 << 10

// encode turns a value into MessagePack, which lies in b. It fails with ErrBadInput for a value that
// can't be encoded, that is nested too deep or that contains itself, and with ErrPayloadTooLarge. what
// names the value.
func (b *payloadBuffer) encode(what string, value any, limits payloadLimits) ([]byte, error) {
	w := payloadWalk{depth: limits.depth, budget: limits.bytes}
	if err := w.any(value, 0); err != nil {
		return nil, payloadError(what, value, limits, err)
	}
	b.bytes, b.most, b.follows, b.failure = b.bytes[:0], limits.bytes, w.opaque, nil
	if w.opaque {
		b.nesting = wasm.Nesting{Most: limits.depth}
	}
	err := b.write(value)
	if b.failure != nil {
		err = b.failure
	}
	if err != nil {
		return nil, payloadError(what, value, limits, err)
	}
	return b.bytes, nil
}

// write encodes a value. A panic of the value's own code, such as its MarshalText, is an error.
func (b *payloadBuffer) write(value any) (err error) {
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

func payloadError(what string, value any, limits payloadLimits, err error) error {
	switch {
	case errors.Is(err, errFull):
		return &Error{Code: ErrPayloadTooLarge.Code,
			Message: fmt.Sprintf("%s: a payload of type %T has more bytes than %d (%s)", what, value, limits.bytes, limits.option)}
	case errors.Is(err, wasm.ErrNested):
		return badInput("%s: a payload of type %T is nested more than %d levels deep (MaxDepth is %d), or contains itself",
			what, value, limits.depth, limits.maxDepth)
	case errors.Is(err, errPointers):
		return badInput("%s: a payload of type %T has a chain of more than %d pointers, which leads to no value or to itself (MaxDepth is %d)",
			what, value, mostPointers, limits.maxDepth)
	}
	return &Error{Code: ErrBadInput.Code, Message: fmt.Sprintf("%s: a payload of type %T can't be encoded: %v", what, value, err), Err: err}
}

// mostPointers is how many pointers and interfaces may lie between two containers: they are no levels
// of what is encoded.
const mostPointers = 100

var errPointers = errors.New("too many pointers")

// payloadWalk looks at a value before it is encoded. Each value that it visits is a byte of what is
// encoded at least, so the budget in bytes bounds it, too: few values may contain each other in very
// many ways.
type payloadWalk struct {
	depth  int // how many containers may be open
	budget int
	// opaque says that code of the caller encodes a part of the value.
	opaque bool
}

func (w *payloadWalk) spend(bytes int) error {
	if w.budget -= bytes; w.budget < 0 {
		return errFull
	}
	return nil
}

// enter begins a container of so many items that lies in depth others. An empty one is no level.
func (w *payloadWalk) enter(depth, items int) error {
	if depth >= w.depth && items > 0 {
		return wasm.ErrNested
	}
	return w.spend(1)
}

// any visits a value that lies in depth containers.
func (w *payloadWalk) any(value any, depth int) error {
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
func (w *payloadWalk) value(v reflect.Value, depth int) error {
	var shape *payloadShape
	for pointers := 0; ; pointers++ {
		if !v.IsValid() {
			return w.spend(1)
		}
		if shape = shapeOf(v.Type()); shape.err != nil {
			return shape.err
		}
		if shape.isOpaque || w.fits(shape, depth) || (v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface) {
			break
		}
		if pointers == mostPointers {
			return errPointers
		}
		v = v.Elem()
	}
	switch {
	case shape.isOpaque:
		w.opaque = true
		return w.spend(1)
	case w.fits(shape, depth):
		return w.spend(1)
	}
	return w.container(v, shape, depth)
}

// fits reports whether no value of a type is nested too deep, at that depth.
func (w *payloadWalk) fits(shape *payloadShape, depth int) bool {
	return shape.isFlat && depth+shape.depth <= w.depth
}

// container visits what is in a map, a slice, an array or a struct.
func (w *payloadWalk) container(v reflect.Value, shape *payloadShape, depth int) error {
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
		for _, field := range shape.fields {
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

// decode decodes what was scanned before.
func decode(b []byte, v any) error {
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
