"""torch's layers by number of spatial dimensions, 1, 2 or 3; any other is a `ValueError`.

>>> conv_nd(3), linear_mode(2)
(<class 'medseg.layers.fast_conv.Conv3d'>, 'bilinear')
"""

from functools import partial
from typing import Any

from torch import nn

from medseg.layers.fast_conv import Conv3d, DepthwiseConv2d, DepthwiseConv3d, DilatedConv3d
from medseg.layers.instance_norm import InstanceNorm2d, InstanceNorm3d


def _of_dimension(one: Any, two: Any, three: Any, spatial_dims: int) -> Any:
    choices = {1: one, 2: two, 3: three}
    if spatial_dims not in choices:
        raise ValueError(f"spatial_dims={spatial_dims!r} must be 1, 2 or 3; choose 2 or 3")
    return choices[spatial_dims]


conv_nd = partial(_of_dimension, nn.Conv1d, nn.Conv2d, Conv3d)
transposed_nd = partial(_of_dimension, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
max_pool_nd = partial(_of_dimension, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
average_pool_nd = partial(_of_dimension, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
instance_norm_nd = partial(_of_dimension, nn.InstanceNorm1d, InstanceNorm2d, InstanceNorm3d)
batch_norm_nd = partial(_of_dimension, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
dropout_nd = partial(_of_dimension, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # whole channels
linear_mode = partial(_of_dimension, "linear", "bilinear", "trilinear")

# for one group per input channel, and for taps that stand apart
depthwise_nd = partial(_of_dimension, nn.Conv1d, DepthwiseConv2d, DepthwiseConv3d)
dilated_nd = partial(_of_dimension, nn.Conv1d, nn.Conv2d, DilatedConv3d)
