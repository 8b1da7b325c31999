"""The descending half of a U-Net."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from medseg.blocks.conv import ConvFactory, Standard
from medseg.blocks.downsample import DownsampleFactory
from medseg.blocks.ndim import Size, per_axis
from medseg.blocks.unit import UnitFactory


class Encoder(nn.Module):
    """Image → features of every stage, finest first.

    Stage 0 keeps the full resolution. Its first unit is the stem, always with a standard
    convolution: a grouped or depthwise one cannot mix the few channels of an image.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        channels: Channels of each stage.
        strides: Resolution step into each stage, per axis or one number; the first is 1.
        depths: Units of each stage, or one number for all.
        conv: Convolution slot.
        downsample: Downsampling slot.
        unit: Unit slot.

    Raises:
        ValueError: sizes that do not fit together, or a block that cannot be built.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[Size],
        depths: int | Sequence[int],
        conv: ConvFactory,
        downsample: DownsampleFactory,
        unit: UnitFactory,
    ):
        super().__init__()
        steps, units = stage_plan(spatial_dims, channels, strides, depths)
        if any(step != 1 for step in steps[0]):
            raise ValueError(f"strides[0]={strides[0]} must be 1, the stem keeps the resolution")
        if any(count < 1 for count in units):
            raise ValueError(f"depths={list(units)} must all be at least 1 in the encoder")
        self.channels = tuple(channels)
        self.strides = tuple(steps)
        self.stem = unit(spatial_dims, in_channels, channels[0], Standard())
        self.downsamples = nn.ModuleList()
        self.stages = nn.ModuleList()
        previous = channels[0]
        for index, (width, step, count) in enumerate(zip(channels, steps, units, strict=True)):
            if index == 0:
                self.downsamples.append(nn.Identity())
                self.stages.append(make_stage(unit, conv, spatial_dims, width, width, count - 1))
            else:
                self.downsamples.append(downsample(spatial_dims, previous, step))
                self.stages.append(make_stage(unit, conv, spatial_dims, previous, width, count))
            previous = width

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features `(N, channels[i], *(S / stride up to i))`, finest first."""
        x = self.stem(image)
        features = []
        for downsample, stage in zip(self.downsamples, self.stages, strict=True):
            x = stage(downsample(x))
            features.append(x)
        return features


def make_stage(
    unit: UnitFactory,
    conv: ConvFactory,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    depth: int,
) -> nn.Sequential:
    """`depth` units in a row, the first of which changes the channels."""
    widths = [in_channels] + [out_channels] * depth
    return nn.Sequential(*(unit(spatial_dims, a, b, conv) for a, b in pairwise(widths)))


def stage_plan(
    spatial_dims: int,
    channels: Sequence[int],
    strides: Sequence[Size],
    depths: int | Sequence[int],
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Stride per axis and number of units of every stage.

    Raises:
        ValueError: lists of different lengths, fewer than two stages, or a stage without channels.
    """
    stages = len(channels)
    units = [depths] * stages if isinstance(depths, int) else list(depths)
    if stages < 2:
        raise ValueError(f"channels={list(channels)} must name at least 2 stages")
    if not all(isinstance(width, int) and width >= 1 for width in channels):
        raise ValueError(
            f"channels={list(channels)} must be whole numbers of at least 1; "
            f"for instance {[16 * 2**stage for stage in range(stages)]}"
        )
    if len(strides) != stages:
        raise ValueError(
            f"strides={list(strides)} must have one entry per stage, channels={list(channels)} "
            f"has {stages}; for instance {[1] + [2] * (stages - 1)}"
        )
    if len(units) != stages:
        raise ValueError(
            f"depths={units} must have one entry per stage ({stages}), or be one number"
        )
    return [per_axis("strides", step, spatial_dims) for step in strides], units
