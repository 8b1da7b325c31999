"""The stride grid: signals split by phase, and a filter that no phase passes."""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional


def phase_sums(signal: Tensor, period: Sequence[int]) -> Tensor:
    """Sum over each phase of the last axes: `(*lead, *space)` → `(phases, *lead)`, array order.

    What the period does not divide is filled up with zeros.
    """
    lead = signal.shape[: signal.ndim - len(period)]
    folded = fold(signal.reshape(-1, *signal.shape[len(lead) :]), period, [0] * len(period))
    return folded.sum(dim=-1).T.reshape(-1, *lead)


def phase_means(signal: Tensor, period: Sequence[int]) -> Tensor:
    """Mean of each phase: `(N, channels, *space)` → `(phases, N, channels)`."""
    cells = math.prod(signal.shape[2:]) // math.prod(period)
    return phase_sums(signal, period) / cells


def require_finite(values: Tensor, what: str) -> None:
    """Refuses NaN and infinity."""
    if bool(values.sum(dtype=torch.float64).isfinite()):  # one fast pass if all are
        return
    if bad := values.numel() - int(values.isfinite().sum()):
        raise ValueError(
            f"{bad} of {values.numel()} {what} are NaN or infinite, which leaves nothing to "
            "measure; take weights from before the training diverged"
        )


def require_energy(values: Tensor, what: str) -> None:
    """Refuses what is zero throughout, whose shares would be 0/0."""
    if not values.any():
        raise ValueError(
            f"all {values.numel()} {what} are 0, which has no shares to compare; "
            "measure a layer that passes something"
        )


def trapezoid(signal: Num[Tensor, "*space"], period: Sequence[int]) -> Float[Tensor, "*interior"]:
    """`T_s z`: moving mean over one period, ends of an even one halved, along each axis.

    Response per axis `sin(sω/2) / (s tan(ω/2))` for even s, with sin in place of tan for odd s: 0
    at every grid frequency `2πk/s`, k ≠ 0. A linear trend passes as it is. So `z − T_s z` keeps
    each pattern of period s unchanged, up to its mean, and nothing of a ramp.

    Args:
        signal: Its last axes are space, one for each stride; axes before them number maps.
        period: Voxels per axis; 1 leaves an axis alone.

    Returns:
        The mean wherever its window fits: `s // 2` voxels fewer at both ends of each axis.

    >>> trapezoid(torch.tensor([0.0, 3.0, 0.0, 3.0]), [2]).tolist()
    [1.5, 1.5]
    """
    smooth = signal.double()
    for axis, step in enumerate(period, start=signal.ndim - len(period)):
        # an even trapezoid is the box of one period, summed over two neighbouring positions
        smooth = _run(_run(smooth, axis, step), axis, 2 - step % 2)
    return smooth / math.prod(step * (2 - step % 2) for step in period)


def trimmed(signal: Num[Tensor, "*space"], margin: Sequence[int]) -> Num[Tensor, "*interior"]:
    """The last axes without so many voxels at both ends of each; a view.

    >>> trimmed(torch.arange(5), [2]).tolist()
    [2]
    """
    sizes = zip(margin, signal.shape[signal.ndim - len(margin) :], strict=True)
    return signal[(..., *(slice(m, n - m) for m, n in sizes))]


def fold(
    fields: Num[Tensor, " fields *space"], period: Sequence[int], origin: Sequence[int]
) -> Num[Tensor, "fields phases cells"]:
    """The voxels of each phase side by side, phases in row-major order.

    Args:
        fields: Any number of maps of the same grid.
        period: Voxels per axis.
        origin: Where the first voxel lies on the grid that carries the phases.

    Returns:
        Values by phase; cells that reach over the border are filled with 0.

    >>> fold(torch.arange(4)[None], [2], [1]).tolist()
    [[[0, 1, 3], [0, 2, 0]]]
    """
    sizes = zip(fields.shape[1:], period, origin, strict=True)
    pads = [(o % s, -(o % s + n) % s) for n, s, o in sizes]
    folded = functional.pad(fields, list(itertools.chain(*reversed(pads))))
    for axis, step in enumerate(period):
        # axes before this one have become two
        folded = folded.unflatten(1 + 2 * axis, (-1, step))
    axes = range(len(period))
    order = [0, *(2 + 2 * a for a in axes), *(1 + 2 * a for a in axes)]
    return folded.permute(order).reshape(len(fields), math.prod(period), -1)


def _run(signal: Tensor, axis: int, size: int) -> Tensor:
    """Sums of so many neighbours, from those of half as many."""
    if size == 1:
        return signal
    half = _run(signal, axis, size // 2)
    pairs = half.shape[axis] - size // 2
    even = half.narrow(axis, 0, pairs) + half.narrow(axis, size // 2, pairs)
    if size % 2 == 0:
        return even
    return even.narrow(axis, 0, pairs - 1) + signal.narrow(axis, size - 1, pairs - 1)
