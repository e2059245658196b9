//go:build sabotage

package sabotage

import (
	"fmt"
	"os"
)

// active is read once, so that a point is on for a whole process or not at all.
var active = func() Point {
	name := Point(os.Getenv(Variable))
	if name == "" {
		return name
	}
	for _, b := range Breaches {
		if b.Point == name {
			return name
		}
	}
	panic(fmt.Sprintf("%s names the point %q, which is none of internal/sabotage/points.go", Variable, name))
}()

// On reports whether a point is on.
func On(p Point) bool { return p == active }

var kept []any

// Keep keeps what the garbage collector would otherwise mend, such as a file that is not closed.
func Keep(v any) { kept = append(kept, v) }

// Environment returns what a worker process needs to have the same point on: it gets nothing of its host's environment.
func Environment() []string { return []string{Variable + "=" + string(active)} }
