"""What the system gives to a process: memory and open files."""

import ctypes
import sys
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1_000_000
_FILES_OF_WINDOWS = 8192


def return_memory_at_once() -> None:
    """Let glibc return each large piece of memory when it is freed.

    Otherwise it keeps what was freed by a large picture, as its limit for such pieces grows with them.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def most_files() -> int:
    """Return how many files and connections the system lets this process have open."""
    if sys.platform == "win32":
        return _FILES_OF_WINDOWS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else sys.maxsize
