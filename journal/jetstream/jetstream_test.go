package jetstream

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"hypertoken/journal"
	"hypertoken/journal/journaltest"
)

// names gives each store of the tests streams of its own.
var testNames atomic.Int64

func newName() string { return fmt.Sprint("test", testNames.Add(1)) }

func TestTheSuite(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Store { return suiteStore(t, 1, settling{}) })
}

// The same rules for journals that are divided into 2 or 4 streams. The short form has a few of them.
func TestTheSuiteOnSeveralStreams(t *testing.T) {
	short := []string{"names are listed", "a journal is renamed", "cores are kept"}
	for k, rule := range journaltest.Rules() {
		if deep(0, 1) == 0 && !slices.Contains(short, rule.Name) {
			continue
		}
		streams := 2 + 2*(k%2)
		t.Run(fmt.Sprintf("%d streams/%s", streams, rule.Name), func(t *testing.T) {
			rule.Check(t, suiteStore(t, streams, settling{}))
		})
	}
}

// The same rules, while what is in a slot's tail is settled at once. Those are left out that take long
// and tell no more of settled groups.
func TestTheSuiteWhileSettling(t *testing.T) {
	long := []string{"a journal is a list", "an append that arrives late", "an install that arrives late"}
	if deep(0, 1) == 0 {
		long = append(long, "markers and batches are in the past", "engines side by side")
	}
	for _, rule := range journaltest.Rules() {
		if !slices.Contains(long, rule.Name) {
			t.Run(rule.Name, func(t *testing.T) {
				rule.Check(t, suiteStore(t, 1, settling{bytes: 1, messages: 1, age: time.Minute}))
			})
		}
	}
}

// suiteStore returns a store whose streams are removed when the test ends.
func suiteStore(t *testing.T, streams int, settling settling) *Store {
	c := shared(t)
	o := c.options(newName())
	o.Streams, o.settling = streams, settling
	s := openStore(t, o)
	t.Cleanup(func() {
		t.Logf("%+v", s.Stats())
		o := c.options(s.o.Name)
		o.Streams = streams
		again := openStore(t, o) // the suite may have closed the store
		dropStreams(t, again)
	})
	return s
}
