package journal

// Store keeps the journals of engines, each under the engine's name. The package's documentation
// says what the author of a store has to do; the suite of journal/journaltest checks it.
//
// A name is any string but the empty one, and need not be UTF-8. A host does not bound its length.
// A store tells all names of up to 256 bytes apart, upper and lower case too; a name that it
// cannot keep is an error, never another name.
//
// Every method starts a call and returns without waiting for anything slow. How the call ended is
// reported to done, the last parameter, at most once: on any goroutine, before the method returns
// or later. If the store cannot learn how a call ended, because it has lost a connection, say, it
// reports an error, or reports late, or never. A host waits no longer than Options.StoreTimeout;
// if it has not heard of an Append by then, it loads the journal again and sees whether the group
// was stored.
//
// All methods may be called by several goroutines at once, also for one name. Calls that are under
// way together may take effect in any order. A call that was reported has taken effect before any
// call that is made afterwards.
//
// An error says what became of the call:
//   - [ErrRefused]: it had no effect, and the same call would be refused again. [ErrNotOwner] and
//     [ErrFull] are reasons to refuse.
//   - [ErrUnavailable]: it had no effect, and may succeed later.
//   - [ErrFailed]: the store has failed for good, and it is not known whether the call had an
//     effect. Every later call fails in the same way.
//   - any other error: it is not known whether the call had an effect. The next Load decides.
//
// What a store can do beyond this interface is an interface of its own: [Lister], [Historian],
// [HealthChecker]. A host asks with a type assertion whether its store has it.
type Store interface {
	// Load makes owner the owner of the journal of that name and then reports what is stored. If
	// the name is not known, it reports nil without an error, and nobody becomes an owner.
	//
	// From the moment at which a load takes effect, every Append and Install of any other owner
	// fails with [ErrNotOwner] and stores nothing. That is also true of an Append or Install that was
	// called before the load, is still under way and arrives later; and of one for an earlier Owner
	// of the same host. So what Load reports is final: the host loads again if it is in doubt about an append,
	// and sees whether the append was stored.
	//
	// The host reads what is reported, on several goroutines, as long as it likes, and does not
	// change it. The store must not change it either: later calls must leave the reported slices as
	// they are.
	//
	// A host calls Load when an engine is opened, before each time that an engine is placed, and
	// for Engine.Journal.
	Load(name string, owner Owner, done func(stored *Stored, err error))

	// Append stores a group of records, whole or not at all. newest is the sequence of the last record
	// that the host knows of. Each record that has an Action takes the next sequence, from newest + 1;
	// its key record, if there is one, is stored with it. A record without an Action is a note, which
	// takes no sequence. A group has at least one record and may consist of notes only.
	//
	// It fails and stores nothing if the journal's last sequence is another one than newest, if owner
	// is not the owner ([ErrNotOwner]), or if the name is not known ([ErrNotOwner]). If done is told
	// nil, the group is durable, as far as the store promises that.
	//
	// The slice group and the bytes of each Action belong to the store until it calls done, and to
	// the host afterwards; the store does not change them. What a Keyed points to may be kept.
	//
	// A host has one Append in flight for each engine. What is answered meanwhile is the next
	// group, so a store that takes its time gets larger groups. A host that doubts an append loads
	// the journal for a new Owner before it appends again; the former append may still be under
	// way then.
	Append(name string, owner Owner, newest uint64, group []Record, done Done)

	// Install makes base the base of a journal. If the name is not known, Install creates the
	// journal, and owner becomes its owner. If the name is known, owner must own the journal
	// already. A later Load must find the whole base and what follows it.
	//
	// For a known name, base.Sequence must be at least that of the present base and at most that
	// of the newest entry. The entries after base.Sequence stay, with the key records whose
	// Number is above base.KeyNumber. What is kept of earlier entries and bases is the store's
	// policy. It fails and changes nothing if base.Sequence is outside that range, or if
	// owner is not the owner ([ErrNotOwner]).
	//
	// A base that is a marker is stored as a record is: base.Sequence must be the newest sequence
	// plus 1, and is the newest one from then on. If the present base is a marker, it may also be
	// replaced, by a marker of the same sequence: by a base with fewer keys. A base with which a
	// journal is created may have any sequence, and may be a marker. base.Keys may have records
	// that were never appended: that of a marker that had a key, and those of an imported base.
	//
	// The host never changes what base refers to once it is handed over, so a store may keep it
	// without a copy. The store does not change it either.
	//
	// A host calls Install when an engine is created, and from time to time with a snapshot. An
	// Append and an Install of one engine may be in flight together: base.Sequence is always a
	// sequence whose Append has succeeded.
	Install(name string, owner Owner, base Base, done Done)

	// Delete forgets a name with all that is stored under it, whoever owns it. A name that is not
	// known is no error. If the name is used again, it is a new journal: nothing of the former one
	// comes back, and its owner is not the owner.
	//
	// A host calls Delete for Host.Delete.
	Delete(name string, done Done)
}

// Owner names a period in which one host may write one journal. The period ends when the host opens
// the engine again, or doubts an append: then it takes a new Number. No host uses the zero Owner.
type Owner struct {
	// Host is random, 16 bytes for each life of a host.
	Host [16]byte
	// Number counts the tenures of that host from 1.
	Number uint64
}

// Done is how a store reports that an Append, an Install or a Delete has ended. A store calls
// Report at most once, from any goroutine.
//
// A store that wraps another one hands Done on, or makes one of its own with [DoneFunc] to see how
// the call ended and then calls Report of the one that it was given. The zero Done tells nobody.
type Done struct {
	to   Receiver
	call uint64
}

// Receiver is told how calls end, by the number of each call. It is for callers that make many
// calls, such as a host: a Done for a Receiver costs no allocation. CallEnded may be called by any
// goroutine, also before the method of the store has returned. It must ignore a call that it does
// not wait for any more, and one that is reported again.
type Receiver interface {
	CallEnded(call uint64, err error)
}

// DoneFunc returns a Done that calls f with the error, or with nil if there was none. f may be
// called by any goroutine, also before the method of the store has returned.
func DoneFunc(f func(error)) Done { return Done{to: receiverFunc(f)} }

// DoneFor returns a Done that calls r.CallEnded with the number of the call. It allocates nothing.
func DoneFor(r Receiver, call uint64) Done { return Done{to: r, call: call} }

// Report says how the call has ended. err is nil if what the call was to do is done and durable.
func (d Done) Report(err error) {
	if d.to != nil {
		d.to.CallEnded(d.call, err)
	}
}

type receiverFunc func(error)

func (f receiverFunc) CallEnded(_ uint64, err error) { f(err) }
