//go:build !linux

package clusterdev

import "errors"

// CanFill fails: only Linux has the disks of this package.
func CanFill() error { return errors.New("it needs Linux") }

func mountDisk(string) error   { return CanFill() }
func unmountDisk(string) error { return CanFill() }
func fillDisk(string) error    { return CanFill() }
func freeDisk(string) error    { return CanFill() }
