"""What every upsampling is."""

from typing import Protocol, runtime_checkable

from torch import nn

from medseg.blocks.sizes import Size


@runtime_checkable
class UpsampleFactory(Protocol):
    """Builds a module that multiplies the grid by `scale`.

    It is called with the coarse tensor; `layers.resampling.MaxUnpool` with the skip besides.
    """

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module: ...
