"""Attention on a skip connection."""

from torch import Tensor, nn

from medseg.layers.ndim import conv_nd


class AttentionGate(nn.Module):
    """`skip · σ(ψ(relu(W·skip + V·up)))`: one weight in (0, 1) per voxel.

    Args:
        spatial_dims: 2 or 3.
        channels: Channels of the skip and of the upsampled tensor.
        inner: Channels in between.

    Reference: Oktay et al. 2018, "Attention U-Net", equations 1 and 2; here the gating signal
    has been upsampled to the skip's grid, there the skip is brought to the signal's.
    """

    def __init__(self, spatial_dims: int, channels: int, inner: int):
        super().__init__()
        conv = conv_nd(spatial_dims)
        self.of_skip = conv(channels, inner, 1, bias=False)
        self.of_signal = conv(channels, inner, 1)
        self.score = nn.Sequential(nn.ReLU(), conv(inner, 1, 1), nn.Sigmoid())

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        return skip * self.score(self.of_skip(skip) + self.of_signal(signal))
