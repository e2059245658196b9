package disk

import (
	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// opKind says what a call asks for.
type opKind uint8

const (
	opNone    opKind = iota // nothing any more: the op waits elsewhere
	opAppend                // journal.Store
	opInstall               // journal.Store
	opLoad                  // journal.Store
	opDelete                // journal.Store
	opRename                // journal.Renamer: name is the new name
	opRelease               // journal.Releaser
	opLoadAt                // journal.Historian
	opRange                 // journal.Historian
	opList                  // journal.Lister
	opCore                  // journal.CoreKeeper
	opTrim                  // rows of the history are deleted
	opRow                   // a row that belongs to no engine
	opFound                 // what was read of an engine that had no head
)

// op is a call on its way through the store.
type op struct {
	kind   opKind
	name   string
	owner  journal.Owner
	newest uint64           // opAppend
	group  []journal.Record // opAppend
	done   journal.Done     // all that report an error only
	more   *request         // the other kinds
	// err is why the call fails; the committing goroutine sets it, before the op's flight is
	// synced.
	err error
	// head, formerOwner and iterator are what a reader needs. The committing goroutine sets them.
	head        *head
	formerOwner journal.Owner
	iterator    *pebble.Iterator
}

// request is the part of an op that appends do not have.
type request struct {
	base   journal.Base                 // opInstall
	large  *largeBase                   // opInstall, if the base's data lies in pieces
	loaded func(*journal.Stored, error) // opLoad, opLoadAt
	ranged func(journal.Part, error)    // opRange
	listed func([]journal.Info, error)  // opList
	core   func([]byte, error)          // opCore
	number uint64                       // opLoadAt, opRange: the sequence
	limit  int                          // opRange, opList
	after  string                       // opList
	from   string                       // opRename: the former name
	key    []byte                       // opRow
	value  []byte                       // opRow
	trim   *trimming                    // opTrim
	found  *head                        // opFound: nil if the name is not known
}

// reads reports whether the call is ended by a reader.
func (o *op) reads() bool {
	return o.kind == opLoad || o.kind == opLoadAt || o.kind == opRange || o.kind == opList || o.kind == opCore
}

// callOnly returns a copy with what report needs. The other fields may be changed meanwhile.
func (o *op) callOnly() op { return op{kind: o.kind, more: o.more, done: o.done} }

// report ends the call with an error, or with nil.
func (o *op) report(err error) {
	switch o.kind {
	case opNone, opFound:
	case opLoad, opLoadAt:
		o.more.loaded(nil, err)
	case opRange:
		o.more.ranged(journal.Part{}, err)
	case opList:
		o.more.listed(nil, err)
	case opCore:
		o.more.core(nil, err)
	default:
		o.done.Report(err)
	}
}
