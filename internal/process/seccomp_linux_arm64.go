package process

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// archCalls are allowed on this kind of CPU only.
var archCalls []uint32
