// Package fast names what a host does for speed alone, so that tests and tortures of this module
// can turn each of it off: what it promises may not depend on any.
package fast

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Path is one thing that is done for speed.
type Path uint8

const (
	// Lead: who waits for an answer reads it.
	Lead Path = iota
	// Poll: both sides poll for bytes before they park.
	Poll
	// Gather: requests are gathered while a worker has more to do than them.
	Gather
	// Group: answers for one engine that are read at once get into its journal as one group.
	Group
	// Reuse: what a call has needed is used again.
	Reuse
	paths
)

var names = [paths]string{"lead", "poll", "gather", "group", "reuse"}

func (p Path) String() string { return names[p] }

// Names lists all paths, separated by commas.
func Names() string { return strings.Join(names[:], ",") }

// Set is a set of paths.
type Set uint8

// Has reports whether a path is in the set.
func (s Set) Has(p Path) bool { return s&(1<<p) != 0 }

// Parse reads a list of paths, separated by commas; "all" is all of them, "" none.
func Parse(list string) (s Set, err error) {
	switch list {
	case "":
		return 0, nil
	case "all":
		return 1<<paths - 1, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		k := slices.Index(names[:], name)
		if k < 0 {
			return 0, fmt.Errorf("%q is none of %s", name, Names())
		}
		s |= 1 << k
	}
	return s, nil
}

type key struct{}

// Without returns a context whose host does without some paths, if host.New is called with it.
func Without(ctx context.Context, s Set) context.Context { return context.WithValue(ctx, key{}, s) }

// Off returns what [Without] has put into a context.
func Off(ctx context.Context) Set {
	s, _ := ctx.Value(key{}).(Set)
	return s
}
