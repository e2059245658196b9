package process

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// SHA256 returns the SHA-256 of the program that Start starts for a path, in lower-case
// hexadecimal.
func SHA256(path string) (string, error) {
	path, err := program(path)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return sum(f)
}

func sum(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// otherProgram returns the error for a program that does not have the pinned SHA-256.
func otherProgram(path, is, pinned string) error {
	return fmt.Errorf("the worker %s can't be started: its SHA-256 is %s, and %s is pinned (WorkerSHA256): put the pinned program back, or pin this one",
		path, is, pinned)
}
