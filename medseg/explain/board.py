"""A board of panels, each a grid of cells or a row of bars, drawn to scale and never cut off."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.explain.drawing import GAP, LETTER, LINE, WIDTH, Drawing
from medseg.explain.palette import ACCENT, INK, MARK, RULE, SOFT

_CELL = 0.32
_BARS = 0.9
_LEGIBLE = 0.13
_TITLE = 26
_PALE = 0.35
_CELLS = 10_000

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """A grid of cells `(rows, columns)`, or bars `(columns,)`.

    Args:
        title: What it shows.
        values: Written into the cells, or the height of the bars.
        shade: How dark each cell is, in [0, 1]; None: in proportion to its value.
        words: Written instead of the values.
        marked: Cells that are outlined, (row, column).
        faint: Cells that are drawn pale: padding, or what is trimmed.
        arrows: From (row, column) to (row, column), in cells, between cell centres.
        numbers: Whether values are written.
        scale: Size of a cell, relative to the usual one.
    """

    title: str
    values: Array
    shade: Array | None = None
    words: Sequence[Sequence[str]] | None = None
    marked: frozenset[tuple[int, int]] = frozenset()
    faint: frozenset[tuple[int, int]] = frozenset()
    arrows: Sequence[tuple[tuple[float, float], tuple[float, float]]] = ()
    numbers: bool = True
    scale: float = 1.0
    shape: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        rows, columns = self.values.shape if self.values.ndim == 2 else (0, len(self.values))
        object.__setattr__(self, "shape", (rows, columns))

    @property
    def cell(self) -> float:
        """Edge of a cell in inches; smaller where the panel would be wider than the board."""
        return min(_CELL * self.scale, WIDTH / max(1, *self.shape))

    @property
    def lines(self) -> list[str]:
        """The title, broken at about the panel's own width."""
        own = self.shape[1] * self.cell
        return textwrap.wrap(self.title, max(_TITLE, int(own / LETTER)))

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height in inches, title included."""
        title = max(len(line) for line in self.lines) * LETTER
        height = self.shape[0] * self.cell if self.shape[0] else _BARS
        return max(self.shape[1] * self.cell, title), height + LINE * len(self.lines) + 0.06


def board(panels: Sequence[Panel]) -> Drawing:
    """The panels side by side, in as many rows as the width asks for.

    Raises:
        ConfigError: more cells than can be drawn.
    """
    cells = sum(panel.values.size for panel in panels)
    if cells > _CELLS:
        raise ConfigError(
            f"{cells} cells are too many to draw; choose a smaller size, kernel or stride"
        )
    rows = _rows(panels)

    def draw(axes: Axes, top: float) -> None:
        for row in rows:
            left, heading = 0.0, max(len(p.lines) for p in row) * LINE
            for panel in row:
                _draw(axes, panel, left, top, heading)
                left += panel.extent[0] + GAP
            top += _height(row) + GAP

    return Drawing(
        width=max(sum(p.extent[0] for p in row) + GAP * (len(row) - 1) for row in rows),
        height=sum(_height(row) for row in rows) + GAP * (len(rows) - 1),
        draw=draw,
    )


def planes(values: Array) -> list[tuple[str, Array]]:
    """The 2-D slices of an array of 1 to 3 axes, each with its name."""
    if values.ndim < 3:
        return [("", np.atleast_2d(values))]
    return [
        (f", slice {number} of {len(values)}", plane)
        for number, plane in enumerate(values, start=1)
    ]


def written(value: float) -> str:
    """A number as short as it can be: whole numbers whole, others with two decimals at most."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "−")


def terse(value: float) -> str:
    """A matrix entry: nothing for zero, no zero before the point."""
    if value == 0:
        return ""
    text = written(value)
    return text.replace("0.", ".", 1) if text.startswith(("0.", "−0.")) else text


def _height(row: Sequence[Panel]) -> float:
    heading = max(len(panel.lines) for panel in row) * LINE
    return heading + max(panel.extent[1] - LINE * len(panel.lines) for panel in row)


def _rows(panels: Sequence[Panel]) -> list[list[Panel]]:
    rows: list[list[Panel]] = [[]]
    used = 0.0
    for panel in panels:
        if rows[-1] and used + GAP + panel.extent[0] > WIDTH:
            rows.append([])
            used = 0.0
        used += panel.extent[0] + (GAP if rows[-1] else 0)
        rows[-1].append(panel)
    return rows


def _draw(axes: Axes, panel: Panel, left: float, top: float, heading: float) -> None:
    below = heading - LINE * len(panel.lines)
    for number, line in enumerate(panel.lines):
        axes.text(left, top + below + LINE * number, line, va="top", size=8, color=INK)
    origin = (left, top + heading + 0.03)
    if panel.shape[0]:
        _draw_cells(axes, panel, origin)
    else:
        _draw_bars(axes, panel, origin)


def _draw_cells(axes: Axes, panel: Panel, origin: tuple[float, float]) -> None:
    left, top = origin
    cell, shade = panel.cell, _shade(panel)
    places = list(np.ndindex(panel.shape))
    cells = [Rectangle((left + c * cell, top + r * cell), cell, cell) for r, c in places]
    faint = [place in panel.faint for place in places]
    strength = [
        float(shade[place]) * (_PALE if pale else 1)
        for place, pale in zip(places, faint, strict=True)
    ]
    fills = [to_rgba(ACCENT, alpha) for alpha in strength]
    axes.add_collection(PatchCollection(cells, facecolors=fills, edgecolors="none"))
    for style, wanted in (("-", False), (":", True)):
        edges = [box for box, pale in zip(cells, faint, strict=True) if pale == wanted]
        axes.add_collection(
            PatchCollection(edges, facecolors="none", edgecolors=RULE, lw=0.6, ls=style)
        )
    if cell >= _LEGIBLE:
        for place, pale in zip(places, faint, strict=True):
            _write(axes, _text(panel, *place), place, origin, cell, SOFT if pale else INK)
    for row, column in panel.marked:
        x, y = left + column * cell, top + row * cell
        axes.add_patch(Rectangle((x, y), cell, cell, fc="none", ec=MARK, lw=1.6))
    _draw_arrows(axes, panel, origin)


def _write(
    axes: Axes,
    text: str,
    place: tuple[int, ...],
    origin: tuple[float, float],
    cell: float,
    colour: str,
) -> None:
    if not text:
        return
    row, column = place
    axes.text(
        origin[0] + (column + 0.5) * cell,
        origin[1] + (row + 0.5) * cell,
        text,
        ha="center",
        va="center_baseline",
        size=min(8.0, cell * 72 * 0.82 / max(2, len(text) * 0.62)),
        color=colour,
    )


def _draw_arrows(axes: Axes, panel: Panel, origin: tuple[float, float]) -> None:
    left, top, cell = *origin, panel.cell
    for (row, column), (to_row, to_column) in panel.arrows:
        start = (left + (column + 0.5) * cell, top + (row + 0.5) * cell)
        end = (left + (to_column + 0.5) * cell, top + (to_row + 0.5) * cell)
        axes.plot(*start, "o", mfc="none", mec=INK, mew=0.8, ms=4)
        axes.plot(*zip(start, end, strict=True), color=MARK, lw=0.9)
        axes.plot(*end, "o", color=MARK, ms=4)


def _draw_bars(axes: Axes, panel: Panel, origin: tuple[float, float]) -> None:
    left, top = origin
    cell, tallest = panel.cell, max(float(panel.values.max()), 1e-12)
    foot = top + _BARS - 0.03
    for column, value in enumerate(panel.values):
        height = (_BARS - 0.2) * float(value) / tallest
        x = left + column * cell
        axes.add_patch(
            Rectangle((x + 0.1 * cell, foot - height), 0.8 * cell, height, fc=ACCENT, alpha=0.6)
        )
        axes.text(
            x + cell / 2,
            foot - height - 0.03,
            written(value),
            ha="center",
            size=min(8.0, cell * 30),
            color=INK,
        )
    axes.plot([left, left + cell * len(panel.values)], [foot, foot], color=SOFT, lw=0.8)


def _text(panel: Panel, row: int, column: int) -> str:
    if panel.words is not None:
        return panel.words[row][column]
    return written(float(panel.values[row, column])) if panel.numbers else ""


def _shade(panel: Panel) -> Array:
    if panel.shade is not None:
        return panel.shade
    size = np.abs(panel.values)
    return 0.6 * size / max(float(size.max()), 1e-12)
