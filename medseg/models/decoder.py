"""The ascending half of a U-Net."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.blocks.conv import ConvFactory
from medseg.blocks.ndim import Size
from medseg.blocks.unit import UnitFactory
from medseg.blocks.upsample import UpsampleFactory
from medseg.models.encoder import make_stage, stage_plan


class Decoder(nn.Module):
    """Encoder features, finest first → decoder features, finest first.

    Each stage upsamples the coarser one, concatenates the skip and runs its units. The decoder
    knows the channels and strides of its encoder and nothing else of it.

    Args:
        spatial_dims: 2 or 3.
        channels: Channels of each encoder stage; the decoder mirrors them.
        strides: Strides of each encoder stage.
        depths: Units of each stage, or one number for all (the bottleneck's is not used).
        conv: Convolution slot.
        upsample: Upsampling slot.
        unit: Unit slot.

    Raises:
        ValueError: sizes that do not fit together, or a block that cannot be built.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: Sequence[int],
        strides: Sequence[Size],
        depths: int | Sequence[int],
        conv: ConvFactory,
        upsample: UpsampleFactory,
        unit: UnitFactory,
    ):
        super().__init__()
        steps, units = stage_plan(spatial_dims, channels, strides, depths)
        if any(count < 1 for count in units):
            raise ValueError(f"depths={list(units)} must all be at least 1 in the decoder")
        self.channels = tuple(channels[:-1])
        self.strides = tuple(steps)
        self.upsamples = nn.ModuleList()
        self.stages = nn.ModuleList()
        for index, width in enumerate(self.channels):
            coarser = channels[index + 1]
            self.upsamples.append(upsample(spatial_dims, coarser, width, steps[index + 1]))
            self.stages.append(make_stage(unit, conv, spatial_dims, 2 * width, width, units[index]))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features `(N, channels[i], *(S / stride up to i))` of all stages but the bottleneck."""
        x = features[-1]
        outputs: list[Tensor] = []
        for index in reversed(range(len(self.channels))):
            x = self.upsamples[index](x)
            x = self.stages[index](torch.cat([features[index], x], dim=1))
            outputs.insert(0, x)
        return outputs
