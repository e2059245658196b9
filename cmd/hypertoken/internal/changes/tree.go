package changes

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"hypertoken/internal/msgjson"
)

// A value as a tree, in which equal parts are found by their sums.

// sum is a hash of a part, which does not depend on the order of members.
type sum [sha256.Size]byte

// shape is whether a part has parts of its own.
type shape uint8

const (
	scalar shape = iota
	array
	object
)

// node is a part of a value.
type node struct {
	kind  shape
	raw   []byte
	sum   sum
	keys  []string // of an object, sorted
	items []*node  // of an array, or of an object in the order of keys
	// identity is the same for two elements of arrays that are the same element. It is the sum of the
	// member "id" if hasID is true, and the sum of the whole otherwise.
	identity sum
	hasID    bool
}

// member returns a member of an object, or nil.
func (n *node) member(key string) *node {
	if k, has := slices.BinarySearch(n.keys, key); has {
		return n.items[k]
	}
	return nil
}

// maxDepth is how deep a value is read: more than any core may answer.
const maxDepth = 256

// read returns the tree of a value.
func read(value []byte) (*node, error) {
	r := reader{in: bytes.NewReader(value), value: value}
	r.dec = msgpack.NewDecoder(r.in)
	n, err := r.node(0)
	if err == nil && r.in.Len() > 0 {
		err = fmt.Errorf("%d bytes follow the value", r.in.Len())
	}
	return n, err
}

type reader struct {
	value []byte
	in    *bytes.Reader // what is not read yet of value
	dec   *msgpack.Decoder
}

// at returns how many bytes are read.
func (r *reader) at() int { return len(r.value) - r.in.Len() }

func (r *reader) node(depth int) (n *node, err error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d levels deep", maxDepth)
	}
	code, err := r.dec.PeekCode()
	if err != nil {
		return nil, err
	}
	n = &node{}
	start := r.at()
	switch {
	case msgpcode.IsFixedArray(code) || code == msgpcode.Array16 || code == msgpcode.Array32:
		err = r.array(n, depth)
	case msgpcode.IsFixedMap(code) || code == msgpcode.Map16 || code == msgpcode.Map32:
		err = r.object(n, depth)
	default:
		err = r.dec.Skip()
	}
	if err != nil {
		return nil, err
	}
	n.raw = r.value[start:r.at()]
	n.sum = n.sumOf()
	n.identity = n.sum
	if id := n.member("id"); n.kind == object && id != nil {
		n.identity, n.hasID = id.sum, true
	}
	return n, nil
}

func (r *reader) array(n *node, depth int) error {
	n.kind = array
	count, err := r.dec.DecodeArrayLen()
	for ; err == nil && count > 0; count-- {
		var item *node
		if item, err = r.node(depth + 1); err == nil {
			n.items = append(n.items, item)
		}
	}
	return err
}

func (r *reader) object(n *node, depth int) error {
	n.kind = object
	members := map[string]*node{}
	count, err := r.dec.DecodeMapLen()
	for ; err == nil && count > 0; count-- {
		var key string
		if key, err = r.dec.DecodeString(); err == nil {
			members[key], err = r.node(depth + 1)
			n.keys = append(n.keys, key)
		}
	}
	slices.Sort(n.keys)
	if err == nil && len(members) < len(n.keys) {
		return fmt.Errorf("an object has a key twice")
	}
	for _, key := range n.keys {
		n.items = append(n.items, members[key])
	}
	return err
}

// sumOf returns the sum of a part. Integers of one value have one sum, however they are encoded.
func (n *node) sumOf() sum {
	if n.kind == scalar {
		isFloat := n.raw[0] == msgpcode.Float || n.raw[0] == msgpcode.Double
		if i, isInt := msgjson.Int(n.raw); isInt && !isFloat {
			return sha256.Sum256(binary.BigEndian.AppendUint64([]byte{'i'}, uint64(i)))
		}
		return sha256.Sum256(append([]byte{'s'}, n.raw...))
	}
	text := []byte{byte(n.kind)}
	for k, item := range n.items {
		if n.kind == object {
			key := sha256.Sum256([]byte(n.keys[k]))
			text = append(text, key[:]...)
		}
		text = append(text, item.sum[:]...)
	}
	return sha256.Sum256(text)
}
