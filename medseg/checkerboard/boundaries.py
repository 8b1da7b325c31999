"""Boundary faces of label maps, by phase of the stride grid.

A boundary face lies between two neighbouring voxels with different labels; that between n − 1 and
n has phase `n mod s`. Boundaries of anatomy ignore the grid, so each phase has 1/s of them.
"""

from collections.abc import Sequence

from jaxtyping import Int, Shaped
from torch import Tensor

from medseg.checkerboard.phases import checked_period, fold


def boundary_histograms(
    labels: Shaped[Tensor, "*space"],
    period: Sequence[int],
    origin: Sequence[int] | None = None,
) -> tuple[Int[Tensor, " phases"] | None, ...]:
    """`h_a(φ) = #{n : label changes from n − 1 to n along a, n ≡ φ mod s_a}`, for each axis a.

    Counts of several maps add up. Unchanged by any renaming of labels.

    Args:
        labels: Label map or mask of 1 to 3 axes.
        period: Voxels per axis.
        origin: Index of the first voxel on the network's grid; None: 0.

    Returns:
        Counts by phase for each axis; None for an axis of stride 1, which has one phase.

    Raises:
        ValueError: stride 1 everywhere, or an axis shorter than one period.

    >>> import torch
    >>> boundary_histograms(torch.tensor([0, 0, 1, 1, 0, 0]), [2])[0].tolist()
    [2, 0]
    """
    steps = _checked(labels, period)
    first = (0,) * labels.ndim if origin is None else tuple(origin)
    return tuple(
        _along(labels, axis, step, start) if step > 1 else None
        for axis, (step, start) in enumerate(zip(steps, first, strict=True))
    )


def boundary_snapping(histogram: Int[Tensor, " phases"]) -> float | None:
    """`BSI = (h(0) − 1/s) / (1 − 1/s)`, h the shares of boundary faces by phase.

    1 iff every boundary lies on the grid, as after nearest-neighbour upsampling; 0 for boundaries
    that ignore it; below 0 for boundaries that avoid it, down to `−1 / (s − 1)`.

    Returns:
        The index; None for a map without boundaries.

    >>> import torch
    >>> boundary_snapping(torch.tensor([5, 0])), boundary_snapping(torch.tensor([5, 5]))
    (1.0, 0.0)
    """
    shares = _shares(histogram)
    if shares is None:
        return None
    even = 1 / len(shares)
    return (float(shares[0]) - even) / (1 - even)


def boundary_distance(
    histogram: Int[Tensor, " phases"], truth: Int[Tensor, " phases"]
) -> float | None:
    """`½ Σ_φ |h(φ) − h_truth(φ)|` in [0, 1]: total variation of two histograms.

    Two-sided, since linear upsamplings push boundaries off the grid, and against the truth, since
    that may be blocky itself.

    Returns:
        The distance; None if either map has no boundary.

    Raises:
        ValueError: histograms of different periods.

    >>> import torch
    >>> boundary_distance(torch.tensor([4, 0]), torch.tensor([2, 2]))
    0.5
    """
    if histogram.shape != truth.shape:
        raise ValueError(
            f"histograms of {len(histogram)} and {len(truth)} phases: only one period compares; "
            "count both with it"
        )
    pair = _shares(histogram), _shares(truth)
    if pair[0] is None or pair[1] is None:
        return None
    return float((pair[0] - pair[1]).abs().sum() / 2)


def saddle_rate(labels: Shaped[Tensor, "*space"]) -> float | None:
    """2 × 2 squares `ab/ba` with a ≠ b per boundary face, over every pair of axes.

    961/1984 for a full checkerboard of 32 × 32; near 0 for smooth masks. Needs no period.

    Returns:
        The rate, 0 along a single axis; None for a map without boundaries.

    >>> import torch
    >>> saddle_rate(torch.eye(2))
    0.25
    """
    axes = range(labels.ndim)
    faces = sum(int(_changes(labels, axis).sum()) for axis in axes)
    saddles = sum(_saddles(labels, first, second) for first in axes for second in axes[first + 1 :])
    return saddles / faces if faces else None


def _checked(labels: Tensor, period: Sequence[int]) -> tuple[int, ...]:
    steps = checked_period(period, labels.ndim)
    if any(n < s for n, s in zip(labels.shape, steps, strict=True)):
        raise ValueError(
            f"map {tuple(labels.shape)} is smaller than one period {steps}: it lacks phases; "
            "leave this case out"
        )
    return steps


def _along(labels: Tensor, axis: int, step: int, start: int) -> Tensor:
    changes = _changes(labels, axis).movedim(axis, 0)
    changes = changes.reshape(len(changes), -1).sum(dim=1)
    # the first face lies before voxel 1
    return fold(changes[None], [step], [start + 1]).sum(dim=-1)[0]


def _changes(labels: Tensor, axis: int) -> Tensor:
    length = labels.shape[axis] - 1
    return labels.narrow(axis, 1, length) != labels.narrow(axis, 0, length)


def _saddles(labels: Tensor, first: int, second: int) -> int:
    """Squares of two axes whose diagonals are constant and differ."""
    top, bottom = _pair(labels, first)
    (a, b), (c, d) = _pair(top, second), _pair(bottom, second)
    return int(((a == d) & (b == c) & (a != b)).sum())


def _pair(labels: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    length = labels.shape[axis] - 1
    return labels.narrow(axis, 0, length), labels.narrow(axis, 1, length)


def _shares(histogram: Tensor) -> Tensor | None:
    total = histogram.sum()
    return histogram.double() / total if total > 0 else None
