//go:build !linux

package bench

import (
	"errors"
	"time"
)

var errOnlyLinux = errors.New("only Linux does")

func cpuTime(int) (time.Duration, error) { return 0, errOnlyLinux }

func ownTime() time.Duration { return 0 }

func pss(int) (uint64, error) { return 0, errOnlyLinux }
