"""What a network costs: parameters and multiply-accumulates; and whether a patch passes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from medseg.analysis.counts import cost_of
from medseg.analysis.trace import abstracted, trace
from medseg.errors import ConfigError
from medseg.models.unet import MultiscaleNetwork

_INSTANCE_NORM = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_macs(network: nn.Module, in_channels: int, patch_size: Sequence[int]) -> int:
    """Multiply-accumulates of one forward pass of one patch, without computing it.

    Convolutions, transposed convolutions and matrix products count; interpolation,
    normalisation and activations do not (`medseg audit` lists them apart).

    Args:
        network: Image → logits.
        in_channels: Channels of its input.
        patch_size: Size of its input in voxels.

    Raises:
        ConfigError: the network does not accept the patch.
    """
    return sum(cost_of(step).macs for step in trace(network, in_channels, patch_size).steps)


def training_call(
    network: nn.Module, *, deep_supervision: bool
) -> Callable[[nn.Module, torch.Tensor], Any]:
    """What a training step calls on a network and an image.

    A network of another library is called as it is: its own option says what it then returns.
    """
    several = deep_supervision and isinstance(network, MultiscaleNetwork)
    return _all_logits if several else nn.Module.__call__


def _all_logits(network: Any, image: torch.Tensor) -> list[torch.Tensor]:
    return network.multiscale_logits(image)


def check_patch(
    network: nn.Module, in_channels: int, patch_size: Sequence[int], *, deep_supervision: bool
) -> None:
    """Makes sure that a patch passes the network in training, without computing anything.

    Raises:
        ConfigError: it does not; or it shrinks to a single voxel, whose variance is 0.
    """
    abstract = abstracted(network).train()
    patch = torch.empty((1, in_channels, *patch_size), device="meta")
    single: list[nn.Module] = []
    for norm in [m for m in abstract.modules() if isinstance(m, _INSTANCE_NORM)]:
        norm.register_forward_pre_hook(
            lambda norm, inputs: single.append(norm) if inputs[0][0, 0].numel() == 1 else None
        )
    try:
        with torch.no_grad():
            if deep_supervision and isinstance(abstract, MultiscaleNetwork):
                abstract.multiscale_logits(patch)
            abstract(patch)
    except (RuntimeError, ValueError) as error:
        if not single:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"patch_size={list(patch_size)} with {in_channels} channels does not pass "
                f"{type(network).__name__}: {reason}"
            ) from error
    if single:
        raise ConfigError(
            f"patch_size={list(patch_size)} shrinks to a single voxel in the bottleneck, which "
            "cannot be normalised; choose a larger patch_size or fewer stages"
        )
