"""Artifacts that are locked to the stride of an upsampling.

An upsampling with stride s treats the `P = Π sᵢ` phases of its output grid by different taps.
If their DC gains differ, a constant comes out as a pattern: the checkerboard. Three rooms measure
that and its relatives, and this one offers all their public names:

weights  exact numbers of single layers: DC gain, noise gain, imaging, gradients, gridding
network  what a whole network answers to constants, shifts, waves and gradients
cases    what is printed on the logits and labels of real cases, and how sure that is

>>> import torch
>>> layer = torch.nn.ConvTranspose2d(1, 1, kernel_size=3, stride=2)
>>> _ = torch.nn.init.ones_(layer.weight)
>>> dc_gain_imbalance(phase_gains(layer))
0.19
"""

from medseg.metrics.checkerboard.cases.coherence import coherence
from medseg.metrics.checkerboard.cases.cracks import (
    boundary_snapping,
    crack_distance,
    crack_histograms,
    error_rates,
    saddle_rate,
)
from medseg.metrics.checkerboard.cases.lattice import trapezoid
from medseg.metrics.checkerboard.cases.lattice_line import lattice_line
from medseg.metrics.checkerboard.cases.phase_moments import PhaseMoments, phase_moments
from medseg.metrics.checkerboard.cases.seasonal import (
    additive,
    eta_squared_by_level,
    gain,
    staircase,
)
from medseg.metrics.checkerboard.cases.statistics import (
    band,
    confidence_interval,
    holm,
    phase_lock_test,
)
from medseg.metrics.checkerboard.network.constant_response import constant_response
from medseg.metrics.checkerboard.weights.backward import gradient_gains, gradient_imbalance
from medseg.metrics.checkerboard.weights.gains import (
    lattice_period,
    phase_gains,
    upsampling_gains,
)
from medseg.metrics.checkerboard.weights.gridding import (
    composed_kernel,
    coverage,
    gridding_imbalance,
    phase_masses,
)
from medseg.metrics.checkerboard.weights.imaging import imaging_leakage, imaging_spectrum
from medseg.metrics.checkerboard.weights.imbalance import (
    dc_gain_imbalance,
    phase_imbalance,
    worst_dc_gain_imbalance,
)
from medseg.metrics.checkerboard.weights.kernels import upsampling_kernel, upsampling_stride
from medseg.metrics.checkerboard.weights.overlap import overlap_imbalance, tap_counts
from medseg.metrics.checkerboard.weights.polyphase import kernel_gains, noise_gain_imbalance
from medseg.metrics.checkerboard.weights.sum_rules import sum_rule_order

__all__ = [
    "PhaseMoments",
    "additive",
    "band",
    "boundary_snapping",
    "coherence",
    "composed_kernel",
    "confidence_interval",
    "constant_response",
    "coverage",
    "crack_distance",
    "crack_histograms",
    "dc_gain_imbalance",
    "error_rates",
    "eta_squared_by_level",
    "gain",
    "gradient_gains",
    "gradient_imbalance",
    "gridding_imbalance",
    "holm",
    "imaging_leakage",
    "imaging_spectrum",
    "kernel_gains",
    "lattice_line",
    "lattice_period",
    "noise_gain_imbalance",
    "overlap_imbalance",
    "phase_gains",
    "phase_imbalance",
    "phase_lock_test",
    "phase_masses",
    "phase_moments",
    "saddle_rate",
    "staircase",
    "sum_rule_order",
    "tap_counts",
    "trapezoid",
    "upsampling_gains",
    "upsampling_kernel",
    "upsampling_stride",
    "worst_dc_gain_imbalance",
]
