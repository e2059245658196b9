package disk

import (
	"encoding/binary"
	"fmt"
)

// The kinds of keys are their first bytes. Numbers in keys are big-endian, so that keys are in the
// order of their numbers.
//
//	'c' HASH(32)                        how many pieces the code of a core has, and its checksum
//	'c' HASH(32) PIECE(4)               a piece of the code
//	'e' ID(8) 1 SEQUENCE(8)             a base
//	'e' ID(8) 2 SET(8) PIECE(4)         a piece of a base's data, if the data is large
//	'e' ID(8) 3 NUMBER(8)               a key record
//	'e' ID(8) 4 FIRST(8) NOTES(4)       a group of records
//	'm'                                 nothing: the first row of a new database
//	'm' 'u'                             how far an upgrade of the format is
//	'n' NAME                            the ID of an engine
//	'p' ID(8) SET(8)                    pieces that no base refers to yet
//
// All that belongs to an engine lies together, so an iterator over it sees a single moment.
const (
	kindCore    = 'c'
	kindEngine  = 'e'
	kindMeta    = 'm'
	kindName    = 'n'
	kindPending = 'p'

	partBase  = 1
	partPiece = 2
	partKeyed = 3
	partGroup = 4
)

const (
	engineKeySize = 1 + 8 + 1
	baseKeySize   = engineKeySize + 8
	groupKeySize  = engineKeySize + 8 + 4
)

func appendName(b []byte, name string) []byte { return append(append(b, kindName), name...) }

// appendPart appends the start of all keys of one part of an engine.
func appendPart(b []byte, id uint64, part byte) []byte {
	return append(binary.BigEndian.AppendUint64(append(b, kindEngine), id), part)
}

func appendBaseKey(b []byte, id, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(appendPart(b, id, partBase), sequence)
}

// appendSet appends the start of the keys of all pieces of one base.
func appendSet(b []byte, id, set uint64) []byte {
	return binary.BigEndian.AppendUint64(appendPart(b, id, partPiece), set)
}

func appendPieceKey(b []byte, id, set uint64, piece uint32) []byte {
	return binary.BigEndian.AppendUint32(appendSet(b, id, set), piece)
}

func appendKeyedKey(b []byte, id, number uint64) []byte {
	return binary.BigEndian.AppendUint64(appendPart(b, id, partKeyed), number)
}

// appendGroupKey appends the key of a group. first is the sequence of the next action when the
// group is stored, notes the number of groups before it that have the same first, and so no
// action.
func appendGroupKey(b []byte, id, first uint64, notes uint32) []byte {
	return binary.BigEndian.AppendUint32(
		binary.BigEndian.AppendUint64(appendPart(b, id, partGroup), first), notes)
}

func appendPendingKey(b []byte, id, set uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(append(b, kindPending), id), set)
}

// appendCoreKey appends the key of a core's code. piece is 0 for the row about all of it, and
// counts the pieces from 1.
func appendCoreKey(b []byte, hash [32]byte, piece uint32) []byte {
	b = append(append(b, kindCore), hash[:]...)
	if piece == 0 {
		return b
	}
	return binary.BigEndian.AppendUint32(b, piece)
}

// engineBounds returns the first key of an engine, and the first one behind it.
func engineBounds(id uint64) (lower, upper []byte) {
	return appendPart(nil, id, 0), appendPart(nil, id+1, 0)
}

// parseGroupKey returns the numbers in a group's key. It fails if key is no such key.
func parseGroupKey(key []byte) (first uint64, notes uint32, err error) {
	if len(key) != groupKeySize || key[0] != kindEngine || key[engineKeySize-1] != partGroup {
		return 0, 0, fmt.Errorf("the key %x is not that of a group", key)
	}
	return binary.BigEndian.Uint64(key[engineKeySize:]), binary.BigEndian.Uint32(key[engineKeySize+8:]), nil
}

// parsePendingKey returns the numbers in the key of pieces that are pending.
func parsePendingKey(key []byte) (id, set uint64, err error) {
	if len(key) != 17 || key[0] != kindPending {
		return 0, 0, fmt.Errorf("the key %x is not that of pending pieces", key)
	}
	return binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:]), nil
}

// parseName returns the engine's name in a key.
func parseName(key []byte) string { return string(key[1:]) }
