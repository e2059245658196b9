//go:build !unix

package serve

// FileLimit returns how many files this process may open. It reports false: there is no limit here.
func FileLimit() (uint64, bool) { return 0, false }
