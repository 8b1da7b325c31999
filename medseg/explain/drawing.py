"""Things drawn to scale, in inches from their top left corner, stacked and never cut off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medseg.explain.palette import INK

WIDTH = 5.6
GAP = 0.3
LINE = 0.15
LETTER = 0.068
_MARGIN = 0.06
_HEADING = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """Width and height in inches, and what draws it below a given height of the axes."""

    width: float
    height: float
    draw: Callable[[Axes, float], None]


def stacked(drawings: Sequence[Drawing]) -> Drawing:
    """Drawings below each other."""

    def draw(axes: Axes, top: float) -> None:
        for drawing in drawings:
            drawing.draw(axes, top)
            top += drawing.height + GAP

    return Drawing(
        width=max(drawing.width for drawing in drawings),
        height=sum(drawing.height for drawing in drawings) + GAP * (len(drawings) - 1),
        draw=draw,
    )


def headed(title: str, drawing: Drawing) -> Drawing:
    """A drawing below its title."""

    def draw(axes: Axes, top: float) -> None:
        axes.text(0, top, title, va="top", size=10, weight="bold", color=INK)
        drawing.draw(axes, top + _HEADING)

    width = max(drawing.width, 1.3 * LETTER * len(title))
    return Drawing(width=width, height=drawing.height + _HEADING, draw=draw)


def render(drawing: Drawing) -> Figure:
    """The drawing as a figure of its size, with a thin margin."""
    width, height = drawing.width + 2 * _MARGIN, drawing.height + 2 * _MARGIN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-_MARGIN, width - _MARGIN)
    axes.set_ylim(height - _MARGIN, -_MARGIN)
    axes.set_axis_off()
    drawing.draw(axes, 0.0)
    return figure
