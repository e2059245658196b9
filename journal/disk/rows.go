package disk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// Every row ends with the XXH64 of its key and all its bytes before the sum, so a row that lies
// under another key is as damaged as one with another bit. The first byte is the version of the
// row's layout.

const rowVersion = 1

var errShortRow = errors.New("the row ends too early")

// seal appends the checksum to a row.
func seal(row, key []byte) []byte {
	return binary.LittleEndian.AppendUint64(row, rowSum(row, key))
}

func rowSum(row, key []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(key)
	_, _ = d.Write(row)
	return d.Sum64()
}

// unseal checks the checksum and the version of a row. It returns a reader of what is between
// them.
func unseal(row, key []byte) (rowReader, error) {
	if len(row) < 9 {
		return rowReader{}, errShortRow
	}
	body := row[:len(row)-8]
	if want, have := binary.LittleEndian.Uint64(row[len(row)-8:]), rowSum(body, key); have != want {
		return rowReader{}, fmt.Errorf("the checksum is %016x, want %016x", have, want)
	}
	if body[0] != rowVersion {
		return rowReader{}, fmt.Errorf("the row has the layout %d, this program knows %d", body[0], rowVersion)
	}
	return rowReader{rest: body[1:]}, nil
}

// rowReader takes a row apart. After the first failure all it returns is zero.
type rowReader struct {
	rest []byte
	err  error
}

func (r *rowReader) fail() {
	if r.err == nil {
		r.err = errShortRow
	}
	r.rest = nil
}

func (r *rowReader) uint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *rowReader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *rowReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// take returns the next n bytes, which are parts of the row; nil if there are fewer.
func (r *rowReader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// bytes returns bytes with their length before them. They are parts of the row.
func (r *rowReader) bytes() []byte { return r.take(r.uint()) }

// end fails if something follows.
func (r *rowReader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		return fmt.Errorf("%d bytes follow the row's end", len(r.rest))
	}
	return r.err
}

func appendBytes(b, x []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(x))), x...) }

func appendFlag(b []byte, flag bool) []byte {
	if flag {
		return append(b, 1)
	}
	return append(b, 0)
}
