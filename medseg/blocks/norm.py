"""Normalisations. Contract: the shape is kept; each has a learned scale and bias per channel."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from medseg.layers.ndim import batch_norm_nd, instance_norm_nd


@runtime_checkable
class NormFactory(Protocol):
    """Builds a normalisation of `channels` channels."""

    def __call__(self, spatial_dims: int, channels: int) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Instance:
    """Each channel of each case to mean 0, variance 1 (Ulyanov et al. 2016)."""

    eps: float = 1e-5

    def __post_init__(self) -> None:
        _require_above_0(self.eps)

    def __call__(self, spatial_dims: int, channels: int) -> nn.Module:
        return instance_norm_nd(spatial_dims)(channels, eps=self.eps, affine=True)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Each channel over the batch to mean 0, variance 1 (Ioffe & Szegedy 2015)."""

    eps: float = 1e-5

    def __post_init__(self) -> None:
        _require_above_0(self.eps)

    def __call__(self, spatial_dims: int, channels: int) -> nn.Module:
        return batch_norm_nd(spatial_dims)(channels, eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Each group of channels of each case to mean 0, variance 1 (Wu & He 2018).

    Args:
        groups: Number of groups; divides the channels.
    """

    groups: int = 8
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _require_above_0(self.eps)

    def __call__(self, spatial_dims: int, channels: int) -> nn.Module:
        if self.groups < 1 or channels % self.groups:
            raise ValueError(
                f"norm groups={self.groups} must divide channels={channels}; "
                f"choose channels that are multiples of {self.groups}, or fewer groups"
            )
        return nn.GroupNorm(self.groups, channels, eps=self.eps)


def _require_above_0(eps: float) -> None:
    if eps <= 0:  # a channel without variance would be divided by nothing
        raise ValueError(f"norm eps={eps} must be above 0, as 1e-5")
