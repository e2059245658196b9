// Package journal is what a host keeps of its engines, and where it keeps it.
//
// An engine is a deterministic game: its state follows from what it started with and from the
// actions that were committed since. So a host stores only these. An engine's journal is
//   - a [Base]: the setup that the engine was created with, or a snapshot of a later state;
//   - behind it a [Record] for each committed action, in order. The first action of an engine has
//     the sequence 1.
//
// A [Store] keeps the journals of many engines, each under the engine's name. [NewMemory] is the
// store that a host has by default. An application hands another one to the host as
// host.Options.Store.
//
// # Writing a store
//
// A store has to keep five rules. The suite in journal/journaltest checks them; run it in the
// store's own tests.
//
//  1. Whole groups. Append stores all records of a group or none, behind the sequence that it is
//     given, or it fails.
//  2. One owner. Load makes its caller the owner. From then on an Append or an Install of any
//     other owner fails with [ErrNotOwner] and has no effect, also one that was sent before and
//     arrives late. The check and the write are one atomic step.
//  3. The truth. If Done is told nil, the call has taken effect and lasts. If it is told an error,
//     the call may or may not have taken effect. The next Load decides: what it does not report
//     must never appear later.
//  4. Borrowed memory. The group and the actions' bytes that Append is given are the store's only
//     until it reports the end of the call. Bases and key records are never changed by the host
//     and may be kept. What Load has reported must not change.
//  5. Completions. A method does not wait. It reports the end of the call through its last
//     parameter, never twice.
//
// A store treats actions, snapshots, setups and results as bytes. It needs [AppendEntry] to build
// [Stored].Entries, and [ReadEntry] or [Entries] if it cuts them.
//
// # What is to come
//
// A later release runs actions at a given time. No store needs anything new for these schedules,
// and no journal another form. What an action sets, clears or uses up is a note behind it in its
// group, and what a caller sets or clears is a note alone: a [KeyRecord] whose Key begins with a
// zero byte, which no caller's key does. What is pending at a base is in [Base].Keys. The index by
// due time is names: before a host stores a schedule, it creates a journal without records whose
// name is a zero byte, the time, and the engine's name; it deletes that once the schedule is used
// up. [Lister] has such names in the order of time, in pages, without opening an engine, and lists
// them for nobody else. If a host ends in between, a name is left that leads to an engine without
// such a schedule, and is deleted then; no schedule is without its name. [Base].Details say what a
// host has to know to go on with a journal, and a host that does not know it refuses to open the
// engine.
//
// # Wrapping a store
//
// A type that embeds a Store and replaces some methods is a Store too: for logs, for measurements,
// for faults in tests. It learns how a call ended by passing on a Done of its own, made by
// [DoneFunc]. The package's example shows one. Embed the Store, rather than naming each method, so
// that methods which are added to the interface later are passed on.
//
// # More than a store has to do
//
// [Lister], [Historian], [Renamer], [Divider], [Releaser], [CoreKeeper], [HealthChecker] and [OwnerVerifier] are
// interfaces of their own. A store that has them lets a host list stored engines, read their history
// and go back in it, import engines, give up those that it has closed, replay them by the core that
// wrote them, tell why nothing can be stored, and answer nothing that another owner has made old. A
// type that embeds a Store hides them.
//
// Until version 1.0 a release may add methods to the interfaces; CHANGELOG.md names them, and
// journaltest gets rules for them.
package journal
