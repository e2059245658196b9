// Package disk is a [journal.Store] on a disk. What it has reported as stored survives the death
// of the process and, with [SyncAlways], a loss of power.
//
//	store, err := disk.Open("data", disk.Options{Logger: logger})
//	if err != nil { ... }
//	defer store.Close() // after the host's Shutdown
//	h, err := host.New(host.Options{Store: store})
//
// One process at a time opens a directory. The store keeps the whole history of each engine: every
// action, and every base that was installed. An engine that nobody owns costs no memory.
//
// README.md beside this file has the layout of the keys, the format's version, and why each
// decision about durability was taken.
package disk
