"""Sums per phase that every seasonal measure is a function of; they add up over blocks and cases.

The residual `e = z − T_s z` is compared with the smooth map `T_s z` and its slopes, all in double
precision. A volume of any size is read in blocks, so memory is bounded by one block.
"""

import functools
import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from medseg.metrics.checkerboard.cases.lattice import (
    check_finite,
    checked_period,
    fold,
    trapezoid,
    trimmed,
)

ONE, RESIDUAL, SMOOTH = range(3)


@dataclass(frozen=True, eq=False)
class PhaseMoments:
    """`Σ v vᵀ` over the voxels of each phase, with `v = (1, e, T_s z, ∂T_s z per axis)`.

    So `[φ, 0, 0]` counts voxels, `[φ, 0, 1]` sums e, `[φ, 1, 2]` sums `e · T_s z`. Moments of two
    sets of voxels add up to the moments of both. Slopes are kept of axes with stride > 1.
    """

    period: tuple[int, ...]
    gram: Float[Tensor, "phases terms terms"]

    def __add__(self, other: "PhaseMoments") -> "PhaseMoments":
        if self.period != other.period:
            raise ValueError(
                f"periods {self.period} and {other.period}: only sums over the same phases add up; "
                "measure both with one period"
            )
        return PhaseMoments(self.period, self.gram + other.gram)

    @property
    def strided_axes(self) -> tuple[int, ...]:
        """Axes with stride > 1; the others have no phases."""
        return tuple(axis for axis, step in enumerate(self.period) if step > 1)


def halo(period: Sequence[int]) -> tuple[int, ...]:
    """Voxels at both ends of each axis that filter and slope need from beyond a block.

    >>> halo([4, 2, 1])
    (3, 2, 0)
    """
    return tuple(step // 2 + 1 if step > 1 else 0 for step in period)


def block_moments(
    block: Num[Tensor, "*space"], period: Sequence[int], origin: Sequence[int]
) -> PhaseMoments:
    """Moments of the voxels of a block that are at least `halo(period)` away from its ends.

    Args:
        block: Part of a map, with its halo.
        period: Voxels per axis after which a pattern repeats; an axis of stride 1 drops out.
        origin: Index of the block's first voxel on the network's grid.

    Raises:
        ValueError: stride 1 everywhere, a block that is all halo, or values that are not finite.
    """
    steps = checked_period(period, block.ndim)
    margin = halo(steps)
    if any(n <= 2 * m for n, m in zip(block.shape, margin, strict=True)):
        raise ValueError(
            f"block {tuple(block.shape)} is no larger than its halo of {margin} at both ends; "
            "give a larger block"
        )
    check_finite(block)
    signal = block.double()
    wide = trapezoid(signal, steps)
    rim = [min(m, 1) for m in margin]
    smooth = trimmed(wide, rim)
    slopes = [_slope(wide, axis, rim) for axis, step in enumerate(steps) if step > 1]
    residual = trimmed(signal, margin) - smooth
    fields = torch.stack([torch.ones_like(smooth), residual, smooth, *slopes])
    folded = fold(fields, steps, [o + m for o, m in zip(origin, margin, strict=True)])
    return PhaseMoments(steps, torch.einsum("ipc,jpc->pij", folded, folded))


def phase_moments(
    signal: Num[Tensor, "*space"],
    period: Sequence[int],
    origin: Sequence[int] | None = None,
    block: int = 96,
) -> PhaseMoments:
    """Moments of a whole map, read in blocks; equal to those of one block up to rounding.

    Args:
        signal: One channel of the logits of one case, on the network's own grid: before any
            resampling, flipping or blending of windows, which move the phases.
        period: Voxels per axis after which a pattern repeats; an axis of stride 1 drops out.
        origin: Index of the first voxel on that grid; None: 0.
        block: Voxels per axis that are worked on at once.

    Raises:
        ValueError: stride 1 everywhere, fewer voxels than halo and one period, or values that
            are not finite.

    >>> phase_moments(torch.arange(9.0), [2]).gram[:, ONE, ONE].tolist()
    [3.0, 2.0]
    """
    steps = checked_period(period, signal.ndim)
    margin = halo(steps)
    needed = tuple(s + 2 * m for s, m in zip(steps, margin, strict=True))
    if any(n < least for n, least in zip(signal.shape, needed, strict=True)):
        raise ValueError(
            f"map {tuple(signal.shape)} is smaller than {needed}, one period {steps} and its halo; "
            "leave this case out"
        )
    first = (0,) * signal.ndim if origin is None else tuple(origin)
    parts = (
        block_moments(signal[part], steps, [o + p.start for o, p in zip(first, part, strict=True)])
        for part in _blocks(signal.shape, margin, block)
    )
    return functools.reduce(operator.add, parts)


def _blocks(shape: Sequence[int], margin: Sequence[int], block: int) -> Iterator[tuple[slice, ...]]:
    """Overlapping parts whose interiors tile the interior of the whole."""
    starts = (range(0, n - 2 * m, block) for n, m in zip(shape, margin, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + block + 2 * m, n))
            for start, m, n in zip(corner, margin, shape, strict=True)
        )


def _slope(smooth: Tensor, axis: int, rim: Sequence[int]) -> Tensor:
    """Central difference along an axis, where it exists along every strided axis."""
    inner = trimmed(smooth, [0 if a == axis else m for a, m in enumerate(rim)])
    length = inner.shape[axis] - 2
    return (inner.narrow(axis, 2, length) - inner.narrow(axis, 0, length)) / 2
