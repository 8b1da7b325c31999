"""Units: how a stage composes convolutions. Law: `(N, in, *S) → (N, out, *S)`.

The convolution slot fills the spatial part of every unit; the 1×1 convolutions are the unit's.
"""

from medseg.blocks.unit.branching import Dense, Fire, Inception
from medseg.blocks.unit.plain import Plain
from medseg.blocks.unit.residual import (
    Bottleneck,
    InvertedBottleneck,
    Residual,
    SeparableResidual,
)
from medseg.blocks.unit.slot import UnitFactory

__all__ = [
    "Bottleneck",
    "Dense",
    "Fire",
    "Inception",
    "InvertedBottleneck",
    "Plain",
    "Residual",
    "SeparableResidual",
    "UnitFactory",
]
