"""Where a result comes from: packages, machine, memory."""

import contextlib
import platform
from pathlib import Path

import psutil
import torch

from medseg.allocator import return_freed_memory
from medseg.machine import cpu_name

PACKAGES = (
    "medseg",
    "torch",
    "monai",
    "pytorch-lightning",
    "hydra-core",
    "nibabel",
    "numpy",
    "scipy",
)


def machine(hardware: str, precision: str) -> dict[str, str | int]:
    """What the run computes on."""
    device = torch.cuda.get_device_name() if hardware == "cuda" else "cpu"
    return {
        "device": device,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "host": platform.node(),
        "system": platform.platform(),
    }


def restart_peak_memory(hardware: str) -> None:
    """Starts a new measurement of peak memory: several arms may share a process."""
    return_freed_memory()
    if hardware == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # not Linux: the peak is then the process's whole life's
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes(hardware: str) -> int:
    """Peak since the last restart: allocated on a GPU, resident of the process on a CPU."""
    if hardware == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return psutil.Process().memory_info().rss
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
