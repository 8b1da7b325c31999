"""An upsampling made of several layers."""

from collections.abc import Sequence

from torch import Tensor, nn


class Upsampling(nn.Module):
    """Layers that together multiply the grid by `scale`, and are measured together.

    Args:
        layers: What is computed.
        in_channels: Channels of the input.
        scale: Factor per axis.
    """

    def __init__(self, layers: nn.Module, in_channels: int, scale: Sequence[int]):
        super().__init__()
        self.layers = layers
        self.in_channels = in_channels
        self.scale = tuple(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"
