"""The ascending half of a U-Net."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from medseg.blocks.conv import ConvFactory
from medseg.blocks.sizes import Size
from medseg.blocks.skip import Concatenate, SkipFactory
from medseg.blocks.unit import UnitFactory
from medseg.blocks.upsample import UpsampleFactory
from medseg.layers.resampling import MaxUnpool
from medseg.models.stage import KernelSizes, StageSlots, make_stage, slots_per_stage, stage_plan


@runtime_checkable
class FeatureDecoder(Protocol):
    """Encoder features, finest first → decoder features of all stages but the bottleneck.

    `encoder_channels` and `strides` are those that it was made for, `channels` its own; `unpools`
    names the encoder stages whose max pooling it undoes.
    """

    encoder_channels: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    unpools: tuple[int, ...]

    def __call__(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Decoder features, finest first."""
        ...


class Decoder(nn.Module):
    """Each stage upsamples the coarser one, joins the skip and runs its units.

    The decoder knows the channels and strides of its encoder and nothing else of it.

    Args:
        spatial_dims: 2 or 3.
        channels: Channels of each encoder stage; the decoder mirrors them.
        strides: Strides of each encoder stage.
        depths: Units of each stage, or one number for all (the bottleneck's is not used).
        conv: Convolution slot.
        upsample: Upsampling slot.
        unit: Unit slot.
        skip: Skip slot.
        stage: Slots that single stages fill differently.
        kernel_sizes: Taps per axis of the convolutions of each encoder stage, None for the
            convolution's own: 1 along thick slices; None for all.

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
        skip: SkipFactory = Concatenate(),
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
            skip=skip,
        )
        self.upsamples = nn.ModuleList()
        self.skips = nn.ModuleList()
        self.stages = nn.ModuleList()
        for index, width in enumerate(self.channels):
            own = slots[index]
            join = own.skip(spatial_dims, width)
            self.upsamples.append(
                own.upsample(spatial_dims, channels[index + 1], width, steps[index + 1])
            )
            self.skips.append(join)
            self.stages.append(
                make_stage(own.unit, own.conv, spatial_dims, join.out_channels, width, units[index])
            )

        self.unpools = tuple(
            index
            for index, module in enumerate(self.upsamples, start=1)
            if isinstance(module, MaxUnpool)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Decoder features `(N, channels[i], *(S / stride up to i))`, finest first."""
        x = features[-1]
        outputs: list[Tensor] = []
        for index in reversed(range(len(self.channels))):
            up = upsampled(self.upsamples[index], x, features[index])
            x = self.stages[index](self.skips[index](features[index], up))
            outputs.insert(0, x)
        return outputs


def upsampled(upsample: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    """The coarse tensor on the skip's grid; max-unpooling looks at the skip's maxima."""
    return upsample(x, skip) if isinstance(upsample, MaxUnpool) else upsample(x)
