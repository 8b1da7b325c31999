"""The number format a network is trained in."""

from pathlib import Path

import torch
from torch import nn

from medseg.errors import ConfigError

_LIGHTNING = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}
_SLOW_IN_BF16 = {nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d}  # torch's own, depthwise


def choose_precision(wanted: str, network: nn.Module, device: str) -> str:
    """`bf16`, `fp16` or `fp32`.

    `auto` is bf16 autocast where the hardware computes in it, fp32 elsewhere. On a CPU a network
    with torch's own depthwise convolutions in 3-D, such as one of MONAI's, stays in fp32: bf16
    makes their gradients several times slower; `medseg.layers.depthwise` has no such fault.

    Args:
        wanted: `auto`, or one of the three.
        network: The network.
        device: `cuda` or `cpu`.

    Raises:
        ConfigError: an unknown name.
    """
    if wanted in _LIGHTNING:
        return wanted
    if wanted != "auto":
        raise ConfigError(f"precision={wanted!r} must be one of auto, {', '.join(_LIGHTNING)}")
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if cpu_has_bf16() and not has_native_depthwise(network) else "fp32"


def lightning_name(precision: str) -> str:
    """Lightning's name of a precision."""
    return _LIGHTNING[precision]


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies in bfloat16 (Linux says; elsewhere assumed not)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def has_native_depthwise(network: nn.Module) -> bool:
    """Whether some convolution of torch's own works on each channel alone, and is slow in bf16."""
    return any(
        isinstance(m, nn.modules.conv._ConvNd)
        and type(m) in _SLOW_IN_BF16
        and m.groups == m.in_channels > 1
        for m in network.modules()
    )
