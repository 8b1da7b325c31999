"""The decoder of UNet 3+."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.blocks.conv import ConvFactory
from medseg.blocks.sizes import Size
from medseg.blocks.unit import UnitFactory
from medseg.blocks.upsample import UpsampleFactory
from medseg.layers.ndim import max_pool_nd
from medseg.layers.resampling import MaxUnpool
from medseg.models.stage import KernelSizes, StageSlots, make_stage, slots_per_stage, stage_plan


class FullScaleDecoder(nn.Module):
    """Every stage joins all scales: finer encoder stages, its own, and all coarser ones.

    Finer ones come max-pooled, coarser ones upsampled in one step, each through a unit to
    `width` channels; they are joined and run through the units of the stage.

    Its arguments are those of `Decoder` without `skip`, and `width`. Its upsamplings take the steps
    of several stages at once.

    Args:
        width: Channels of each scale; None: those of stage 0.

    Reference: Huang et al. 2020, "UNet 3+", equation 1.
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
        width: int | None = None,
        stage: StageSlots | None = None,
        kernel_sizes: KernelSizes | None = None,
    ):
        super().__init__()
        steps, units = stage_plan(spatial_dims, channels, strides, depths)
        scales = len(channels)
        if width is not None and (not isinstance(width, int) or width < 1):
            raise ValueError(f"width={width!r} must be at least 1; choose {channels[0]} or null")
        width = channels[0] if width is None else width
        joined = scales * width
        self.encoder_channels = tuple(channels)
        self.channels = (joined,) * (scales - 1)
        self.strides = tuple(steps)
        slots = slots_per_stage(
            stage,
            range(scales - 1),
            kernel_sizes=kernel_sizes,
            steps=steps,
            conv=conv,
            upsample=upsample,
            unit=unit,
        )
        self.unpools = ()
        self.joins = nn.ModuleList()
        self.stages = nn.ModuleList()
        for index in range(scales - 1):
            own = slots[index]
            paths = []
            for source in range(scales):
                is_encoder = source <= index or source == scales - 1
                arriving = channels[source] if is_encoder else joined
                between = slice(min(index, source) + 1, max(index, source) + 1)
                scale = [math.prod(axis) for axis in zip(*steps[between], strict=True)]
                if source > index:
                    resample = own.upsample(spatial_dims, arriving, width, scale)
                    _refuse_unpooling(resample)
                    arriving = width
                else:
                    pool = max_pool_nd(spatial_dims)
                    resample = pool(tuple(scale)) if source < index else nn.Identity()
                paths.append(
                    nn.Sequential(resample, own.unit(spatial_dims, arriving, width, own.conv))
                )
            self.joins.append(_Join(*paths))
            self.stages.append(
                make_stage(own.unit, own.conv, spatial_dims, joined, joined, units[index])
            )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Decoder features `(N, channels[i], *(S / stride up to i))`, finest first."""
        sources = list(features)  # from the coarsest on, replaced by what the decoder makes of them
        outputs: list[Tensor] = []
        for index in reversed(range(len(self.channels))):
            x = self.stages[index](self.joins[index](sources))
            sources[index] = x
            outputs.insert(0, x)
        return outputs


class _Join(nn.Module):
    """All scales on one grid, side by side."""

    def __init__(self, *paths: nn.Module):
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        arrived = [path(source) for path, source in zip(self.paths, sources, strict=True)]
        return torch.cat(arrived, dim=1)


def _refuse_unpooling(upsample: nn.Module) -> None:
    if isinstance(upsample, MaxUnpool):
        raise ValueError(
            "upsample=MaxUnpool undoes one pooling of the encoder, and this decoder upsamples "
            "across several stages; choose upsample=bilinear"
        )
