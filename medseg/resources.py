"""Cores and memory that this process may take, and what it took.

torch is imported inside functions only, so that importing this module costs nothing.
"""

import contextlib
import ctypes
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None

from medseg.errors import ResourceError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3  # glibc's malloc.h
_ONE_GIB = 1 << 30
_ROOT = Path("/")


def usable_cpus(root: Path = _ROOT) -> int:
    """Counts the CPUs that this process may use, at least 1.

    The count is the least of the process's affinity, the CPU quota of its control groups
    (versions 1 and 2, rounded down) and `SLURM_CPUS_PER_TASK`.

    Args:
        root: Where `proc` and `sys` are mounted.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    counts: list[float] = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    for group in _control_groups("cpu", root):
        limit = _read(group / "cpu.max").split()
        quota, period = limit if len(limit) == 2 else ("max", "")
        quota = _read(group / "cpu.cfs_quota_us") or quota
        period = _read(group / "cpu.cfs_period_us") or period
        if quota.isdigit() and period.isdigit() and int(period):
            counts.append(int(quota) / int(period))
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit():
        counts.append(int(slurm))
    return max(1, int(min(counts)))


def limit_threads() -> None:
    """Lets torch use no more threads than the process has CPUs, unless `OMP_NUM_THREADS` is set."""
    import torch

    cpus = usable_cpus()
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cpus:
        log.info("torch uses %d threads, as many as this process has CPUs", cpus)
        torch.set_num_threads(cpus)


def available_memory_bytes(root: Path = _ROOT) -> int:
    """Memory that the process can still take: the system's, its control group's or its own limit.

    The least of the three counts; limits of a process are those of `ulimit -v` and `ulimit -d`, and
    of `limit_memory`.

    Args:
        root: Where `proc` and `sys` are mounted.
    """
    free = [psutil.virtual_memory().available]
    for group in _control_groups("memory", root):
        limit = _read(group / "memory.max") or _read(group / "memory.limit_in_bytes")
        used = _read(group / "memory.current") or _read(group / "memory.usage_in_bytes")
        if limit.isdigit() and used.isdigit():
            # files that are cached count as used and are dropped when memory is wanted
            dropped = re.search(r"^inactive_file (\d+)", _read(group / "memory.stat"), re.M)
            free.append(int(limit) - int(used) + (int(dropped[1]) if dropped else 0))
    if resource is not None:
        own = psutil.Process().memory_info()
        # data: Linux alone says how much of it there is
        taken = {resource.RLIMIT_AS: own.vms, resource.RLIMIT_DATA: getattr(own, "data", own.vms)}
        limits = {kind: resource.getrlimit(kind)[0] for kind in taken}
        free += [n - taken[kind] for kind, n in limits.items() if n != resource.RLIM_INFINITY]
    if is_memory_limited():
        free.append(_limit.bytes - held_memory_bytes())
    promised = sum(n for thread, n in _promised.items() if thread != threading.get_ident())
    return max(0, min(free) - promised)


def held_memory_bytes() -> int:
    """Memory in which the process resides."""
    return psutil.Process().memory_info().rss


@dataclass
class _Limit:
    bytes: int = 0  # 0: none


_limit = _Limit()


def limit_memory(most: int) -> None:
    """Lets the process plan with so many bytes of memory, all that it holds by now included.

    What would not fit is then refused, or done in another way, before memory is taken for it.

    Args:
        most: Bytes; 0: no limit.

    Raises:
        ResourceError: it holds more by now.
    """
    held = held_memory_bytes()
    if 0 < most < held:
        raise ResourceError(
            f"a limit of {most / 2**20:.0f} MiB of memory: the program itself, with its libraries, "
            f"takes {held / 2**20:.0f} MiB; allow more"
        )
    _limit.bytes = most


_promised: dict[int, int] = {}  # thread → bytes that it is going to take


@contextlib.contextmanager
def promised_memory(most: int) -> Iterator[None]:
    """Keeps memory free for the block: to other threads, it is as if it were taken by now.

    Args:
        most: Bytes that the block takes.
    """
    _promised[threading.get_ident()] = most
    try:
        yield
    finally:
        del _promised[threading.get_ident()]


def is_memory_limited() -> bool:
    """Whether there is a limit of `limit_memory`."""
    return _limit.bytes > 0


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


def restart_peak_memory(device: "torch.device") -> None:
    """Starts a new measurement of peak memory: several arms may share a process."""
    return_freed_memory()
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # not Linux: the peak is then the process's whole life's
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes(device: "torch.device") -> int:
    """Peak since the last restart: allocated on a GPU, resident of the process on a CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return psutil.Process().memory_info().rss
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the process's control groups, the innermost first, for versions 1 and 2."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # version 2 has one tree without a name; in a container the path may lie outside the mount
        tree = root / "sys/fs/cgroup" / controllers
        own = tree / path.strip("/")
        yield from (f for f in (own, *own.parents) if f.is_relative_to(tree) and f.is_dir())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
