"""What every unit is, and what all are made of."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from medseg.blocks.activation import ActivationFactory
from medseg.blocks.conv import ConvFactory, Pointwise
from medseg.blocks.norm import NormFactory
from medseg.layers.ndim import dropout_nd
from medseg.layers.parallel import Sum


@runtime_checkable
class UnitFactory(Protocol):
    """Builds a unit around a convolution."""

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module: ...


class UnitSlots(Protocol):
    """The slots that every unit has."""

    @property
    def norm(self) -> NormFactory: ...

    @property
    def activation(self) -> ActivationFactory: ...

    @property
    def dropout(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The layers of a unit in one dimension, by its slots."""

    spatial_dims: int
    norm: NormFactory
    activation: ActivationFactory
    dropout: float

    @classmethod
    def of(cls, unit: UnitSlots, spatial_dims: int) -> "Parts":
        """The parts of this unit."""
        return cls(
            spatial_dims=spatial_dims,
            norm=unit.norm,
            activation=unit.activation,
            dropout=unit.dropout,
        )

    def conv_norm(self, conv: ConvFactory, in_channels: int, out_channels: int) -> list[nn.Module]:
        """Convolution, dropout, normalisation."""
        drop = [dropout_nd(self.spatial_dims)(self.dropout)] if self.dropout else []
        return [
            conv(self.spatial_dims, in_channels, out_channels),
            *drop,
            self.norm(self.spatial_dims, out_channels),
        ]

    def conv_norm_act(
        self, conv: ConvFactory, in_channels: int, out_channels: int
    ) -> list[nn.Module]:
        """Convolution, dropout, normalisation, activation."""
        return [*self.conv_norm(conv, in_channels, out_channels), self.activation()]

    def shortcut(self, in_channels: int, out_channels: int) -> nn.Module:
        """The input itself, or where the channels change its 1×1 projection, normalised."""
        if in_channels == out_channels:
            return nn.Identity()
        project = Pointwise()(self.spatial_dims, in_channels, out_channels)
        return nn.Sequential(project, self.norm(self.spatial_dims, out_channels))

    def around(self, residual: list[nn.Module], in_channels: int, out_channels: int) -> Sum:
        """`residual(x) + shortcut(x)`."""
        return Sum(nn.Sequential(*residual), self.shortcut(in_channels, out_channels))


def check_dropout(dropout: float) -> None:
    """Refuses what is no probability, and 1, with a ValueError."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r} must lie in [0, 1); for instance 0.1")


def share(channels: int, divisor: int, *, option: str | None = None) -> int:
    """`channels / divisor`, rounded down.

    Args:
        channels: Channels to divide.
        divisor: Parts.
        option: The user's option that says how many; None where the unit itself does.

    Raises:
        ValueError: nothing would be left.
    """
    if channels >= divisor:
        return channels // divisor
    what = f"{option}={divisor}" if option else f"a unit of {divisor} parts"
    remedy = f"choose {option}={channels} or less, or" if option else "choose"
    raise ValueError(
        f"{what} leaves no channel of out_channels={channels}; {remedy} {divisor} channels or more"
    )
