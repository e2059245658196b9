//go:build !unix

package pool

// descriptorLimit returns 0: this system has no such limit.
func descriptorLimit() uint64 { return 0 }
