"""Stages: what stands at one resolution, and how the stages of a network may differ."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from torch import nn

from medseg.blocks.conv import ConvFactory, DilatedSchedule
from medseg.blocks.sizes import Size, per_axis
from medseg.blocks.unit import UnitFactory

StageSlots = Mapping[Any, Mapping[str, Any]]
"""Slots that some stages fill differently: `{2: {"conv": Dilated()}}`, 0 the finest."""


KernelSizes = Sequence[Sequence[int | None] | None]
"""Taps per axis of the convolutions of each stage; None keeps the convolution's own."""


class Stage(nn.Sequential):
    """The units at one resolution, one after the other."""


def make_stage(
    unit: UnitFactory,
    conv: ConvFactory,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    depth: int,
) -> Stage:
    """`depth` units in a row, the first of which changes the channels."""
    return Stage(
        *(
            unit(spatial_dims, before, out_channels, _conv_of_unit(conv, index))
            for index in range(depth)
            for before in [out_channels if index else in_channels]
        )
    )


def _conv_of_unit(conv: ConvFactory, index: int) -> ConvFactory:
    return conv.at(index) if isinstance(conv, DilatedSchedule) else conv


def slots_per_stage(
    different: StageSlots | None,
    stages: Sequence[int],
    *,
    kernel_sizes: KernelSizes | None,
    steps: Sequence[Sequence[int]],
    **slots: Any,
) -> dict[int, SimpleNamespace]:
    """The slots of each stage: those given for it, else those for all.

    Args:
        different: Slots that some stages fill differently.
        stages: Their numbers.
        kernel_sizes: Taps of the convolutions of each stage of the encoder.
        steps: Strides of each stage of the encoder, per axis.
        slots: Those for all.

    Raises:
        ValueError: a stage or a slot that there is none of, or other than one kernel per stage.
    """
    if kernel_sizes is not None and len(kernel_sizes) != len(steps):
        raise ValueError(
            f"kernel_sizes={list(kernel_sizes)} must have one entry per stage ({len(steps)}), or "
            "be null"
        )
    given = {str(key): value for key, value in (different or {}).items()}
    if unknown := sorted(set(given) - {str(stage) for stage in stages}):
        raise ValueError(
            f"stage={', '.join(unknown)} is none of {', '.join(map(str, stages))} (0 is the finest)"
        )
    for stage, own in given.items():
        if not isinstance(own, Mapping):
            raise ValueError(
                f"stage {stage} must name slots, not {own!r}; its slots: {', '.join(slots)}"
            )
        if wrong := sorted(set(own) - set(slots)):
            raise ValueError(
                f"stage {stage} has no slot {wrong[0]!r}; its slots: {', '.join(slots)}"
            )
    filled = {stage: slots | dict(given.get(str(stage), {})) for stage in stages}
    for stage, own in filled.items():
        taps = kernel_sizes[stage] if kernel_sizes is not None else None
        own["conv"] = with_taps(own["conv"], taps, len(steps[0]))
    return {stage: SimpleNamespace(**own) for stage, own in filled.items()}


def with_taps(conv: ConvFactory, taps: Sequence[int | None] | None, spatial_dims: int) -> Any:
    """The convolution with other taps along some axes, where it has a kernel.

    Args:
        conv: The convolution.
        taps: Per axis, odd; None keeps its own. An axis of one tap is not dilated either. None
            for all keeps the convolution.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: another number of axes, or no odd numbers.
    """
    own: Any = conv
    if taps is None or not hasattr(own, "kernel_size"):
        return conv
    kernel = per_axis("kernel_size", own.kernel_size, spatial_dims)
    if len(taps) != spatial_dims:
        raise ValueError(
            f"kernel_sizes: {list(taps)} must have {spatial_dims} entries, one per axis"
        )
    kernel = tuple(k if n is None else n for n, k in zip(taps, kernel, strict=True))
    changed: dict[str, Any] = {"kernel_size": kernel}
    if hasattr(own, "dilation"):
        rates = per_axis("dilation", own.dilation, spatial_dims)
        changed["dilation"] = tuple(1 if n == 1 else r for n, r in zip(kernel, rates, strict=True))
    return replace(own, **changed)


def stage_plan(
    spatial_dims: int,
    channels: Sequence[int],
    strides: Sequence[Size],
    depths: int | Sequence[int],
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Stride per axis and number of units of every stage.

    Raises:
        ValueError: lists of different lengths, fewer than two stages, or a stage without channels
            or units.
    """
    stages = len(channels)
    units = [depths] * stages if isinstance(depths, int) else list(depths)
    if stages < 2:
        raise ValueError(f"channels={list(channels)} must name at least 2 stages")
    if not all(isinstance(width, int) and width >= 1 for width in channels):
        raise ValueError(
            f"channels={list(channels)} must be whole numbers of at least 1; "
            f"for instance {[16 * 2**stage for stage in range(stages)]}"
        )
    if len(strides) != stages:
        raise ValueError(
            f"strides={list(strides)} must have one entry per stage, channels={list(channels)} "
            f"has {stages}; for instance {[1] + [2] * (stages - 1)}"
        )
    if len(units) != stages:
        raise ValueError(
            f"depths={units} must have one entry per stage ({stages}), or be one number"
        )
    if any(not isinstance(count, int) or count < 1 for count in units):
        raise ValueError(f"depths={units} must all be at least 1")
    return [per_axis("strides", step, spatial_dims) for step in strides], units
