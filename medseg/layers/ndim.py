"""torch's layers by number of dimensions."""

from torch import nn

from medseg.layers.fast_conv import DepthwiseConv2d, DepthwiseConv3d, DilatedConv3d
from medseg.layers.instance_norm import InstanceNorm2d, InstanceNorm3d

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_DEPTHWISE = {1: nn.Conv1d, 2: DepthwiseConv2d, 3: DepthwiseConv3d}
_DILATED = {1: nn.Conv1d, 2: nn.Conv2d, 3: DilatedConv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: InstanceNorm2d, 3: InstanceNorm3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_DROPOUT = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _lookup(table: dict, spatial_dims: int):
    if spatial_dims not in table:
        raise ValueError(f"spatial_dims={spatial_dims!r} must be 1, 2 or 3; choose 2 or 3")
    return table[spatial_dims]


def conv_nd(spatial_dims: int) -> type[nn.Module]:
    """Convolution class of that dimension."""
    return _lookup(_CONV, spatial_dims)


def depthwise_nd(spatial_dims: int) -> type[nn.Module]:
    """Convolution class of that dimension for one group per input channel."""
    return _lookup(_DEPTHWISE, spatial_dims)


def dilated_nd(spatial_dims: int) -> type[nn.Module]:
    """Convolution class of that dimension for taps that stand apart."""
    return _lookup(_DILATED, spatial_dims)


def transposed_nd(spatial_dims: int) -> type[nn.Module]:
    """Transposed convolution class of that dimension."""
    return _lookup(_TRANSPOSED, spatial_dims)


def max_pool_nd(spatial_dims: int) -> type[nn.Module]:
    """Max-pooling class of that dimension."""
    return _lookup(_MAX_POOL, spatial_dims)


def average_pool_nd(spatial_dims: int) -> type[nn.Module]:
    """Average-pooling class of that dimension."""
    return _lookup(_AVERAGE_POOL, spatial_dims)


def instance_norm_nd(spatial_dims: int) -> type[nn.Module]:
    """Instance normalisation class of that dimension."""
    return _lookup(_INSTANCE_NORM, spatial_dims)


def batch_norm_nd(spatial_dims: int) -> type[nn.Module]:
    """Batch normalisation class of that dimension."""
    return _lookup(_BATCH_NORM, spatial_dims)


def dropout_nd(spatial_dims: int) -> type[nn.Module]:
    """Dropout class of that dimension that drops whole channels."""
    return _lookup(_DROPOUT, spatial_dims)


def linear_mode(spatial_dims: int) -> str:
    """Name of linear interpolation in that dimension: linear, bilinear, trilinear."""
    return _lookup(_LINEAR, spatial_dims)
