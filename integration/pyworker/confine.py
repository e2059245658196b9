"""What a worker does to its own process before it runs a core.

PROTOCOL.md has that under "Descriptors" and "What a worker should give up".
"""

import ctypes
import fcntl
import os
import resource
import signal
import sys


def take_descriptors():
    """Returns private copies of standard input and output. What anybody prints from now on goes to standard error."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        try:
            # A descriptor that this process has opened itself is closed by exec.
            if fd > 2 and not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                os.close(fd)
        except OSError:
            pass  # the one that listed the directory
    frames_in = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    frames_out = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return frames_in, frames_out


# Numbers of Linux, the same on all kinds of CPU that have Landlock.
CREATE_RULESET, RESTRICT_SELF = 444, 446
VERSION_FLAG = 1


def give_up_files():
    """Opens, makes and runs no file from now on, and no TCP, as far as the kernel has Landlock.

    Threads that start later are confined too, so this comes before any, and after all imports. It
    returns the version of Landlock, 0 for none.
    """
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, 0, VERSION_FLAG)
    if version < 1:
        return 0
    files = (1 << 13) - 1
    for since, right in ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15)):
        if version >= since:
            files |= right
    attributes = [files]
    if version >= 4:
        attributes.append(3)  # bind and connect TCP
    if version >= 6:
        attributes.append(1)  # connect to abstract sockets of others
    ruleset = (ctypes.c_uint64 * len(attributes))(*attributes)
    fd = libc.syscall(CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    try:
        if libc.syscall(RESTRICT_SELF, fd, 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    finally:
        os.close(fd)
    return version
