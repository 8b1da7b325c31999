"""How the process keeps memory that it will need again."""

import contextlib
import ctypes
import logging
import sys

log = logging.getLogger(__name__)

_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3  # glibc's malloc.h
_ONE_GIB = 1 << 30


def keep_freed_memory() -> bool:
    """Lets freed blocks up to 1 GiB be used again instead of going back to the system.

    glibc maps every block of a few MiB anew and returns it when freed, so that each activation
    of a CPU training step is paid for in page faults. Linux with glibc only; elsewhere nothing.

    Returns:
        Whether the allocator took the setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        log.debug("this C library has no mallopt; memory is returned as it is freed")
        return False
    return bool(set_option(_MAP_THRESHOLD, _ONE_GIB) and set_option(_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> None:
    """Gives what is free back to the system now, so that a measurement starts from what is used."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError, OSError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)
