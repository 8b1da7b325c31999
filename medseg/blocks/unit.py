"""Units: how a stage composes convolutions. Contract: `(N, in, *S) → (N, out, *S)`.

The convolution slot fills the spatial part of every unit; the 1×1 convolutions are the unit's.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from medseg.blocks.activation import ActivationFactory, LeakyReLU
from medseg.blocks.conv import ConvFactory, Pointwise
from medseg.blocks.norm import Instance, NormFactory
from medseg.blocks.sizes import Block, Count
from medseg.layers.ndim import dropout_nd, max_pool_nd
from medseg.layers.parallel import Concat, DenseBlock, Sum


@runtime_checkable
class UnitFactory(Protocol):
    """Builds a unit around a convolution."""

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module: ...


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
class Unit(Block, ABC):
    """The slots that every unit has, and the groups of layers that units are made of.

    Args:
        norm: Normalisation slot.
        activation: Activation slot.
        dropout: Probability with which a whole channel is dropped, in [0, 1).

    Raises:
        ValueError: another dropout.
    """

    norm: NormFactory = Instance()
    activation: ActivationFactory = LeakyReLU()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r} must lie in [0, 1); for instance 0.1")

    @abstractmethod
    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module: ...

    def __repr__(self) -> str:
        """Its own parameters first, then the slots of every unit."""
        shared = [field.name for field in fields(Unit)]
        own = [field.name for field in fields(self) if field.name not in shared]
        texts = (f"{name}={getattr(self, name)!r}" for name in own + shared)
        return f"{type(self).__name__}({', '.join(texts)})"

    def conv_norm(
        self, conv: ConvFactory, spatial_dims: int, in_channels: int, out_channels: int
    ) -> list[nn.Module]:
        """Convolution, dropout, normalisation."""
        return [
            conv(spatial_dims, in_channels, out_channels),
            *([dropout_nd(spatial_dims)(self.dropout)] if self.dropout else []),
            self.norm(spatial_dims, out_channels),
        ]

    def conv_norm_act(
        self, conv: ConvFactory, spatial_dims: int, in_channels: int, out_channels: int
    ) -> list[nn.Module]:
        """Convolution, dropout, normalisation, activation."""
        layers = self.conv_norm(conv, spatial_dims, in_channels, out_channels)
        return [*layers, self.activation()]

    def with_shortcut(
        self, residual: list[nn.Module], spatial_dims: int, in_channels: int, out_channels: int
    ) -> Sum:
        """`residual(x) + x`; where the channels change, x is projected by a normalised 1×1."""
        shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            project = Pointwise()(spatial_dims, in_channels, out_channels)
            shortcut = nn.Sequential(project, self.norm(spatial_dims, out_channels))
        return Sum(nn.Sequential(*residual), shortcut)


@dataclass(frozen=True, kw_only=True, repr=False)
class Plain(Unit):
    """Convolution, normalisation, activation, as in VGG and nnU-Net.

    Reference: Simonyan & Zisserman 2015, "Very Deep Convolutional Networks".
    """

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        return nn.Sequential(*self.conv_norm_act(conv, spatial_dims, in_channels, out_channels))


@dataclass(frozen=True, kw_only=True, repr=False)
class Residual(Unit):
    """Convolutions around a shortcut: `act(x + norm(conv(act(norm(conv(x))))))`.

    Args:
        convs: Number of convolutions; 2 as in ResNet, up to 3 as in V-Net.

    Reference: He et al. 2016, "Deep Residual Learning", figure 2, shortcut option B; Milletari
    et al. 2016, "V-Net", figure 2.
    """

    convs: Count = 2

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        widths = [in_channels] + [out_channels] * self.convs
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += self.conv_norm_act(conv, spatial_dims, before, after)
        residual = layers[:-1]  # the last activation comes after the sum
        return nn.Sequential(
            self.with_shortcut(residual, spatial_dims, in_channels, out_channels), self.activation()
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Bottleneck(Unit):
    """1×1 down to `out/reduction`, the convolution, 1×1 up, around a shortcut.

    Args:
        reduction: Divisor of the channels of the convolution.

    Reference: He et al. 2016, "Deep Residual Learning", figure 5 (ResNet-50).
    """

    reduction: Count = 4

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        inner = share(out_channels, self.reduction, option="reduction")
        layers = [
            *self.conv_norm_act(Pointwise(), spatial_dims, in_channels, inner),
            *self.conv_norm_act(conv, spatial_dims, inner, inner),
            *self.conv_norm(Pointwise(), spatial_dims, inner, out_channels),
        ]
        return nn.Sequential(
            self.with_shortcut(layers, spatial_dims, in_channels, out_channels), self.activation()
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class InvertedBottleneck(Unit):
    """1×1 up to `expansion` times the channels and back, a shortcut between the narrow ends.

    The convolution, a depthwise one in the papers, works on the wide channels between the two
    (MobileNetV2) or on the narrow ones before them (ConvNeXt, MedNeXt).

    Args:
        expansion: Factor of the channels in between.
        conv_on: `wide` or `narrow`.

    Reference: Sandler et al. 2018, "MobileNetV2", table 1; Roy et al. 2023, "MedNeXt", figure 1.
    """

    expansion: Count = 4
    conv_on: Literal["wide", "narrow"] = "wide"

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        wide = in_channels * self.expansion
        if self.conv_on == "wide":
            layers = [
                *self.conv_norm_act(Pointwise(), spatial_dims, in_channels, wide),
                *self.conv_norm_act(conv, spatial_dims, wide, wide),
                *self.conv_norm(Pointwise(), spatial_dims, wide, out_channels),
            ]
        else:
            layers = [
                *self.conv_norm(conv, spatial_dims, in_channels, in_channels),
                Pointwise()(spatial_dims, in_channels, wide),
                self.activation(),
                Pointwise()(spatial_dims, wide, out_channels),
            ]
        return self.with_shortcut(layers, spatial_dims, in_channels, out_channels)


@dataclass(frozen=True, kw_only=True, repr=False)
class SeparableResidual(Unit):
    """Convolution, 1×1, normalisation, `repeats` times around a shortcut.

    The convolution keeps the channels: with a depthwise one the pair is a separable convolution.

    Args:
        repeats: Number of convolutions, each with its 1×1.

    Reference: Chollet 2017, "Xception", figure 5 (there each activation stands before its
    convolution).
    """

    repeats: Count = 2

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        widths = [in_channels] + [out_channels] * self.repeats
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            spatial = conv(spatial_dims, before, before)
            layers += [spatial, *self.conv_norm_act(Pointwise(), spatial_dims, before, after)]
        residual = layers[:-1]  # the last activation comes after the sum
        return nn.Sequential(
            self.with_shortcut(residual, spatial_dims, in_channels, out_channels), self.activation()
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Inception(Unit):
    """Four branches side by side: 1×1; 1×1, conv; 1×1, conv, conv; max pool, 1×1.

    Each gives a quarter of the output channels, the first what is left over.

    Reference: Szegedy et al. 2015, "Going Deeper with Convolutions", figure 2b; two convolutions
    for the 5×5 as in Szegedy et al. 2016, "Rethinking the Inception Architecture", figure 5.
    """

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        quarter = share(out_channels, 4)
        pool = max_pool_nd(spatial_dims)(3, stride=1, padding=1)
        narrow = self.conv_norm_act(Pointwise(), spatial_dims, in_channels, quarter)
        return Concat(
            nn.Sequential(
                *self.conv_norm_act(
                    Pointwise(), spatial_dims, in_channels, out_channels - 3 * quarter
                )
            ),
            nn.Sequential(*narrow, *self.conv_norm_act(conv, spatial_dims, quarter, quarter)),
            nn.Sequential(
                *self.conv_norm_act(Pointwise(), spatial_dims, in_channels, quarter),
                *self.conv_norm_act(conv, spatial_dims, quarter, quarter),
                *self.conv_norm_act(conv, spatial_dims, quarter, quarter),
            ),
            nn.Sequential(
                pool, *self.conv_norm_act(Pointwise(), spatial_dims, in_channels, quarter)
            ),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Fire(Unit):
    """1×1 squeeze to `out/squeeze`, then half the output from a 1×1 and half from the convolution.

    Args:
        squeeze: Divisor of the channels in between; 8 in the paper, made for wider networks.

    Reference: Iandola et al. 2016, "SqueezeNet", section 3.2.
    """

    squeeze: Count = 4

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        half = share(out_channels, 2)
        inner = share(out_channels, self.squeeze, option="squeeze")
        return nn.Sequential(
            *self.conv_norm_act(Pointwise(), spatial_dims, in_channels, inner),
            Concat(
                nn.Sequential(
                    *self.conv_norm_act(Pointwise(), spatial_dims, inner, out_channels - half)
                ),
                nn.Sequential(*self.conv_norm_act(conv, spatial_dims, inner, half)),
            ),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Dense(Unit):
    """Each of `layers` convolutions reads the outputs of all before it; 1×1 to `out` at the end.

    A layer is 1×1 to four times the growth, then the convolution to the growth.

    Args:
        layers: Number of convolutions.
        growth: Channels that each adds. None: `out / layers`.

    Reference: Huang et al. 2017, "Densely Connected Convolutional Networks", section 3
    (DenseNet-B); convolution before normalisation as in the other units.
    """

    layers: Count = 3
    growth: Count | None = None

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, conv: ConvFactory
    ) -> nn.Module:
        growth = self.growth or share(out_channels, self.layers, option="layers")
        steps = []
        width = in_channels
        for _ in range(self.layers):
            wide = self.conv_norm_act(Pointwise(), spatial_dims, width, 4 * growth)
            steps.append(
                nn.Sequential(*wide, *self.conv_norm_act(conv, spatial_dims, 4 * growth, growth))
            )
            width += growth
        merge = self.conv_norm_act(Pointwise(), spatial_dims, width, out_channels)
        return nn.Sequential(DenseBlock(*steps), *merge)
