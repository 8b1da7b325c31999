"""The figures of artifacts that are locked to a stride, each a pure function of arrays."""

from medseg.report.artifacts.figures.curves import crack_histogram, trajectory, two_tone
from medseg.report.artifacts.figures.maps import constant_response, residual_overlay
from medseg.report.artifacts.figures.phases import gradient_table, kernel_sheet, phase_heat_map
from medseg.report.artifacts.figures.spectra import spectrum
from medseg.report.artifacts.figures.style import png, save

__all__ = [
    "constant_response",
    "crack_histogram",
    "gradient_table",
    "kernel_sheet",
    "phase_heat_map",
    "png",
    "residual_overlay",
    "save",
    "spectrum",
    "trajectory",
    "two_tone",
]
