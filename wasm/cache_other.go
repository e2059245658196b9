//go:build !unix

package wasm

import (
	"io/fs"
	"time"
)

// private never fails here, because a file's mode does not say who may write it. The directory
// that [os.UserCacheDir] names belongs to the user.
func private(fs.FileInfo) error { return nil }

// lock does nothing here: several processes that find a core missing compile it each.
func lock(string, time.Duration) func() { return func() {} }
