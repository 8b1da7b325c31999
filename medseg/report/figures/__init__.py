"""Figures of the report as SVG that takes its colours and its font from the page."""

from medseg.report.figures.curves import curve
from medseg.report.figures.factors import effects_figure, interaction_figure, variance_figure
from medseg.report.figures.forest import ForestRow, forest
from medseg.report.figures.pareto import ParetoPoint, front, pareto
from medseg.report.figures.phases import phase_maps
from medseg.report.figures.promises import Promise, promise_figure
from medseg.report.figures.spectra import spectra
from medseg.report.figures.style import HIGHLIGHTS, styles

__all__ = [
    "HIGHLIGHTS",
    "ForestRow",
    "ParetoPoint",
    "Promise",
    "curve",
    "effects_figure",
    "forest",
    "front",
    "interaction_figure",
    "pareto",
    "phase_maps",
    "promise_figure",
    "spectra",
    "styles",
    "variance_figure",
]
