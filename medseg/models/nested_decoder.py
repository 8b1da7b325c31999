"""The decoder of U-Net++."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.blocks.conv import ConvFactory
from medseg.blocks.sizes import Size
from medseg.blocks.unit import UnitFactory
from medseg.blocks.upsample import UpsampleFactory
from medseg.layers.resampling import MaxUnpool
from medseg.models.decoder import upsampled
from medseg.models.stage import KernelSizes, StageSlots, make_stage, slots_per_stage, stage_plan


class NestedDecoder(nn.Module):
    """A triangle of nodes: `X[i][j]` joins all `X[i][<j]` and the upsampled `X[i+1][j-1]`.

    Column 0 is the encoder. What the decoder gives is the last node of each stage.

    Its arguments are those of `Decoder` without `skip`.

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
        kernel_sizes: KernelSizes | None = None,
    ):
        super().__init__()
        steps, units = stage_plan(spatial_dims, channels, strides, depths)
        self.encoder_channels = tuple(channels)
        self.channels = tuple(channels[:-1])
        self.strides = tuple(steps)
        slots = slots_per_stage(
            stage,
            range(len(channels) - 1),
            kernel_sizes=kernel_sizes,
            steps=steps,
            conv=conv,
            upsample=upsample,
            unit=unit,
        )
        self.order = [
            (index, column)
            for column in range(len(self.channels))
            for index in range(len(self.channels) - column)
        ]
        self.nodes = nn.ModuleList()
        for index, column in self.order:
            own, width = slots[index], channels[index]
            up = own.upsample(spatial_dims, channels[index + 1], width, steps[index + 1])
            joined = (column + 2) * width  # all before it in the row, and what comes from below
            inner = make_stage(own.unit, own.conv, spatial_dims, joined, width, units[index])
            self.nodes.append(_Node(up, inner))
        unpooled = {
            index + 1
            for (index, _), node in zip(self.order, self.nodes, strict=True)
            if isinstance(node.upsample, MaxUnpool)
        }
        self.unpools = tuple(sorted(unpooled))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Decoder features `(N, channels[i], *(S / stride up to i))`, finest first."""
        rows = [[feature] for feature in features]
        for (index, column), node in zip(self.order, self.nodes, strict=True):
            rows[index].append(node(rows[index], rows[index + 1][column]))
        return [row[-1] for row in rows[:-1]]


class _Node(nn.Module):
    """Joins a row with what comes from below; the row begins with the encoder's tensor."""

    def __init__(self, upsample: nn.Module, stage: nn.Module):
        super().__init__()
        self.upsample = upsample
        self.stage = stage

    def forward(self, row: Sequence[Tensor], below: Tensor) -> Tensor:
        up = upsampled(self.upsample, below, row[0])
        return self.stage(torch.cat([*row, up], dim=1))
