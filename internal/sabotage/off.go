//go:build !sabotage

package sabotage

// On reports whether a point is on: never.
func On(Point) bool { return false }

// Keep keeps nothing.
func Keep(any) {}

// Environment returns what a worker process needs to have the same point on: nothing.
func Environment() []string { return nil }
