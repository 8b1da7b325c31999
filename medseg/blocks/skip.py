"""Skips: how the encoder's tensor joins the decoder's. Contract: the grid is kept.

`(skip, up) → joined`, both `(N, channels, *S)`, joined `(N, join.out_channels, *S)`.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from medseg.blocks.sizes import Block, Count
from medseg.layers.ndim import conv_nd


class Join(nn.Module):
    """A skip connection's module: it knows the channels that it makes."""

    def __init__(self, out_channels: int):
        super().__init__()
        self.out_channels = out_channels


@runtime_checkable
class SkipFactory(Protocol):
    """Builds a module that joins a skip of `channels` channels with as many from below."""

    def __call__(self, spatial_dims: int, channels: int) -> Join: ...


@dataclass(frozen=True, kw_only=True)
class Concatenate:
    """Side by side along the channels, as in U-Net (Ronneberger et al. 2015)."""

    def __call__(self, spatial_dims: int, channels: int) -> Join:
        return _Concatenate(2 * channels)


@dataclass(frozen=True, kw_only=True)
class Add:
    """Added up, as in LinkNet (Chaurasia & Culurciello 2017): half the channels follow."""

    def __call__(self, spatial_dims: int, channels: int) -> Join:
        return _Add(channels)


@dataclass(frozen=True, kw_only=True)
class Attention(Block):
    """The skip weighted by a gate of both tensors, then side by side.

    Args:
        reduction: Divisor of the channels inside the gate.

    Reference: Oktay et al. 2018, "Attention U-Net".
    """

    reduction: Count = 2

    def __call__(self, spatial_dims: int, channels: int) -> Join:
        return _Attention(spatial_dims, channels, max(1, channels // self.reduction))


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No skip: what comes from below goes on alone, as in an autoencoder."""

    def __call__(self, spatial_dims: int, channels: int) -> Join:
        return _Nothing(channels)


class _AttentionGate(nn.Module):
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


class _Concatenate(Join):
    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        return torch.cat([skip, up], dim=1)


class _Add(Join):
    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        return skip + up


class _Nothing(Join):
    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        return up


class _Attention(Join):
    def __init__(self, spatial_dims: int, channels: int, inner: int):
        super().__init__(2 * channels)
        self.gate = _AttentionGate(spatial_dims, channels, inner)

    def forward(self, skip: Tensor, up: Tensor) -> Tensor:
        return torch.cat([self.gate(skip, up), up], dim=1)
