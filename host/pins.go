package host

import (
	"crypto/sha256"
	"encoding/hex"

	"hypertoken/internal/process"
)

// validatePins checks the form of the hashes that are pinned.
func (o *Options) validatePins() error {
	for _, pin := range []struct{ name, hash string }{{"WorkerSHA256", o.WorkerSHA256}, {"CoreSHA256", o.CoreSHA256}} {
		if b, err := hex.DecodeString(pin.hash); pin.hash != "" && (err != nil || len(b) != sha256.Size) {
			return badInput("Options.%s: %q is no SHA-256, which has %d hexadecimal digits", pin.name, pin.hash,
				2*sha256.Size)
		}
	}
	return nil
}

// checkWorkerPin finds a wrong pin at once. A program that can't be read yet, or is another one later, is a worker that
// can't be started: every start checks it.
func (o *Options) checkWorkerPin() error {
	if o.WorkerSHA256 == "" || o.InProcess {
		return nil
	}
	if hash, err := process.SHA256(o.WorkerPath); err == nil && hash != o.WorkerSHA256 {
		name := "the worker " + o.WorkerPath
		if o.WorkerPath == "" {
			name = "this program, its own worker,"
		}
		return badInput("Options.WorkerSHA256: %s has the SHA-256 %s, and %s is pinned", name, hash, o.WorkerSHA256)
	}
	return nil
}

func (o *Options) checkCorePin(hash string) error {
	if o.CoreSHA256 == "" || hash == o.CoreSHA256 {
		return nil
	}
	return badInput("Options.CoreSHA256: %s has the SHA-256 %s, and %s is pinned", o.coreName(), hash, o.CoreSHA256)
}

// coreName names the core as the options do.
func (o *Options) coreName() string {
	switch {
	case o.CorePath != "":
		return "the core " + o.CorePath
	case o.Core != nil:
		return "Options.Core"
	}
	return "the built-in core"
}
