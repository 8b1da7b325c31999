"""Units: how a stage composes convolutions. Law: `(N, in, *S) → (N, out, *S)`."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from medseg.blocks.activation import ActivationFactory, LeakyReLU
from medseg.blocks.conv import ConvFactory
from medseg.blocks.ndim import conv_nd
from medseg.blocks.norm import Instance, NormFactory


@runtime_checkable
class UnitFactory(Protocol):
    """Builds a unit around a convolution."""

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Convolution, normalisation, activation, as in VGG and nnU-Net.

    Args:
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).
    """

    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_dropout(self.dropout)

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        return nn.Sequential(
            conv(spatial_dims, in_channels, out_channels),
            *_dropout(spatial_dims, self.dropout),
            self.norm(spatial_dims, out_channels),
            self.activation(),
        )


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Two convolutions around a shortcut: `act(x + norm(conv(act(norm(conv(x))))))`.

    Args:
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: He et al. 2016, "Deep Residual Learning", figure 2; shortcut option B.
    """

    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_dropout(self.dropout)

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        residual = nn.Sequential(
            conv(spatial_dims, in_channels, out_channels),
            *_dropout(spatial_dims, self.dropout),
            self.norm(spatial_dims, out_channels),
            self.activation(),
            conv(spatial_dims, out_channels, out_channels),
            self.norm(spatial_dims, out_channels),
        )
        if in_channels == out_channels:
            shortcut: nn.Module = nn.Identity()
        else:
            project = conv_nd(spatial_dims)(in_channels, out_channels, 1, bias=False)
            shortcut = nn.Sequential(project, self.norm(spatial_dims, out_channels))
        return _Sum(residual, shortcut, self.activation())


class _Sum(nn.Module):
    def __init__(self, residual: nn.Module, shortcut: nn.Module, activation: nn.Module):
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.residual(x) + self.shortcut(x))


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r} must lie in [0, 1); for instance 0.1")


def _dropout(spatial_dims: int, probability: float) -> list[nn.Module]:
    channelwise = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}
    return [channelwise[spatial_dims](probability)] if probability else []
