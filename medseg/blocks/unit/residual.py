"""Units around a shortcut: what they compute is added to what came in."""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from medseg.blocks.activation import ActivationFactory, LeakyReLU
from medseg.blocks.conv import ConvFactory, Pointwise
from medseg.blocks.norm import Instance, NormFactory
from medseg.blocks.sizes import freeze_choice, freeze_count
from medseg.blocks.unit.slot import Parts, check_dropout, share


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
        parts = Parts.of(self, spatial_dims)
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
        reduction: Divisor of the channels that the convolution sees.
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
        parts = Parts.of(self, spatial_dims)
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
        parts = Parts.of(self, spatial_dims)
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
        parts = Parts.of(self, spatial_dims)
        widths = [in_channels] + [out_channels] * self.repeats
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            spatial = conv(spatial_dims, before, before)
            layers += [spatial, *parts.conv_norm_act(Pointwise(), before, after)]
        residual = layers[:-1]  # the last activation comes after the sum
        return nn.Sequential(parts.around(residual, in_channels, out_channels), self.activation())
