"""Refusals: which file must not be used, why, and what to do, on one line."""

import errno
import os
import stat
from pathlib import Path

from medseg.errors import DataError

FLOAT32_BYTES = 4
TRANSFER_AGAIN = "transfer or download it again"


def refusal(path: Path, fault: str, remedy: str) -> DataError:
    """The error that says, on one line, which file must not be used, why, and what to do."""
    return DataError(f"{path}: {fault}; {remedy}".replace("\n", "\\n"))


def require_file(path: Path) -> int:
    """Proves that `path` is a file with something in it.

    Returns:
        Its size in bytes.

    Raises:
        DataError: it is missing, a folder, a device, a symbolic link loop, or empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreachable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise refusal(path, "is a folder", "name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise refusal(path, "is not a regular file", "save the volume to a file")
    if status.st_size == 0:
        raise refusal(path, "is empty (0 bytes)", TRANSFER_AGAIN)
    return status.st_size


def unreachable(path: Path, error: OSError) -> DataError:
    """The refusal that says why the system does not open a file."""
    faults = {
        errno.ENOENT: ("does not exist", "check the spelling"),
        errno.ELOOP: ("is a symbolic link loop", "remove the link"),
        errno.EACCES: ("may not be read", "ask for permission to read it"),
        errno.ENAMETOOLONG: ("has too long a name", "shorten it"),
    }
    reason = error.strerror or str(error)
    fault, remedy = faults.get(
        error.errno or 0, (f"cannot be read ({reason})", "check the disk and the path")
    )
    return refusal(path, fault, remedy)


def require_memory(path: Path, needed: int) -> None:
    """Refuses a volume for which `needed` bytes are not free.

    Raises:
        DataError: with both numbers.
    """
    free = _available_memory()
    if needed > free:
        raise refusal(
            path,
            f"needs {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free",
            "crop it, or use a machine with more memory",
        )


def _available_memory() -> float:
    """Free bytes, including what the system would give back from its file cache."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        entries = dict(line.split(":", 1) for line in lines)
        return int(entries["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return float("inf")
