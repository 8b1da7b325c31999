"""Activations. Contract: the shape is kept, voxel by voxel."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class ActivationFactory(Protocol):
    """Builds an activation."""

    def __call__(self) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class LeakyReLU:
    """`max(x, slope·x)` (Maas et al. 2013)."""

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        if self.negative_slope < 0:  # in place, its gradient would not be known
            raise ValueError(f"negative_slope={self.negative_slope} must be at least 0, as 0.01")

    def __call__(self) -> nn.Module:
        return nn.LeakyReLU(self.negative_slope, inplace=True)


@dataclass(frozen=True, kw_only=True)
class ReLU:
    """`max(x, 0)`."""

    def __call__(self) -> nn.Module:
        return nn.ReLU(inplace=True)


@dataclass(frozen=True, kw_only=True)
class GELU:
    """`x · Φ(x)`, Φ the normal distribution function (Hendrycks & Gimpel 2016)."""

    def __call__(self) -> nn.Module:
        return nn.GELU()


@dataclass(frozen=True, kw_only=True)
class SiLU:
    """`x · sigmoid(x)` (Elfwing et al. 2018)."""

    def __call__(self) -> nn.Module:
        return nn.SiLU(inplace=True)


@dataclass(frozen=True, kw_only=True)
class PReLU:
    """`max(x, slope·x)` with a learned slope (He et al. 2015), as in V-Net.

    Args:
        negative_slope: The slope at the start.
    """

    negative_slope: float = 0.25

    def __call__(self) -> nn.Module:
        return nn.PReLU(init=self.negative_slope)
