"""Files that a forked worker has inherited open, given a reading position of its own."""

import contextlib
import os
import stat
import sys

_OPEN_FILES = "/proc/self/fd"


def own_read_positions() -> None:
    """Open each file again that this process may only read, under the same descriptor.

    A fork shares an open file's position with the process that it came from and with all its other
    children, so that a seek in one of them moves the next read of another: samples of wrong bytes,
    without an error. What is written to is left as it is, and so are pipes and sockets.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # no /proc: then there is nothing to be done
        for name in os.listdir(_OPEN_FILES):
            with contextlib.suppress(OSError):  # closed meanwhile, or not to be opened any more
                _reopen(int(name))


def is_only_read(descriptor: int) -> bool:
    """Whether a descriptor is one that ``own_read_positions`` takes care of."""
    if sys.platform != "linux" or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    return _flags(descriptor) & os.O_ACCMODE == os.O_RDONLY


def _reopen(descriptor: int) -> None:
    if not is_only_read(descriptor):
        return
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    is_inheritable = os.get_inheritable(descriptor)
    own = os.open(f"{_OPEN_FILES}/{descriptor}", _flags(descriptor) & ~os.O_CREAT)
    try:
        os.lseek(own, position, os.SEEK_SET)
        os.dup2(own, descriptor, inheritable=is_inheritable)
    finally:
        os.close(own)


def _flags(descriptor: int) -> int:
    import fcntl  # not on Windows

    return fcntl.fcntl(descriptor, fcntl.F_GETFL)
