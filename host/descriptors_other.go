//go:build !unix

package host

// descriptorLimit returns 0: this system has no such limit.
func descriptorLimit() uint64 { return 0 }
