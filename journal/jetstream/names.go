package jetstream

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"hypertoken/journal"
)

// Slots is the number of slots that names are divided into. It is part of the layout.
const Slots = 256

// SlotOf returns the slot that a name belongs to: 0 to Slots - 1.
func SlotOf(name string) int { return int(xxhash.Sum64String(name) % Slots) }

// layout says how journals lie in streams. It is fixed once the streams are created.
type layout struct {
	// prefix is the first token of all subjects, and the start of the streams' names.
	prefix string
	// streams is the number of streams that have journals, and of those that have pieces.
	streams int
}

// streamOf returns the number of the stream that a slot belongs to.
func (l layout) streamOf(slot int) int { return slot % l.streams }

// The names of the streams, and the subjects that each of them has.
func (l layout) journalStream(p int) string   { return fmt.Sprintf("%s-journals-%d", l.prefix, p) }
func (l layout) journalSubjects(p int) string { return fmt.Sprintf("%s.j.%d.>", l.prefix, p) }
func (l layout) pieceStream(p int) string     { return fmt.Sprintf("%s-pieces-%d", l.prefix, p) }
func (l layout) pieceSubjects(p int) string   { return fmt.Sprintf("%s.p.%d.>", l.prefix, p) }

// memberStream has the records of the nodes of a cluster, each under a subject of its own.
func (l layout) memberStream() string              { return l.prefix + "-members" }
func (l layout) memberSubject(token string) string { return l.prefix + ".m." + token }

// ownerSubject has the owner record of a slot.
func (l layout) ownerSubject(slot int) string {
	return fmt.Sprintf("%s.j.%d.owner.%d", l.prefix, l.streamOf(slot), slot)
}

// ownerSubjects is a filter for the owner records of all slots of a stream.
func (l layout) ownerSubjects(p int) string { return fmt.Sprintf("%s.j.%d.owner.*", l.prefix, p) }

// slotOfOwner returns the slot that the subject of an owner record belongs to.
func (l layout) slotOfOwner(subject string) (int, error) {
	return strconv.Atoi(subject[strings.LastIndexByte(subject, '.')+1:])
}

// markSubject takes what a slot's owner writes to see that it still is the owner.
func (l layout) markSubject(slot int) string {
	return fmt.Sprintf("%s.j.%d.mark.%d", l.prefix, l.streamOf(slot), slot)
}

// readSubject takes what anybody writes before reading a stream of journals.
func (l layout) readSubject(p int) string { return fmt.Sprintf("%s.j.%d.read", l.prefix, p) }

// tailSubject has the groups of a slot that are not on the subjects of their engines yet.
func (l layout) tailSubject(slot int) string {
	return fmt.Sprintf("%s.j.%d.tail.%d", l.prefix, l.streamOf(slot), slot)
}

// engineSubject has the journal of an engine.
func (l layout) engineSubject(slot int, token string) string {
	return fmt.Sprintf("%s.j.%d.e.%d.%s", l.prefix, l.streamOf(slot), slot, token)
}

// engineSubjects is a filter for the journals of all engines of a stream.
func (l layout) engineSubjects(p int) string { return fmt.Sprintf("%s.j.%d.e.>", l.prefix, p) }

// pieceSubject has the pieces of a base or a group. acquisition is the fence that the slot's owner
// had when it acquired the slot, number counts what is written in pieces from then on. So no subject
// is ever used twice.
func (l layout) pieceSubject(slot int, token string, i incarnation, acquisition, number uint64) string {
	return fmt.Sprintf("%s.p.%d.e.%d.%s.%s.%d.%d", l.prefix, l.streamOf(slot), slot, token, i, acquisition, number)
}

// piecesOf is a filter for all pieces of one incarnation of an engine.
func (l layout) piecesOf(slot int, token string, i incarnation) string {
	return fmt.Sprintf("%s.p.%d.e.%d.%s.%s.>", l.prefix, l.streamOf(slot), slot, token, i)
}

// piecesOfSlot begins the subjects of all pieces of a slot's engines.
func (l layout) piecesOfSlot(slot int) string {
	return fmt.Sprintf("%s.p.%d.e.%d.", l.prefix, l.streamOf(slot), slot)
}

// Cores lie in the first stream of pieces.
func (l layout) coreSubject(hash string) string { return fmt.Sprintf("%s.p.0.core.%s", l.prefix, hash) }
func (l layout) codeSubject(hash, nonce string) string {
	return fmt.Sprintf("%s.p.0.code.%s.%s", l.prefix, hash, nonce)
}

// targetSubject has the record of the target core.
func (l layout) targetSubject() string { return fmt.Sprintf("%s.p.0.target", l.prefix) }

// pieceReadSubject takes what is written before a core is read.
func (l layout) pieceReadSubject() string { return fmt.Sprintf("%s.p.0.read", l.prefix) }

// incarnation tells an engine from a former one of the same name.
type incarnation [8]byte

func (i incarnation) String() string { return hex.EncodeToString(i[:]) }

// noToken is the token of no name.
const noToken = "%"

// maxToken bounds the token of a name. A name of 256 bytes takes 768 at most.
const maxToken = 1024

// token returns a name as one token of a subject: letters, digits, - and _ stay, all other bytes
// become % and two hexadecimal digits. It refuses names that are too long.
func token(name string) (string, error) {
	if name == "" {
		return "", journal.Refused("a name has at least one byte")
	}
	var b strings.Builder
	for k := range len(name) {
		switch c := name[k]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() > maxToken {
		return "", journal.Refused("the name takes %d bytes in a subject, at most %d are possible", b.Len(), maxToken)
	}
	return b.String(), nil
}

// nameOf returns the name that a token stands for.
func nameOf(token string) (string, error) {
	var b strings.Builder
	for k := 0; k < len(token); k++ {
		if token[k] != '%' {
			b.WriteByte(token[k])
			continue
		}
		if k+2 >= len(token) {
			return "", fmt.Errorf("the token %q ends too early", token)
		}
		c, err := strconv.ParseUint(token[k+1:k+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("the token %q: %w", token, err)
		}
		b.WriteByte(byte(c))
		k += 2
	}
	return b.String(), nil
}
