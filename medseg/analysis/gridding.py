"""Voxels that stacked dilated convolutions never read."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from torch import nn

from medseg.checkerboard.convolutions import largest_gap
from medseg.layers.fast_conv import SharedSmoothing
from medseg.models.stage import Stage

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def skipped_voxels(taps: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Voxels that a stack of convolutions skips along an axis, and the extent of its field.

    Args:
        taps: Kernel and dilation of each convolution.

    >>> skipped_voxels([(3, 2), (3, 2)]), skipped_voxels([(3, 1), (3, 2)])
    ((4, 9), (0, 7))
    """
    offsets = {0}
    for kernel, rate in taps:
        offsets = {offset + rate * tap for offset in offsets for tap in range(kernel)}
    extent = max(offsets) + 1
    return extent - len(offsets), extent


def gridding(taps: Sequence[tuple[int, int]]) -> str | None:
    """What is wrong with a stack of dilated convolutions, in words; None if nothing is.

    Args:
        taps: Kernel and dilation of each convolution.
    """
    skipped, extent = skipped_voxels(taps)
    if not skipped:
        return None
    rates = [rate for _, rate in taps]
    factor = math.gcd(*rates)
    reason = (
        f"they have the common factor {factor}"
        if factor > 1
        else f"their largest gap (HDC) is {largest_gap(rates)}"
    )
    listed = ", ".join(map(str, rates))
    return (
        f"dilations {listed} skip {skipped} of the {extent} voxels of their receptive field: "
        f"{reason}"
    )


def gridding_warnings(network: nn.Module) -> list[str]:
    """One sentence for every row of stages whose convolutions leave holes in their field.

    The convolutions of a stage are taken one after the other; those of other stages, which may
    fill the holes, do not count.
    """
    found = [
        (problem, name)
        for name, stage in network.named_modules()
        if isinstance(stage, Stage)
        for problem in [_gridding_of(stage)]
        if problem
    ]
    return [
        f"{', '.join(name for _, name in stages)}: {problem}; "
        "choose conv=dilated_schedule, or rates without a common factor such as 1, 2, 5"
        for problem, stages in groupby(sorted(found), key=lambda pair: pair[0])
    ]


def _gridding_of(stage: Stage) -> str | None:
    for axis in zip(*_taps(stage), strict=True):
        if problem := gridding([(kernel, rate) for kernel, rate in axis if kernel > 1]):
            return problem
    return None


def _taps(stage: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """Kernel and dilation of each axis, of one convolution after the other."""
    for module in stage.modules():
        if isinstance(module, _CONV):
            yield list(zip(module.kernel_size, module.dilation, strict=True))
        elif isinstance(module, SharedSmoothing):
            yield [(taps, 1) for taps in module.weight.shape[2:]]
