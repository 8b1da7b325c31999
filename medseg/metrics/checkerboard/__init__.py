"""Artifacts that are locked to the stride of an upsampling.

An upsampling with stride s treats the `P = Π sᵢ` phases of its output grid by different taps.
If their DC gains differ, a constant comes out as a pattern: the checkerboard. Public names read
that and its relatives off weights:

imbalance    share of energy off the mean phase, and the DC gains of one layer in these terms
overlap      what kernel, stride and dilation alone say
kernels      the taps of a layer on its output grid
polyphase    DC gain and noise gain of each phase of such taps
imaging      energy in the replicas of the input's spectrum
sum_rules    degree of the polynomials that come out without a pattern
backward     the same of the gradient of a strided convolution
gridding     sub-grids that a stack of dilated convolutions leaves uneven or untouched
gains        all upsamplings of a network
response     what a whole network prints on a constant

Modules for outputs on real cases, block by block, imported by name:

lattice, phase_moments  the high-pass that keeps every pattern, and sums per phase that add up
seasonal                additive, gain and staircase patterns, nested by level
coherence               whether cases share a pattern
lattice_line            a line in the spectrum against its surroundings
cracks                  where label boundaries fall on the grid
statistics              permutation of phases, intervals, Holm, bands: the case is the unit

>>> import torch
>>> layer = torch.nn.ConvTranspose2d(1, 1, kernel_size=3, stride=2)
>>> _ = torch.nn.init.ones_(layer.weight)
>>> dc_gain_imbalance(phase_gains(layer))
0.19
"""

from medseg.metrics.checkerboard.backward import gradient_gains, gradient_imbalance
from medseg.metrics.checkerboard.gains import lattice_period, phase_gains, upsampling_gains
from medseg.metrics.checkerboard.gridding import (
    composed_kernel,
    coverage,
    gridding_imbalance,
    phase_masses,
)
from medseg.metrics.checkerboard.imaging import imaging_leakage, imaging_spectrum
from medseg.metrics.checkerboard.imbalance import (
    dc_gain_imbalance,
    phase_imbalance,
    worst_dc_gain_imbalance,
)
from medseg.metrics.checkerboard.kernels import upsampling_kernel, upsampling_stride
from medseg.metrics.checkerboard.overlap import overlap_imbalance, tap_counts
from medseg.metrics.checkerboard.polyphase import kernel_gains, noise_gain_imbalance
from medseg.metrics.checkerboard.response import constant_response
from medseg.metrics.checkerboard.sum_rules import sum_rule_order

__all__ = [
    "composed_kernel",
    "constant_response",
    "coverage",
    "dc_gain_imbalance",
    "gradient_gains",
    "gradient_imbalance",
    "gridding_imbalance",
    "imaging_leakage",
    "imaging_spectrum",
    "kernel_gains",
    "lattice_period",
    "noise_gain_imbalance",
    "overlap_imbalance",
    "phase_gains",
    "phase_imbalance",
    "phase_masses",
    "sum_rule_order",
    "tap_counts",
    "upsampling_gains",
    "upsampling_kernel",
    "upsampling_stride",
    "worst_dc_gain_imbalance",
]
