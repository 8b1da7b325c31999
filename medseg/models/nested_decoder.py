"""The decoder of U-Net++."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.blocks.conv import ConvFactory
from medseg.blocks.sizes import Size
from medseg.blocks.unit import UnitFactory
from medseg.blocks.upsample import UpsampleFactory
from medseg.models.decoder import upsampled
from medseg.models.stage import StageSlots, make_stage, slots_per_stage, stage_plan


class NestedDecoder(nn.Module):
    """A triangle of nodes: `X[i][j]` joins all `X[i][<j]` and the upsampled `X[i+1][j-1]`.

    Column 0 is the encoder. What the decoder gives is the last node of each stage.

    Args:
        spatial_dims: 2 or 3.
        channels: Channels of each encoder stage; the decoder mirrors them.
        strides: Strides of each encoder stage.
        depths: Units of each stage, or one number for all (the bottleneck's is not used).
        conv: Convolution slot.
        upsample: Upsampling slot.
        unit: Unit slot.
        stage: Slots that single stages fill differently.

    Raises:
        ValueError: sizes that do not fit together, or a block that cannot be built.

    Reference: Zhou et al. 2018, "UNet++", equation 1. Deep supervision is at the last node of
    each stage, as in the other networks; there at the nodes of stage 0.
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
        stage: StageSlots | None = None,
    ):
        super().__init__()
        steps, units = stage_plan(spatial_dims, channels, strides, depths)
        self.encoder_channels = tuple(channels)
        self.channels = tuple(channels[:-1])
        self.strides = tuple(steps)
        slots = slots_per_stage(
            stage, range(len(channels) - 1), conv=conv, upsample=upsample, unit=unit
        )
        self.upsamples = nn.ModuleList()
        self.stages = nn.ModuleList()
        for index, width in enumerate(self.channels):
            own, columns = slots[index], len(self.channels) - index
            self.upsamples.append(
                nn.ModuleList(
                    own.upsample(spatial_dims, channels[index + 1], width, steps[index + 1])
                    for _ in range(columns)
                )
            )
            self.stages.append(
                nn.ModuleList(
                    make_stage(
                        own.unit, own.conv, spatial_dims, (column + 2) * width, width, units[index]
                    )
                    for column in range(columns)
                )
            )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Decoder features `(N, channels[i], *(S / stride up to i))`, finest first."""
        nodes = [[feature] for feature in features]
        for column in range(len(self.channels)):
            for index in range(len(self.channels) - column):
                up = upsampled(
                    self.upsamples[index][column], nodes[index + 1][column], features[index]
                )
                joined = torch.cat([*nodes[index], up], dim=1)
                nodes[index].append(self.stages[index][column](joined))
        return [row[-1] for row in nodes[:-1]]
