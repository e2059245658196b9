//go:build !linux

package ipc

import "runtime"

func yield() { runtime.Gosched() }
