"""The unit without a shortcut."""

from dataclasses import dataclass

from torch import nn

from medseg.blocks.activation import ActivationFactory, LeakyReLU
from medseg.blocks.conv import ConvFactory
from medseg.blocks.norm import Instance, NormFactory
from medseg.blocks.unit.slot import Parts, check_dropout


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
        parts = Parts.of(self, spatial_dims)
        return nn.Sequential(*parts.conv_norm_act(conv, in_channels, out_channels))
