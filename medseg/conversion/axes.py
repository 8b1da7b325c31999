"""Sizes for all axes or for each, and torch's functions by number of axes."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional

Axes = int | Sequence[int]
"""A whole number for all axes, or one per axis."""

CONV: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
"""torch's convolution by number of axes of the grid."""


def of_axes(size: Axes, dims: int) -> tuple[int, ...]:
    """One number per axis.

    Raises:
        ValueError: as many numbers as there are axes were not given.
    """
    sizes = (size,) * dims if isinstance(size, int) else tuple(size)
    if len(sizes) != dims:
        raise ValueError(
            f"{sizes} has {len(sizes)} axes, the kernel has {dims}; give one number, or {dims}"
        )
    return sizes


def taps_of(weight: Tensor) -> tuple[int, ...]:
    """Taps per axis of a kernel `(_, _, *taps)`."""
    return tuple(weight.shape[2:])
