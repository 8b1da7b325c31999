"""Units: how a stage composes convolutions. Contract: `(N, in, *S) → (N, out, *S)`.

The convolution slot fills the spatial part of every unit; the 1×1 convolutions are the unit's.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

from torch import nn

from medseg.blocks.activation import ActivationFactory, LeakyReLU
from medseg.blocks.conv import ConvFactory, Pointwise
from medseg.blocks.norm import Instance, NormFactory
from medseg.blocks.sizes import freeze_choice, freeze_count
from medseg.layers.ndim import dropout_nd, max_pool_nd
from medseg.layers.parallel import Concat, DenseBlock, Sum


@runtime_checkable
class UnitFactory(Protocol):
    """Builds a unit around a convolution."""

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module: ...


class _UnitSlots(Protocol):
    """The slots that every unit has."""

    @property
    def norm(self) -> NormFactory: ...

    @property
    def activation(self) -> ActivationFactory: ...

    @property
    def dropout(self) -> float: ...


@dataclass(frozen=True)
class _Parts:
    """The layers of a unit in one dimension, by its slots."""

    spatial_dims: int
    norm: NormFactory
    activation: ActivationFactory
    dropout: float

    @classmethod
    def of(cls, unit: _UnitSlots, spatial_dims: int) -> "_Parts":
        """The parts of this unit."""
        return cls(spatial_dims, unit.norm, unit.activation, unit.dropout)

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
    """Checks the probability of dropping a channel, in [0, 1).

    Raises:
        ValueError: any other value.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r} must lie in [0, 1); for instance 0.1")


def share(channels: int, divisor: int, *, option: str | None = None) -> int:
    """`channels / divisor`, rounded down.

    Args:
        channels: Channels to divide.
        divisor: Number of equal parts.
        option: The user's option that sets `divisor`; None where the unit does.

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


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Convolution, normalisation, activation, as in VGG and nnU-Net.

    Args:
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: Simonyan & Zisserman 2015, "Very Deep Convolutional Networks".
    """

    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        parts = _Parts.of(self, spatial_dims)
        return nn.Sequential(*parts.conv_norm_act(conv, in_channels, out_channels))


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Convolutions around a shortcut: `act(x + norm(conv(act(norm(conv(x))))))`.

    Args:
        convs: Number of convolutions; 2 as in ResNet, up to 3 as in V-Net.
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: He et al. 2016, "Deep Residual Learning", figure 2, shortcut option B; Milletari
    et al. 2016, "V-Net", figure 2.
    """

    convs: int = 2
    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        freeze_count(self, "convs")

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        parts = _Parts.of(self, spatial_dims)
        widths = [in_channels] + [out_channels] * self.convs
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += parts.conv_norm_act(conv, before, after)
        residual = layers[:-1]  # the last activation comes after the sum
        return nn.Sequential(parts.around(residual, in_channels, out_channels), self.activation())


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """1×1 down to `out/reduction`, the convolution, 1×1 up, around a shortcut.

    Args:
        reduction: Divisor of the channels of the convolution.
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: He et al. 2016, "Deep Residual Learning", figure 5 (ResNet-50).
    """

    reduction: int = 4
    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        freeze_count(self, "reduction")

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        parts = _Parts.of(self, spatial_dims)
        inner = share(out_channels, self.reduction, option="reduction")
        layers = [
            *parts.conv_norm_act(Pointwise(), in_channels, inner),
            *parts.conv_norm_act(conv, inner, inner),
            *parts.conv_norm(Pointwise(), inner, out_channels),
        ]
        return nn.Sequential(parts.around(layers, in_channels, out_channels), self.activation())


@dataclass(frozen=True, kw_only=True)
class InvertedBottleneck:
    """1×1 up to `expansion` times the channels and back, a shortcut between the narrow ends.

    The convolution, a depthwise one in the papers, works on the wide channels between the two
    (MobileNetV2) or on the narrow ones before them (ConvNeXt, MedNeXt).

    Args:
        expansion: Factor of the channels in between.
        conv_on: `wide` or `narrow`.
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: Sandler et al. 2018, "MobileNetV2", table 1; Roy et al. 2023, "MedNeXt", figure 1.
    """

    expansion: int = 4
    conv_on: str = "wide"
    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        freeze_count(self, "expansion")
        freeze_choice(self, "conv_on", ("wide", "narrow"))

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        parts = _Parts.of(self, spatial_dims)
        wide = in_channels * self.expansion
        if self.conv_on == "wide":
            layers = [
                *parts.conv_norm_act(Pointwise(), in_channels, wide),
                *parts.conv_norm_act(conv, wide, wide),
                *parts.conv_norm(Pointwise(), wide, out_channels),
            ]
        else:
            layers = [
                *parts.conv_norm(conv, in_channels, in_channels),
                Pointwise()(spatial_dims, in_channels, wide),
                self.activation(),
                Pointwise()(spatial_dims, wide, out_channels),
            ]
        return parts.around(layers, in_channels, out_channels)


@dataclass(frozen=True, kw_only=True)
class SeparableResidual:
    """Convolution, 1×1, normalisation, `repeats` times around a shortcut.

    The convolution keeps the channels: with a depthwise one the pair is a separable convolution.

    Args:
        repeats: Number of convolutions, each with its 1×1.
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: Chollet 2017, "Xception", figure 5 (there each activation stands before its
    convolution).
    """

    repeats: int = 2
    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        freeze_count(self, "repeats")

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        parts = _Parts.of(self, spatial_dims)
        widths = [in_channels] + [out_channels] * self.repeats
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            spatial = conv(spatial_dims, before, before)
            layers += [spatial, *parts.conv_norm_act(Pointwise(), before, after)]
        residual = layers[:-1]  # the last activation comes after the sum
        return nn.Sequential(parts.around(residual, in_channels, out_channels), self.activation())


@dataclass(frozen=True, kw_only=True)
class Inception:
    """Four branches side by side: 1×1; 1×1, conv; 1×1, conv, conv; max pool, 1×1.

    Each gives a quarter of the output channels, the first what is left over.

    Args:
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: Szegedy et al. 2015, "Going Deeper with Convolutions", figure 2b; two convolutions
    for the 5×5 as in Szegedy et al. 2016, "Rethinking the Inception Architecture", figure 5.
    """

    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        parts = _Parts.of(self, spatial_dims)
        quarter = share(out_channels, 4)
        pool = max_pool_nd(spatial_dims)(3, stride=1, padding=1)
        narrow = parts.conv_norm_act(Pointwise(), in_channels, quarter)
        return Concat(
            nn.Sequential(
                *parts.conv_norm_act(Pointwise(), in_channels, out_channels - 3 * quarter)
            ),
            nn.Sequential(*narrow, *parts.conv_norm_act(conv, quarter, quarter)),
            nn.Sequential(
                *parts.conv_norm_act(Pointwise(), in_channels, quarter),
                *parts.conv_norm_act(conv, quarter, quarter),
                *parts.conv_norm_act(conv, quarter, quarter),
            ),
            nn.Sequential(pool, *parts.conv_norm_act(Pointwise(), in_channels, quarter)),
        )


@dataclass(frozen=True, kw_only=True)
class Fire:
    """1×1 squeeze to `out/squeeze`, then half the output from a 1×1 and half from the convolution.

    Args:
        squeeze: Divisor of the channels in between; 8 in the paper, made for wider networks.
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: Iandola et al. 2016, "SqueezeNet", section 3.2.
    """

    squeeze: int = 4
    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        freeze_count(self, "squeeze")

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        parts = _Parts.of(self, spatial_dims)
        half = share(out_channels, 2)
        inner = share(out_channels, self.squeeze, option="squeeze")
        return nn.Sequential(
            *parts.conv_norm_act(Pointwise(), in_channels, inner),
            Concat(
                nn.Sequential(*parts.conv_norm_act(Pointwise(), inner, out_channels - half)),
                nn.Sequential(*parts.conv_norm_act(conv, inner, half)),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Each of `layers` convolutions reads the outputs of all before it; 1×1 to `out` at the end.

    A layer is 1×1 to four times the growth, then the convolution to the growth.

    Args:
        layers: Number of convolutions.
        growth: Channels that each adds. None: `out / layers`.
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Reference: Huang et al. 2017, "Densely Connected Convolutional Networks", section 3
    (DenseNet-B); convolution before normalisation as in the other units.
    """

    layers: int = 3
    growth: int | None = None
    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        freeze_count(self, "layers")
        if self.growth is not None:
            freeze_count(self, "growth")

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        parts = _Parts.of(self, spatial_dims)
        growth = self.growth or share(out_channels, self.layers, option="layers")
        steps = []
        width = in_channels
        for _ in range(self.layers):
            wide = parts.conv_norm_act(Pointwise(), width, 4 * growth)
            steps.append(nn.Sequential(*wide, *parts.conv_norm_act(conv, 4 * growth, growth)))
            width += growth
        merge = parts.conv_norm_act(Pointwise(), width, out_channels)
        return nn.Sequential(DenseBlock(*steps), *merge)
