//go:build !linux

package bench

import (
	"errors"
	"os"
	"os/exec"
	"time"
)

var errOnlyLinux = errors.New("only Linux does")

func cpuTime(int) (time.Duration, error) { return 0, errOnlyLinux }

func ownTime() time.Duration { return 0 }

func pss(int) (uint64, error) { return 0, errOnlyLinux }

func writtenBytes() (uint64, error) { return 0, errOnlyLinux }

func residentBytes(int) (all, anonymous uint64, err error) { return 0, 0, errOnlyLinux }

func endWithParent(*exec.Cmd) {}

func syncData(f *os.File) error { return f.Sync() }

func isInMemory(string) bool { return false }

func blocksOf(string) (int64, error) { return 0, errOnlyLinux }
