"""The lattice of a network: after how many voxels the patterns of its stages repeat."""

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from medseg.checkerboard.weights.gains import lattice_period
from medseg.errors import ConfigError
from medseg.models.unet import MultiscaleNetwork

_PHASES = 512


@dataclass(frozen=True)
class Lattice:
    """Periods per axis of the decoder's stages, from the finest on; each divides the next."""

    levels: tuple[tuple[int, ...], ...]

    @property
    def period(self) -> tuple[int, ...]:
        """After which every pattern of the network repeats."""
        return self.levels[-1]

    @property
    def tested(self) -> tuple[int, ...]:
        """The coarsest level with at most 512 phases: of more, each has too few voxels to tell."""
        few = [level for level in self.levels if math.prod(level) <= _PHASES]
        return few[-1] if few else self.levels[0]


def lattice_of(network: nn.Module, spatial_dims: int) -> Lattice:
    """The lattice of a network: the total strides of its stages, or of all its upsamplings.

    Args:
        network: One of ours, or any whose upsamplings follow one another.
        spatial_dims: Axes of its grid.

    Raises:
        ConfigError: no upsampling, and so nothing that could print a pattern.
    """
    if isinstance(network, MultiscaleNetwork):
        levels = _of_stages(network)
    else:
        period = lattice_period(network, spatial_dims)
        levels = (period,) if period else ()
    levels = tuple(dict.fromkeys(level for level in levels if math.prod(level) > 1))
    if not levels:
        raise ConfigError(
            f"{type(network).__name__} has stride 1 everywhere, so no pattern can be locked to "
            "its strides; choose a network that upsamples"
        )
    return Lattice(levels)


def _of_stages(network: MultiscaleNetwork) -> tuple[tuple[int, ...], ...]:
    strides: Sequence[tuple[int, ...]] = getattr(
        getattr(network, "decoder", None), "strides", (network.total_stride,)
    )
    by_axis = [
        tuple(itertools.accumulate(axis, operator.mul)) for axis in zip(*strides, strict=True)
    ]
    return tuple(zip(*by_axis, strict=True))
