"""The number format a network is trained in."""

from pathlib import Path

import torch
from torch import nn

from medseg.errors import ConfigError

_LIGHTNING = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}
_CONV = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def choose_precision(wanted: str, network: nn.Module, device: str) -> str:
    """`bf16`, `fp16` or `fp32`.

    `auto` is bf16 autocast where the hardware computes in it, fp32 elsewhere. On a CPU a network
    with depthwise convolutions stays in fp32: there bf16 makes them several times slower.

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
    return "bf16" if cpu_has_bf16() and not has_depthwise(network) else "fp32"


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


def has_depthwise(network: nn.Module) -> bool:
    """Whether some convolution works on each channel alone."""
    return any(
        m.groups > 1 and m.groups == m.in_channels
        for m in network.modules()
        if isinstance(m, _CONV)
    )
