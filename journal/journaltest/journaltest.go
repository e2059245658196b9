// Package journaltest is the suite that every [journal.Store] must pass.
//
// In the tests of a store:
//
//	func TestStore(t *testing.T) {
//		journaltest.Run(t, func(t *testing.T) journal.Store {
//			return mystore.Open(t.TempDir())
//		})
//	}
//
// If the store is a [journal.Lister], [journal.Historian], [journal.Renamer], [journal.Divider],
// [journal.Releaser], [journal.CoreKeeper], [journal.OwnerVerifier] or io.Closer, the suite has rules for that, too. A
// store that the suite has closed may be closed again.
//
// Run it with the race detector, too: the suite reads what a store has handed out while it calls
// the store.
package journaltest

import (
	"testing"

	"hypertoken/journal"
)

// T is what the suite needs of a [testing.T]. Fatalf must not return. A test of the suite itself
// has a T of its own, to see what the suite finds.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Rule is one rule that a store has to keep.
type Rule struct {
	// Name says what the rule is about, in a few words.
	Name string
	// Check fails t if the store breaks the rule. It uses names that start with "journaltest". The
	// store must not have such names before.
	Check func(t T, store journal.Store)
}

// Run checks every rule in a subtest of its own. open returns an empty store for each of them, and
// sees with t.Cleanup that it is closed.
func Run(t *testing.T, open func(t *testing.T) journal.Store) {
	for _, r := range Rules() {
		t.Run(r.Name, func(t *testing.T) { r.Check(t, open(t)) })
	}
}

// Rules returns all rules, for callers to whom [Run] is not enough.
func Rules() []Rule {
	return []Rule{
		rule("unknown names", unknownNames),
		rule("the first install creates", firstInstall),
		rule("names are told apart", names),
		rule("appends add entries", appends),
		rule("an append behind another sequence fails", wrongSequence),
		rule("notes take no sequence", notes),
		rule("large values", largeValues),
		rule("bases keep what follows them", bases),
		rule("bases outside the journal fail", basesOutside),
		rule("bases keep newer keys", keys),
		rule("a journal is a list", list),
		rule("details come back", details),
		rule("a journal begins anywhere", beginnings),
		rule("a marker takes a sequence", markers),
		rule("a marker elsewhere is refused", markersElsewhere),
		rule("a marker is replaced", replacedMarkers),
		rule("load fences other owners", fencing),
		rule("an append that arrives late", lateAppend),
		rule("an install that arrives late", lateInstall),
		rule("owners who compete", competition),
		rule("groups are whole", wholeGroups),
		rule("delete forgets", deletion),
		rule("engines side by side", engines),
		rule("errors say what became of the call", errorClasses),
		rule("names are listed", listing),
		rule("the past can be read", pastStates),
		rule("markers and batches are in the past", pastMarkers),
		rule("hidden names are not listed", hiddenNames),
		rule("a journal is renamed", renaming),
		rule("a journal is given up", release),
		rule("a barrier says who owns a journal", barriers),
		rule("cores are kept", cores),
		rule("the store is closed under load", closing),
	}
}

// rule makes a Rule of a function that is handed a client of the store.
func rule(name string, check func(c *client)) Rule {
	return Rule{name, func(t T, store journal.Store) {
		t.Helper()
		c := &client{t: t, store: store}
		defer c.finish() // also if check ends early
		check(c)
	}}
}
