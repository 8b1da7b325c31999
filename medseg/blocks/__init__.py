"""The parts a network is made of. Each slot has a contract that its blocks obey.

===========  ==============================================================  =====================
slot         call                                                            contract
===========  ==============================================================  =====================
convolution  `conv(spatial_dims, in_channels, out_channels)`                 keeps the grid
downsample   `downsample(spatial_dims, channels, scale)`                     divides it by `scale`
upsample     `upsample(spatial_dims, in_channels, out_channels, scale)`      multiplies it
skip         `skip(spatial_dims, channels)`                                  keeps the grid
unit         `unit(spatial_dims, in_channels, out_channels, conv)`           keeps the grid
norm         `norm(spatial_dims, channels)`                                  keeps the shape
activation   `activation()`                                                  keeps the shape
===========  ==============================================================  =====================

A block is a frozen dataclass: it compares by value, its repr names it in tables, and it builds a
fresh module each time it is called, so that no two places of a network share weights by accident.
This package imports torch and `layers`, nothing else.
"""

from medseg.blocks import activation, conv, downsample, norm, skip, unit, upsample

__all__ = ["activation", "conv", "downsample", "norm", "skip", "unit", "upsample"]
