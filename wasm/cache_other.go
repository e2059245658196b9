//go:build !unix

package wasm

import (
	"io/fs"
	"time"
)

// private can't be told from a file's mode here: what [os.UserCacheDir] names is the user's own.
func private(fs.FileInfo) error { return nil }

// lock does nothing here: several processes that find a core missing compile it each.
func lock(string, time.Duration) func() { return func() {} }
