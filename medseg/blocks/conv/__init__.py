"""Convolutions. Law: `(N, in_channels, *S) → (N, out_channels, *S)`, the grid is kept.

None has a bias: the normalisation that follows in every unit has one.
"""

from medseg.blocks.conv.deformable import Deformable
from medseg.blocks.conv.dilated import Dilated, DilatedSchedule, SmoothedDilated
from medseg.blocks.conv.separable import Depthwise, DepthwiseSeparable, SpatiallySeparable
from medseg.blocks.conv.slot import ConvFactory
from medseg.blocks.conv.standard import Grouped, Pointwise, Standard

__all__ = [
    "ConvFactory",
    "Deformable",
    "Depthwise",
    "DepthwiseSeparable",
    "Dilated",
    "DilatedSchedule",
    "Grouped",
    "Pointwise",
    "SmoothedDilated",
    "SpatiallySeparable",
    "Standard",
]
