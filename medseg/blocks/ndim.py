"""What 2-D and 3-D have in common: look-ups by dimension and sizes per axis."""

from collections.abc import Sequence

from torch import nn

Size = int | Sequence[int]
"""A size for all axes, or one per axis."""

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _lookup(table: dict, spatial_dims: int):
    if spatial_dims not in table:
        raise ValueError(f"spatial_dims={spatial_dims!r} must be 1, 2 or 3; choose 2 or 3")
    return table[spatial_dims]


def conv_nd(spatial_dims: int) -> type[nn.Module]:
    """Convolution class of that dimension."""
    return _lookup(_CONV, spatial_dims)


def transposed_nd(spatial_dims: int) -> type[nn.Module]:
    """Transposed convolution class of that dimension."""
    return _lookup(_TRANSPOSED, spatial_dims)


def max_pool_nd(spatial_dims: int) -> type[nn.Module]:
    """Max-pooling class of that dimension."""
    return _lookup(_MAX_POOL, spatial_dims)


def instance_norm_nd(spatial_dims: int) -> type[nn.Module]:
    """Instance normalisation class of that dimension."""
    return _lookup(_INSTANCE_NORM, spatial_dims)


def batch_norm_nd(spatial_dims: int) -> type[nn.Module]:
    """Batch normalisation class of that dimension."""
    return _lookup(_BATCH_NORM, spatial_dims)


def linear_mode(spatial_dims: int) -> str:
    """Name of linear interpolation in that dimension: linear, bilinear, trilinear."""
    return _lookup(_LINEAR, spatial_dims)


def per_axis(name: str, size: Size, spatial_dims: int) -> tuple[int, ...]:
    """`size` as one integer per axis.

    Raises:
        ValueError: a sequence whose length is not `spatial_dims`, or not whole numbers from 1.
    """
    sizes = tuple(size) if isinstance(size, Sequence) else (size,) * spatial_dims
    if len(sizes) != spatial_dims:
        raise ValueError(
            f"{name}={sizes} has {len(sizes)} axes, the network has {spatial_dims}; "
            f"give one number, or {spatial_dims}"
        )
    if not all(isinstance(n, int) and n >= 1 for n in sizes):
        raise ValueError(f"{name}={size!r} must be whole numbers of at least 1; for instance 2")
    return sizes


def freeze_size(block: object, name: str, *, at_least: int = 1, odd: bool = False) -> None:
    """Checks a size given by a user and stores it in its frozen block as int or tuple.

    Raises:
        ValueError: not whole numbers, smaller than `at_least`, or even where `odd` is the rule.
    """
    value = getattr(block, name)
    sizes = [value] if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or not sizes:
        raise ValueError(
            f"{name}={value!r} must be a whole number, or one per axis; for instance 3"
        )
    for size in sizes:
        if not isinstance(size, int) or isinstance(size, bool):
            raise ValueError(f"{name}={value!r} must hold whole numbers; for instance 3")
        if size < at_least:
            raise ValueError(
                f"{name}={value!r} must be at least {at_least}; choose {at_least} or more"
            )
        if odd and size % 2 == 0:
            raise ValueError(
                f"{name}={value!r} must be odd, so that the grid is kept; "
                f"choose {size - 1 or 1} or {size + 1}"
            )
    object.__setattr__(block, name, value if isinstance(value, int) else tuple(sizes))
