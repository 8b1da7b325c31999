"""What each block is and costs, alone."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from torch import nn

from medseg.analysis.cost import count_macs, count_parameters
from medseg.blocks.conv import Standard
from medseg.layers.resampling import MaxUnpool
from medseg.models.description import Description, build

_CHANNELS, _SCALE, _SIDE = 32, 2, 16

_MAKE: dict[str, Callable[[Any, int], tuple[nn.Module, int, int]]] = {
    # slot → module, its input channels and the side of its input grid
    "conv": lambda block, dims: (block(dims, _CHANNELS, _CHANNELS), _CHANNELS, _SIDE),
    "unit": lambda block, dims: (block(dims, _CHANNELS, _CHANNELS, Standard()), _CHANNELS, _SIDE),
    "downsample": lambda block, dims: (block(dims, _CHANNELS, _SCALE), _CHANNELS, _SIDE),
    "upsample": lambda block, dims: (
        block(dims, 2 * _CHANNELS, _CHANNELS, _SCALE),
        2 * _CHANNELS,
        _SIDE // _SCALE,
    ),
}
SLOTS = tuple(_MAKE)


def block_costs(slot: str, description: Description) -> tuple[list[int], list[float]]:
    """Parameters, and multiply-accumulates per voxel of the finer grid, each in 2-D and 3-D.

    They are those at 32 channels, of an upsampling from 64 to 32.
    """
    parameters, macs = [], []
    for dims in (2, 3):
        module, in_channels, side = _MAKE[slot](build(description), dims)
        parameters.append(count_parameters(module))
        counted = module.project if isinstance(module, MaxUnpool) else module
        macs.append(count_macs(counted, in_channels, (side,) * dims) / _SIDE**dims)
    return parameters, macs


def contract(description: Description) -> str:
    """First line of a block's class, and the options that differ from its defaults."""
    block = build(description)
    first = (inspect.getdoc(type(block)) or "").splitlines()[0]
    usual = type(block)()
    own = [
        f"{field.name}={getattr(block, field.name)!r}"
        for field in fields(block)
        if getattr(block, field.name) != getattr(usual, field.name)
    ]
    return f"{first} `{', '.join(own)}`" if own else first
