"""The descending half of a U-Net."""

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.blocks.conv import ConvFactory, Standard
from medseg.blocks.downsample import DownsampleFactory
from medseg.blocks.sizes import Size
from medseg.blocks.unit import UnitFactory
from medseg.models.stage import (
    KernelSizes,
    StageSlots,
    make_stage,
    slots_per_stage,
    stage_plan,
    with_taps,
)


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
        stage: Slots that single stages fill differently.
        kernel_sizes: Taps per axis of the convolutions of each stage, None for the
            convolution's own: 1 along thick slices; None for all.

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
        stage: StageSlots | None = None,
        kernel_sizes: KernelSizes | None = None,
    ):
        super().__init__()
        steps, units = stage_plan(spatial_dims, channels, strides, depths)
        if any(step != 1 for step in steps[0]):
            raise ValueError(f"strides[0]={strides[0]} must be 1, the stem keeps the resolution")
        self.channels = tuple(channels)
        self.strides = tuple(steps)
        slots = slots_per_stage(
            stage,
            range(len(channels)),
            kernel_sizes=kernel_sizes,
            steps=steps,
            conv=conv,
            downsample=downsample,
            unit=unit,
        )
        finest = slots[0]
        taps = kernel_sizes[0] if kernel_sizes is not None else None
        stem = with_taps(Standard(), taps, spatial_dims)
        self.stem = finest.unit(spatial_dims, in_channels, channels[0], stem)
        self.downsamples = nn.ModuleList()
        self.stages = nn.ModuleList()
        previous = channels[0]
        for index, (width, step, count) in enumerate(zip(channels, steps, units, strict=True)):
            own = slots[index]
            resample = own.downsample(spatial_dims, previous, step) if index else nn.Identity()
            depth = count if index else count - 1  # the stem is the first unit of stage 0
            self.downsamples.append(resample)
            self.stages.append(make_stage(own.unit, own.conv, spatial_dims, previous, width, depth))
            previous = width

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features `(N, channels[i], *(S / stride up to i))`, finest first."""
        x = self.stem(image)
        features = []
        for downsample, stage in zip(self.downsamples, self.stages, strict=True):
            x = stage(downsample(x))
            features.append(x)
        return features
