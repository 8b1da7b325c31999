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

from medseg.checkerboard.cases.coherence import coherence
from medseg.checkerboard.cases.cracks import (
    boundary_snapping,
    crack_distance,
    crack_histograms,
    error_rates,
    saddle_rate,
)
from medseg.checkerboard.cases.lattice import trapezoid
from medseg.checkerboard.cases.lattice_line import lattice_line, welch_line
from medseg.checkerboard.cases.phase_moments import (
    PhaseMoments,
    phase_moments,
    window_moments,
)
from medseg.checkerboard.cases.seasonal import (
    additive,
    eta_squared_by_level,
    gain,
    staircase,
)
from medseg.checkerboard.cases.spectrum import residual_spectrum
from medseg.checkerboard.cases.statistics import (
    band,
    confidence_interval,
    hierarchical_interval,
    holm,
    phase_lock_test,
)
from medseg.checkerboard.network.constant_response import (
    constant_response,
    response_to_constant,
)
from medseg.checkerboard.network.cycle_spin import CycleSpin, cycle_spin_residual
from medseg.checkerboard.network.input_gradient import (
    InputGradient,
    input_gradient_phases,
)
from medseg.checkerboard.network.operator import OperatorProbe, probe_operator
from medseg.checkerboard.network.two_tone import ToneResponse, tone_response
from medseg.checkerboard.weights.backward import gradient_gains, gradient_imbalance
from medseg.checkerboard.weights.gains import (
    lattice_period,
    phase_gains,
    upsampling_gains,
)
from medseg.checkerboard.weights.gradients import GradientMeasures, gradient_measures
from medseg.checkerboard.weights.gridding import (
    composed_kernel,
    coverage,
    gridding_imbalance,
    phase_masses,
)
from medseg.checkerboard.weights.imaging import imaging_leakage, imaging_spectrum
from medseg.checkerboard.weights.imbalance import (
    dc_gain_imbalance,
    phase_imbalance,
    worst_dc_gain_imbalance,
)
from medseg.checkerboard.weights.kernels import upsampling_kernel, upsampling_stride
from medseg.checkerboard.weights.layers import UpsamplingMeasures, upsampling_measures
from medseg.checkerboard.weights.moments import InputMoments, input_moments
from medseg.checkerboard.weights.overlap import overlap_imbalance, tap_counts
from medseg.checkerboard.weights.polyphase import kernel_gains, noise_gain_imbalance
from medseg.checkerboard.weights.stacks import (
    DilatedStack,
    dilated_stacks,
    largest_gap,
)
from medseg.checkerboard.weights.sum_rules import sum_rule_order

__all__ = [
    "CycleSpin",
    "DilatedStack",
    "GradientMeasures",
    "InputGradient",
    "InputMoments",
    "OperatorProbe",
    "PhaseMoments",
    "ToneResponse",
    "UpsamplingMeasures",
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
    "cycle_spin_residual",
    "dc_gain_imbalance",
    "dilated_stacks",
    "error_rates",
    "eta_squared_by_level",
    "gain",
    "gradient_gains",
    "gradient_imbalance",
    "gradient_measures",
    "gridding_imbalance",
    "hierarchical_interval",
    "holm",
    "imaging_leakage",
    "imaging_spectrum",
    "input_gradient_phases",
    "input_moments",
    "kernel_gains",
    "largest_gap",
    "lattice_line",
    "lattice_period",
    "noise_gain_imbalance",
    "overlap_imbalance",
    "phase_gains",
    "phase_imbalance",
    "phase_lock_test",
    "phase_masses",
    "phase_moments",
    "probe_operator",
    "residual_spectrum",
    "response_to_constant",
    "saddle_rate",
    "staircase",
    "sum_rule_order",
    "tap_counts",
    "tone_response",
    "trapezoid",
    "upsampling_gains",
    "upsampling_kernel",
    "upsampling_measures",
    "upsampling_stride",
    "welch_line",
    "window_moments",
    "worst_dc_gain_imbalance",
]
