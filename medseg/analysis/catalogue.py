"""What each block is and costs, alone."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
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


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One option of a slot.

    Args:
        slot: `conv`, `unit`, `downsample` or `upsample`.
        option: Its name in the configuration.
        law: What it computes, in one line.
        parameters: Dimensions → parameters at 32 channels (an upsampling: from 64 to 32).
        macs_per_voxel: Dimensions → multiply-accumulates per voxel of the finer grid.
    """

    slot: str
    option: str
    law: str
    parameters: Mapping[int, int]
    macs_per_voxel: Mapping[int, float]


def catalogue_entry(slot: str, option: str, description: Description) -> CatalogueEntry:
    """Describes one option of a slot by its class and by counting."""
    block = build(description)
    parameters, macs = {}, {}
    for dims in (2, 3):
        module, in_channels, side = _MAKE[slot](block, dims)
        parameters[dims] = count_parameters(module)
        counted = module.project if isinstance(module, MaxUnpool) else module
        macs[dims] = count_macs(counted, in_channels, (side,) * dims) / _SIDE**dims
    return CatalogueEntry(
        slot=slot,
        option=option,
        law=_law(block),
        parameters=parameters,
        macs_per_voxel=macs,
    )


def _law(block: Any) -> str:
    """First line of the class, and what this block has other than the class's defaults."""
    first = (inspect.getdoc(type(block)) or "").splitlines()[0]
    usual = type(block)()
    own = [
        f"{field.name}={getattr(block, field.name)!r}"
        for field in fields(block)
        if getattr(block, field.name) != getattr(usual, field.name)
    ]
    return f"{first} `{', '.join(own)}`" if own else first


def markdown_table(entries: list[CatalogueEntry]) -> str:
    """The catalogue as a Markdown table."""
    rows = [
        "| slot | option | what it computes | weights 2-D, 3-D | MACs a voxel 2-D, 3-D |",
        "| --- | --- | --- | --- | --- |",
    ]
    for entry in entries:
        weights = ", ".join(f"{entry.parameters[dims]:,}" for dims in (2, 3))
        macs = ", ".join(f"{entry.macs_per_voxel[dims]:,.0f}" for dims in (2, 3))
        rows.append(f"| {entry.slot} | `{entry.option}` | {entry.law} | {weights} | {macs} |")
    return "\n".join(rows) + "\n"
