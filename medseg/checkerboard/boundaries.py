"""Boundary faces of label maps and wrong voxels, by phase of the stride grid.

A boundary face lies between two neighbouring voxels with different labels; that between n − 1 and
n has phase `n mod s`. Boundaries of anatomy ignore the grid, so each phase has 1/s of them.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from medseg.checkerboard.phases import fold


def boundary_histograms(
    windows: Shaped[Tensor, " windows *space"], period: Sequence[int], origin: Sequence[int]
) -> dict[int, Int[Tensor, " phases"]]:
    """`h_a(φ) = #{n : label changes from n − 1 to n along a, n ≡ φ mod s_a}`, for each axis a.

    Counts of several maps add up. Unchanged by any renaming of labels.

    Args:
        windows: Label maps or masks of 1 to 3 axes.
        period: Voxels per axis.
        origin: Index of their first voxel on the network's grid.

    Returns:
        Counts by phase for each axis; an axis of stride 1, which has one phase, is left out.

    >>> import torch
    >>> boundary_histograms(torch.tensor([[0, 0, 1, 1, 0, 0]]), [2], [0])[0].tolist()
    [2, 0]
    """
    found = {}
    for axis, step in enumerate(period):
        if step > 1:
            length = windows.shape[axis + 1] - 1
            changes = windows.narrow(axis + 1, 1, length) != windows.narrow(axis + 1, 0, length)
            faces = changes.movedim(axis + 1, 0).reshape(length, -1).sum(dim=1)
            # the first face lies before voxel 1
            found[axis] = fold(faces[None], [step], [origin[axis] + 1]).sum(dim=-1)[0]
    return found


def boundary_snapping(histograms: Mapping[int, Int[Tensor, " phases"]]) -> float | None:
    """`BSI = (h(0) − 1/s) / (1 − 1/s)`, h the shares of boundary faces by phase; mean over axes.

    1 iff every boundary lies on the grid, as after nearest-neighbour upsampling; 0 for boundaries
    that ignore it; below 0 for boundaries that avoid it, down to `−1 / (s − 1)`.

    Returns:
        The index; None for a map without boundaries.

    >>> import torch
    >>> [boundary_snapping({0: torch.tensor(counts)}) for counts in ([5, 0], [5, 5])]
    [1.0, 0.0]
    """
    return mean_of(
        (float(each[0]) - 1 / len(each)) / (1 - 1 / len(each))
        for each in map(_shares, histograms.values())
        if each is not None
    )


def boundary_distance(
    histograms: Mapping[int, Int[Tensor, " phases"]], truth: Mapping[int, Int[Tensor, " phases"]]
) -> float | None:
    """`½ Σ_φ |h(φ) − h_truth(φ)|` in [0, 1]: total variation of two histograms, mean over axes.

    Two-sided, since linear upsamplings push boundaries off the grid, and against the truth, since
    that may be blocky itself.

    Returns:
        The distance; None if either map has no boundary.

    >>> import torch
    >>> boundary_distance({0: torch.tensor([4, 0])}, {0: torch.tensor([2, 2])})
    0.5
    """
    axes = histograms.keys() & truth.keys()
    pairs = ((_shares(histograms[axis]), _shares(truth[axis])) for axis in sorted(axes))
    return mean_of(
        float((one - other).abs().sum() / 2)
        for one, other in pairs
        if one is not None and other is not None
    )


def error_spread(errors: Float[Tensor, "2 phases"]) -> float | None:
    """Standard deviation over phases of the share of wrong voxels, over its mean.

    Args:
        errors: Wrong voxels and all voxels.

    Returns:
        The spread; None where no voxel is wrong.
    """
    wrong, voxels = errors
    if not wrong.any():
        return None
    rates = wrong / voxels
    return float(rates.std(correction=0) / rates.mean())


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of what is defined and finite, None of nothing."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return statistics.fmean(known) if known else None


def _shares(histogram: Tensor) -> Tensor | None:
    total = histogram.sum()
    return histogram.double() / total if total > 0 else None
