"""Patterns that are locked to the stride of an upsampling: the checkerboard and its relatives.

An upsampling with stride s treats the `P = Π sᵢ` phases of its output grid by different taps. If
their DC gains differ, a constant comes out as a pattern. `registry.MEASURES` lists every measure of
that, `Study` takes them from a network and real cases, `upsampling_rows` from weights alone.

kernels, imbalance             an upsampling: its taps, how unequal phases are, replicas
convolutions                   strided and dilated convolutions
layers                         the layers of a network
torus, probes                  a whole network
windows, moments, seasonal, boundaries
                               real cases
cohort                         claims over cases
decision                       the effect on Dice

>>> import torch
>>> layer = torch.nn.ConvTranspose2d(1, 1, kernel_size=3, stride=2)
>>> _ = torch.nn.init.ones_(layer.weight)
>>> upsampling_rows(layer)[0].values["dc_gain"]
0.19
"""

from medseg.checkerboard.registry import (
    MEASURES,
    Entry,
    gradient_rows,
    gridding_rows,
    measure,
    upsampling_rows,
)
from medseg.checkerboard.study import Study

__all__ = [
    "MEASURES",
    "Entry",
    "Study",
    "gradient_rows",
    "gridding_rows",
    "measure",
    "upsampling_rows",
]
