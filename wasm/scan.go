package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxNesting is how deep a value is followed: more than any core may answer.
const maxNesting = 256

var errShort = errors.New("a value ends early")

// Scan returns the size of the MessagePack value at the start of b, in bytes. It fails for a value
// that is cut short, that is nested more than 256 levels deep, or that has an extension or the
// byte 0xc1.
//
// Everything that comes from a core or a worker is scanned before it is decoded. A decoder follows
// nested values by recursion, and allocates as much as a length claims. Scan does neither: its
// time is at most proportional to the value's size, and it needs no further memory, whatever the
// bytes are.
func Scan(b []byte) (int, error) {
	var left [maxNesting]uint64 // the items that are still to come, for each open container
	depth, at := 0, uint64(0)
	for {
		items, size, err := head(b[at:])
		if err != nil {
			return 0, err
		}
		if at += size; at > uint64(len(b)) {
			return 0, errShort
		}
		if items > 0 {
			if items > uint64(len(b))-at {
				return 0, errShort
			}
			if depth == maxNesting {
				return 0, fmt.Errorf("a value is nested more than %d levels deep", maxNesting)
			}
			left[depth] = items
			depth++
			continue
		}
		for depth > 0 {
			if left[depth-1]--; left[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			return int(at), nil
		}
	}
}

// head reads how a value begins: the items of a container, a map's keys among them, and its size
// without them, in bytes.
func head(b []byte) (items, size uint64, err error) {
	if len(b) == 0 {
		return 0, 0, errShort
	}
	// length reads the n bytes of a length.
	length := func(n int) (v uint64) {
		if len(b) < 1+n {
			err = errShort
			return 0
		}
		var wide [8]byte
		copy(wide[8-n:], b[1:1+n])
		return binary.BigEndian.Uint64(wide[:])
	}
	switch c := b[0]; {
	case c < 0x80 || c >= 0xe0 || c == 0xc0 || c == 0xc2 || c == 0xc3:
		return 0, 1, nil
	case c < 0x90:
		return 2 * uint64(c&0x0f), 1, nil
	case c < 0xa0:
		return uint64(c & 0x0f), 1, nil
	case c < 0xc0:
		return 0, 1 + uint64(c&0x1f), nil
	case c >= 0xc4 && c <= 0xc6: // a byte string
		n := 1 << (c - 0xc4)
		return 0, uint64(1+n) + length(n), err
	case c == 0xca:
		return 0, 5, nil
	case c == 0xcb:
		return 0, 9, nil
	case c >= 0xcc && c <= 0xd3: // an integer
		return 0, 1 + 1<<(c&3), nil
	case c >= 0xd9 && c <= 0xdb: // a string
		n := 1 << (c - 0xd9)
		return 0, uint64(1+n) + length(n), err
	case c == 0xdc || c == 0xdd:
		n := 2 << (c - 0xdc)
		return length(n), uint64(1 + n), err
	case c == 0xde || c == 0xdf:
		n := 2 << (c - 0xde)
		return 2 * length(n), uint64(1 + n), err
	default:
		return 0, 0, fmt.Errorf("the byte %#x begins no value", c)
	}
}

// Nesting follows MessagePack while it is written, by code that may be anything.
type Nesting struct {
	// Most is how many containers may be open at once.
	Most int
	at   uint64
	left []uint64
}

// ErrNested is returned by [Nesting.Follow] if more containers are open than may be.
var ErrNested = errors.New("a value is nested too deep")

// Follow scans the bytes that were added to b since the last call; b is everything that was
// written so far. It fails with [ErrNested], and for a byte that begins no value. b may have
// several values, one after the other.
func (n *Nesting) Follow(b []byte) error {
	for n.at < uint64(len(b)) {
		items, size, err := head(b[n.at:])
		if errors.Is(err, errShort) {
			return nil // the rest of a length is still to come
		}
		if err != nil {
			return err
		}
		n.at += size
		if items > 0 {
			if len(n.left) == n.Most {
				return ErrNested
			}
			n.left = append(n.left, items)
			continue
		}
		for k := len(n.left) - 1; k >= 0; k-- {
			if n.left[k]--; n.left[k] > 0 {
				break
			}
			n.left = n.left[:k]
		}
	}
	return nil
}
