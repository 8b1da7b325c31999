"""Where a benchmark ran, and which number formats it has there."""

import os
import platform
from dataclasses import dataclass

import psutil
import torch

from medseg.errors import ConfigError, ResourceError
from medseg.machine import cpu_name, now, package_versions
from medseg.training.precision import cpu_has_bf16

_PACKAGES = ("torch", "monai", "medseg")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine, the versions and the time."""

    device: str
    cpu: str
    cores: int
    threads: int
    memory_gib: float
    gpu: str | None
    system: str
    versions: dict[str, str]
    date: str


def choose_device(wanted: str) -> torch.device:
    """The device of `auto`, `cpu` or `gpu`.

    Raises:
        ConfigError: another word.
        ResourceError: a GPU is wanted and there is none.
    """
    if wanted not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"device={wanted!r} must be one of auto, cpu, gpu; choose auto")
    available = torch.cuda.is_available()
    if wanted == "gpu" and not available:
        raise ResourceError("device=gpu, but torch sees no GPU; choose --device cpu")
    return torch.device("cpu" if wanted == "cpu" or not available else "cuda")


def precisions_of(device: torch.device) -> tuple[str, ...]:
    """`fp32`, and `bf16` where the hardware computes in it."""
    gpu = device.type == "cuda"
    has_bf16 = torch.cuda.is_bf16_supported() if gpu else cpu_has_bf16()
    return ("fp32", "bf16") if has_bf16 else ("fp32",)


def describe_machine(device: torch.device) -> Machine:
    """What the figures depend on."""
    return Machine(
        device=device.type,
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=torch.cuda.get_device_name() if device.type == "cuda" else None,
        system=platform.platform(),
        versions=package_versions(_PACKAGES),
        date=now(),
    )
