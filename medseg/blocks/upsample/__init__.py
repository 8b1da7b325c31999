"""Upsamplings. Law: `(N, in_channels, *S) → (N, out_channels, *(S · scale))`.

Those that only put values in place are followed by the decoder's own convolution.
"""

from medseg.blocks.upsample.fixed import AdditiveInterpolate, BedOfNails, Interpolate, MaxUnpool
from medseg.blocks.upsample.shuffle import PixelShuffle
from medseg.blocks.upsample.slot import UpsampleFactory
from medseg.blocks.upsample.transposed import (
    BilinearTransposed,
    LargeKernelTransposed,
    SmoothedTransposed,
    Transposed,
)

__all__ = [
    "AdditiveInterpolate",
    "BedOfNails",
    "BilinearTransposed",
    "Interpolate",
    "LargeKernelTransposed",
    "MaxUnpool",
    "PixelShuffle",
    "SmoothedTransposed",
    "Transposed",
    "UpsampleFactory",
]
