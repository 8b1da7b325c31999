"""Who is at work in a run's folder: a lock that ends with its process, and a sign of life.

A process number means nothing in a container, on another machine, or after a restart. The kernel
gives a lock back however its process ends. Not every file system shares locks between machines:
there the time of the lock file, set again and again by whoever holds it, tells.
"""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from medseg.errors import ResourceError
from medseg.files import require_writable

LOCK = ".lock"
_SECONDS = 30.0  # between two signs of life
_PATIENCE = 600.0  # seconds without one before another machine's run is doubted
_BLINK = 0.5  # seconds: whoever only looks holds the lock no longer


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes a run's folder and keeps other processes out of it.

    Raises:
        ResourceError: another process is at work there, or the folder cannot be written.
    """
    require_writable(folder)
    lock, over = folder / LOCK, threading.Event()

    def show_life() -> None:
        while not over.wait(_SECONDS):
            with suppress(OSError):
                os.utime(lock)

    held = FileLock(lock, timeout=_BLINK)
    try:
        held.acquire()
    except Timeout as error:
        raise ResourceError(
            f"{folder}: another process is at work there; wait for it, or start a new run"
        ) from error
    sign = threading.Thread(target=show_life, daemon=True)
    try:
        os.utime(lock)
        sign.start()
        yield
    finally:
        over.set()
        if sign.ident:
            sign.join()
        held.release()


def is_at_work(folder: Path, machine: str) -> bool:
    """Whether a living process is alone in a folder.

    Args:
        folder: Of a run.
        machine: On which it was started, see `this_machine`.
    """
    lock, silence = folder / LOCK, 0.0
    try:
        silence = time.time() - lock.stat().st_mtime
        with FileLock(lock, timeout=0):
            if machine == this_machine():
                return False
    except FileNotFoundError:
        return False
    except Timeout:
        return True
    except OSError:  # not ours to lock
        pass
    return silence < _PATIENCE


def this_machine() -> str:
    """What all containers of a machine share, from its start to its end."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return platform.node()
