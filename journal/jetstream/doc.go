// Package jetstream is a [journal.Store] on NATS JetStream. Journals lie on three or more NATS
// servers, so that the loss of any one machine loses nothing that was reported as stored, and a
// journal can be taken over by another machine.
//
//	store, err := jetstream.Open(ctx, jetstream.Options{
//		Servers: []string{"nats://a:4222", "nats://b:4222", "nats://c:4222"},
//		System:  []nats.Option{nats.UserInfo("system", password)},
//	})
//	if err != nil { ... }
//	defer store.Close() // after the host's Shutdown
//	h, err := host.New(host.Options{Store: store})
//
// Each name belongs to one of 256 slots, by a hash. A store owns whole slots, and with a slot all
// engines in it. A store takes a slot over as soon as it is asked to load, create or delete an engine
// in it: from then on every write of the former owner is refused by the servers. [Options.Claims]
// can forbid that.
//
// README.md beside this file has the layout of the streams, the format of the records, and why each
// decision was taken.
package jetstream
