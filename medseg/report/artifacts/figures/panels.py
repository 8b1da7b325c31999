"""Images of cells: their colour scales, slices beside each other, numbers where they fit."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure

from medseg.report.artifacts.figures.style import (
    AMOUNT,
    DIVERGING,
    INK,
    RULE,
    WIDTH,
    Array,
    Values,
    array,
    finite,
)

_COLUMNS = 4
_SLICES = 8
_TICK = 0.27  # room for a tick label, in inches
_LARGEST = 3.2
_LETTER = 0.072
_WRITTEN = 64
_FRAME = 0.55  # tick labels and axis label beside a row of images, in inches
_TITLES, _BAR = 0.34, 0.82


@dataclass(frozen=True, eq=False)
class Look:
    """Values → colours."""

    norm: Normalize
    colours: Colormap
    beyond: Literal["neither", "both", "min"] = "neither"

    @property
    def span(self) -> float:
        """Distance between the two ends of the scale."""
        return float((self.norm.vmax or 0.0) - (self.norm.vmin or 0.0))


@dataclass(frozen=True, eq=False)
class Plane:
    """A named 2-D array.

    Args:
        title: Above the image, or nothing.
        values: A cell each.
        hatched: Mask of cells under slanted lines.
        labels: Beside the image and below it; None: its block has them.
        extent: Left, right, bottom and top in the units of the axes; None: cells are counted.
    """

    title: str
    values: Array
    hatched: Array | None = None
    labels: tuple[str, str] | None = None
    extent: tuple[float, float, float, float] | None = None

    @property
    def steepness(self) -> float:
        """Height over width as drawn."""
        if self.extent is None:
            return self.values.shape[0] / self.values.shape[1]
        left, right, bottom, top = self.extent
        return abs((top - bottom) / (right - left))


Decorate = Callable[[Axes, Plane], None]


@dataclass(frozen=True, eq=False)
class Block:
    """Planes under one title that share a scale and its colour bar."""

    title: str
    planes: Sequence[Plane]
    look: Look
    unit: str
    labels: tuple[str, str] | None = None

    def height(self, width: float) -> float:
        """Inches that the block needs where it is so wide."""
        columns = min(_COLUMNS, len(self.planes))
        tile = min(_LARGEST, (width - _FRAME) / columns - 0.08)
        alone = len(self.planes[0].values) == 1
        image = 0.55 if alone else min(_LARGEST, tile * self.planes[0].steepness)
        named = 0.2 if self.planes[0].title else 0.0
        rows = math.ceil(len(self.planes) / columns)
        return rows * (image + named) + _TITLES + _BAR

    def draw(self, part: SubFigure, width: float, decorate: Decorate) -> None:
        """The planes in rows of four, labelled at the outer sides, above their colour bar."""
        part.suptitle(self.title, x=0.04, ha="left", fontsize=9)
        columns = min(_COLUMNS, len(self.planes))
        grid = part.subplots(math.ceil(len(self.planes) / columns), columns, squeeze=False)
        for axes, plane in zip(grid.flat, self.planes, strict=False):
            axes.set_title(plane.title, fontsize=8, pad=3)
            show(axes, plane, self.look, (width - _FRAME) / columns)
            decorate(axes, plane)
        for axes in grid.flat[len(self.planes) :]:
            axes.set_axis_off()
        if self.labels is not None:
            for axes in grid[-1]:
                axes.set_xlabel(self.labels[1])
            for axes in grid[:, 0]:
                axes.set_ylabel(self.labels[0])
        for axes in grid[:, 1:].flat:
            axes.tick_params(labelleft=False)
        for axes in grid[:-1].flat:
            axes.tick_params(labelbottom=False)
        colour_bar(part, self.look, self.unit, ax=list(grid.flat), aspect=30, shrink=0.9)


def lay_out(heading: float, dims: int, blocks: Sequence[Block]) -> tuple[float, float]:
    """Height of the figure and width of a block: 2-D beside each other, others in rows."""
    if dims == 2:
        width = WIDTH / len(blocks)
        return heading + max(block.height(width) for block in blocks), width
    return heading + sum(block.height(WIDTH) for block in blocks), WIDTH


def draw_blocks(
    figure: Figure,
    dims: int,
    blocks: Sequence[Block],
    decorate: Decorate = lambda axes, plane: None,
) -> None:
    """Blocks of one size: 2-D beside each other, others below each other."""
    beside = dims == 2
    shape = (1, len(blocks)) if beside else (len(blocks), 1)
    width = WIDTH / len(blocks) if beside else WIDTH
    parts = figure.subfigures(*shape, squeeze=False)
    for part, block in zip(parts.flat, blocks, strict=True):
        block.draw(part, width, decorate)


def show(axes: Axes, plane: Plane, look: Look, width: float) -> None:
    """One plane: each value a cell, hatched where asked, with numbers where they fit."""
    values = np.ma.masked_invalid(plane.values)
    rows, columns = values.shape
    width = min(_LARGEST, width, _LARGEST / plane.steepness)
    aspect = "auto" if rows == 1 else "equal"
    axes.imshow(
        values,
        cmap=look.colours,
        norm=look.norm,
        interpolation="none",
        aspect=aspect,
        extent=plane.extent,
    )
    axes.tick_params(length=2, pad=2)
    if plane.labels is not None:
        axes.set_ylabel(plane.labels[0])
        axes.set_xlabel(plane.labels[1])
    if plane.extent is not None:
        return
    axes.set_xticks(ticks(columns, width))
    axes.set_yticks([] if rows == 1 else ticks(rows, width * plane.steepness))
    if plane.hatched is not None:
        hatch(axes, plane.hatched)
    if values.size <= _WRITTEN:
        write_numbers(axes, plane.values, look, width / columns)


def write_numbers(axes: Axes, values: Array, look: Look, cell: float) -> None:
    """Each number in its cell of so many inches, white on dark colours, if all of them fit."""
    words = {place: written(value, look.span) for place, value in np.ndenumerate(values)}
    if max(map(len, words.values())) * _LETTER > 0.92 * cell:
        return
    for (row, column), word in words.items():
        red, green, blue, _ = shade = look.colours(look.norm(values[row, column]))
        ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.45 else INK
        behind = {"facecolor": shade, "edgecolor": "none", "pad": 1.5}
        axes.text(column, row, word, ha="center", va="center", size=8, color=ink, bbox=behind)


def hatch(axes: Axes, where: Array) -> None:
    """Slanted lines over the cells for which it is true."""
    edges = [np.arange(n + 1) - 0.5 for n in reversed(where.shape)]
    cells = np.ma.masked_array(np.zeros(where.shape), mask=~where)
    axes.pcolor(*edges, cells, hatch="////", facecolor="none", edgecolor=INK, linewidth=0)


def colour_bar(part: Figure | SubFigure, look: Look, unit: str, **place: Any) -> None:
    """A bar with its two ends and its middle marked; `ax` it is below of, or its own `cax`."""
    source = ScalarMappable(look.norm, look.colours)
    bar = part.colorbar(source, location="bottom", label=unit, extend=look.beyond, **place)
    low, high = look.norm.vmin or 0.0, look.norm.vmax or 0.0
    marks = [low, (low + high) / 2, high]
    bar.set_ticks(marks, labels=[written(mark, look.span) for mark in marks])
    bar.ax.tick_params(length=2)
    bar.outline.set_edgecolor(RULE)


def diverging(values: Values, centre: float, share: float = 1.0) -> Look:
    """A scale whose middle is white and whose ends lie equally far from it.

    Args:
        values: What is to be told apart; NaN and infinity count for nothing.
        centre: The value that is white.
        share: Of the values that lie within the ends.
    """
    known = finite(array(values))
    half = float(np.quantile(np.abs(known - centre), share)) if known.size else 0.0
    half = half if half > 1e-12 * abs(centre) else 1.0
    beyond = "neither" if share == 1 else "both"
    return Look(Normalize(centre - half, centre + half), DIVERGING, beyond)


def amounts(values: Values) -> Look:
    """A scale from 0 to the largest value."""
    known = finite(array(values))
    top = float(known.max()) if known.size else 1.0
    return Look(Normalize(0.0, top if top > 0 else 1.0), AMOUNT)


def levels(values: Values) -> Look:
    """A scale from the lowest hundredth to the largest of values with no natural zero."""
    known = finite(array(values))
    low, top = (
        (float(known_at) for known_at in np.quantile(known, [0.01, 1]))
        if known.size
        else (0.0, 1.0)
    )
    return Look(Normalize(low, top if top > low else low + 1.0), AMOUNT, "min")


def mean_of(values: Array) -> float:
    """Mean of what is finite, 0 of nothing."""
    known = finite(values)
    return float(known.mean()) if known.size else 0.0


def written(value: float, span: float) -> str:
    """A number with as many digits as tell it from others `span` / 100 away, else nothing."""
    if not math.isfinite(value):
        return ""
    if float(value).is_integer() and float(span).is_integer() and span < 1e4:
        return f"{value:.0f}".replace("-", "−")
    size = max(abs(value), span)
    if value == 0:
        return "0"
    if size >= 1e5 or 0 < size < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace("-", "−")
    digits = 2 if span <= 0 else min(6, max(0, 2 - math.floor(math.log10(span))))
    text = f"{value:.{digits}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def ticks(count: int, room: float) -> range:
    """Indices that are marked along an axis of so many cells and inches.

    >>> list(ticks(8, 1.0))
    [0, 3, 6]
    """
    return range(0, count, math.ceil(count / max(2, int(room / _TICK))))


def phase_planes(pattern: Array, hidden: Array | None = None) -> list[Plane]:
    """The S × S tables of a pattern; of more than 8 slices the first 4 to 8 that tile them all."""
    if pattern.ndim < 3:
        marked = None if hidden is None else np.atleast_2d(hidden)
        return [Plane("", np.atleast_2d(pattern), marked)]
    return [
        Plane(f"phase {index}, axis 0", pattern[index], None if hidden is None else hidden[index])
        for index in range(shown(len(pattern)))
    ]


def shown(slices: int) -> int:
    """How many of so many slices are drawn."""
    divisors = (n for n in range(_SLICES, 3, -1) if slices % n == 0)
    return slices if slices <= _SLICES else next(divisors, _SLICES)


def shaped(pattern: Values, period: Sequence[int], what: str) -> Array:
    """A value per phase as an array of the period's shape.

    Raises:
        ValueError: not 1 to 3 axes, or another number of phases.
    """
    steps, values = tuple(period), array(pattern)
    if not 1 <= len(steps) <= 3 or values.size != math.prod(steps):
        raise ValueError(
            f"{what} holds {values.size} values for the phases of period {steps}: one each is "
            "drawn, along 1 to 3 axes; give one channel and its period"
        )
    return values.reshape(steps)
