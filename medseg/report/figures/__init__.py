"""Figures of the report: data frames and plain numbers → matplotlib figures.

Each function answers None where there is nothing to draw.
"""

from medseg.report.figures.comparisons import (
    effects_figure,
    forest,
    interaction_figure,
    variance_figure,
)
from medseg.report.figures.curves import HIGHLIGHTS, curve, histories, styles
from medseg.report.figures.phases import phase_maps, spectra
from medseg.report.figures.trade import front, pareto, predicted_figure

__all__ = [
    "HIGHLIGHTS",
    "curve",
    "effects_figure",
    "forest",
    "front",
    "histories",
    "interaction_figure",
    "pareto",
    "phase_maps",
    "predicted_figure",
    "spectra",
    "styles",
    "variance_figure",
]
