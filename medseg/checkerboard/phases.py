"""Signals split by phase of a lattice, and what they must be to have one."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def phase_sums(signal: Tensor, period: Sequence[int]) -> Tensor:
    """Sum over each phase of the last axes: `(*lead, *space)` → `(phases, *lead)`, array order.

    What the period does not divide is filled up with zeros.
    """
    lead = signal.ndim - len(period)
    missing = [-n % p for n, p in zip(signal.shape[lead:], period, strict=True)]
    # torch lists the sides of the last axis first
    signal = functional.pad(signal, [side for m in reversed(missing) for side in (0, m)])
    for axis, step in enumerate(period, start=lead):
        # axis of length n·s → (n, s), the n are added up
        signal = signal.unflatten(axis, (-1, step)).sum(dim=axis)
    return signal.flatten(lead).movedim(-1, 0)


def phase_means(signal: Tensor, period: Sequence[int]) -> Tensor:
    """Mean of each phase: `(N, channels, *space)` → `(phases, N, channels)`."""
    cells = math.prod(signal.shape[2:]) // math.prod(period)
    return phase_sums(signal, period) / cells


def require_finite(values: Tensor, what: str) -> None:
    """Refuses NaN and infinity."""
    bad = values.numel() - int(values.isfinite().sum())
    if bad:
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


def require_phases(phases: int) -> None:
    """Refuses a single phase, which has no other to differ from."""
    if phases < 2:
        raise ValueError(
            f"phases={phases} leaves nothing to compare, since only a stride of 2 or more prints "
            "a pattern; leave out layers that keep the grid"
        )


def require_kernel(kernel: Tensor, stride: Sequence[int]) -> None:
    """Refuses taps or strides that no upsampling has."""
    if kernel.ndim != 2 + len(stride) or min(stride, default=0) < 1:
        raise ValueError(
            f"stride={tuple(stride)} must be one whole number per axis of taps, but the kernel "
            f"has the shape {tuple(kernel.shape)}; give (inputs, outputs, *taps)"
        )
    require_phases(math.prod(stride))
    require_finite(kernel, "taps")
    require_energy(kernel, "taps")
