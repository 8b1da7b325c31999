"""Devices, number formats and versions: what a run computes on.

One vocabulary names devices everywhere: `auto`, `cpu`, `cuda`, `cuda:N`. torch is imported inside
functions only, so that importing this module costs nothing.
"""

import logging
import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)

DEVICES = "auto, cpu, cuda, cuda:N"
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

_LIGHTNING_NAMES = {
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
    "tf32": "32-true",
    "fp32": "32-true",
}


def device_name(wanted: str, *, key: str = "device") -> str:
    """Checks the name of a device and replaces the old word `gpu`.

    Args:
        wanted: `auto`, `cpu`, `cuda` or `cuda:N`.
        key: The option's name, for messages.

    Raises:
        ConfigError: another word.
    """
    if wanted == "gpu":
        log.warning("%s=gpu is now called %s=cuda; the old word works in this version", key, key)
        return "cuda"
    if not isinstance(wanted, str) or not re.fullmatch("auto|cpu|cuda(:[0-9]+)?", wanted):
        raise ConfigError(f"{key}={wanted!r} must be one of {DEVICES}; choose auto")
    return wanted


def choose_device(wanted: str, *, key: str = "device") -> "torch.device":
    """Finds the device of a name; `auto` is the GPU if there is one.

    Args:
        wanted: `auto`, `cpu`, `cuda` or `cuda:N`.
        key: The option's name, for messages.

    Raises:
        ConfigError: another word.
        ResourceError: a GPU is asked for and torch does not see it.
    """
    import torch

    name = device_name(wanted, key=key)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    if name != "cpu" and int(name.partition(":")[2] or 0) >= gpus:
        raise ResourceError(f"{key}={wanted}, but torch sees {gpus} GPUs; use {key}=cpu")
    return torch.device(name)


def choose_precision(wanted: str, network: "nn.Module", device: "torch.device") -> str:
    """Chooses `bf16`, `fp16`, `tf32` or `fp32`.

    `tf32` is fp32, of which a GPU rounds factors of products to 10 bits. `auto` is bf16 autocast
    where the hardware computes in it, else fp16 on a GPU and fp32 on a CPU. On a CPU a network with
    torch's own depthwise convolutions in 3-D, such as one of MONAI's, stays in fp32: bf16 makes
    their gradients several times slower; `medseg.layers.fast_conv` does not have this fault.

    Args:
        wanted: `auto`, or one of the four.
        network: The network.
        device: Where it is trained.

    Raises:
        ConfigError: an unknown name.
    """
    if wanted in _LIGHTNING_NAMES:
        return wanted
    if wanted != "auto":
        names = ", ".join(["auto", *_LIGHTNING_NAMES])
        raise ConfigError(f"precision={wanted!r} must be one of {names}; choose auto")
    if device.type == "cuda":
        return "bf16" if computes_in_bf16(device) else "fp16"
    return "bf16" if computes_in_bf16(device) and not has_native_depthwise(network) else "fp32"


def require_precision(
    precision: str,
    device: "torch.device",
    *,
    key: str = "trainer.precision",
    remedy: str = "give trainer.precision=auto",
) -> None:
    """Checks that a CPU has kernels of a number format.

    Without AVX-512 torch's convolutions in bf16 unfold the image, in many times the memory and
    time of fp32; for fp16 Lightning would put bf16. GPUs before Ampere have no TF32.

    Args:
        precision: `bf16`, `fp16`, `tf32`, `fp32` or `auto`.
        device: Where.
        key: The option's name, for messages.
        remedy: What else to give.

    Raises:
        ResourceError: it has none.
    """
    import torch

    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    has_bf16 = has_avx512 or computes_in_bf16(device)
    if device.type == "cpu" and (precision == "fp16" or (precision == "bf16" and not has_bf16)):
        raise ResourceError(f"{key}={precision}: this CPU has no kernels; {remedy}")
    if precision != "tf32":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        raise ResourceError(f"{key}=tf32: needs an NVIDIA GPU from Ampere on; {remedy}")


def allow_tf32(precision: str) -> None:
    """Lets GPUs round fp32 products to TF32 where that is the precision, and nowhere else.

    torch does it in convolutions from the start, so that fp32 would not be what it says.
    """
    import torch

    is_allowed = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = is_allowed


def lightning_name(precision: str) -> str:
    """Lightning's name of a precision."""
    return _LIGHTNING_NAMES[precision]


def computes_in_bf16(device: "torch.device") -> bool:
    """Whether a device multiplies in bfloat16; a CPU is asked on Linux, elsewhere it is denied.

    GPUs before Ampere emulate it, at a fraction of their speed in fp16.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def has_native_depthwise(network: "nn.Module") -> bool:
    """Whether a convolution of torch's own works on each channel alone, and is slow in bf16."""
    from torch import nn

    slow = {nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d}
    return any(
        isinstance(m, nn.modules.conv._ConvNd) and type(m) in slow and m.groups == m.in_channels > 1
        for m in network.modules()
    )


def cpu_name() -> str:
    """The processor's name, as precisely as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def describe_machine(device: "torch.device", precision: str) -> dict[str, str | int]:
    """What a run computes on, as its record keeps it."""
    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "host": platform.node(),
        "system": platform.platform(),
    }


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Package → installed version, Python included."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def now() -> str:
    """The time in ISO form, with its zone."""
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
