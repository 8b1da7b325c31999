"""Units of several branches."""

from dataclasses import dataclass

from torch import nn

from medseg.blocks.activation import ActivationFactory, LeakyReLU
from medseg.blocks.conv import ConvFactory, Pointwise
from medseg.blocks.norm import Instance, NormFactory
from medseg.blocks.sizes import freeze_count
from medseg.blocks.unit.slot import Parts, check_dropout, share
from medseg.layers.ndim import max_pool_nd
from medseg.layers.parallel import Concat, DenseBlock


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
        parts = Parts.of(self, spatial_dims)
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
        parts = Parts.of(self, spatial_dims)
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
    """Each of `layers` convolutions sees the outputs of all before it; 1×1 to `out` at the end.

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
        parts = Parts.of(self, spatial_dims)
        growth = self.growth or share(out_channels, self.layers, option="layers")
        steps = []
        width = in_channels
        for _ in range(self.layers):
            wide = parts.conv_norm_act(Pointwise(), width, 4 * growth)
            steps.append(nn.Sequential(*wide, *parts.conv_norm_act(conv, 4 * growth, growth)))
            width += growth
        merge = parts.conv_norm_act(Pointwise(), width, out_channels)
        return nn.Sequential(DenseBlock(*steps), *merge)
