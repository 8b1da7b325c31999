"""Figures of the report as SVG that takes its colours and its font from the page."""

from medseg.report.figures.curves import curve
from medseg.report.figures.forest import ForestRow, forest
from medseg.report.figures.pareto import ParetoPoint, front, pareto
from medseg.report.figures.promises import Promise, promise_figure
from medseg.report.figures.scatter import Point, cost_of, scatter
from medseg.report.figures.style import HIGHLIGHTS, styles

__all__ = [
    "HIGHLIGHTS",
    "ForestRow",
    "ParetoPoint",
    "Point",
    "Promise",
    "cost_of",
    "curve",
    "forest",
    "front",
    "pareto",
    "promise_figure",
    "scatter",
    "styles",
]
