"""How each phase of the lattice amplifies the logits: a cell per phase, arm beside arm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from medseg.record.checkerboard import PhaseMap
from medseg.report.figures.style import (
    HIGHLIGHTS,
    RC,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    WIDTH,
    shortened,
    signed,
    svg,
)

Percent = NDArray[np.float64]

_BELOW, _ABOVE = (0, 114, 178), (213, 94, 0)
_LEAST_SPAN = 1.0  # percent: smaller departures stay pale
_IN_A_ROW = 4
_LARGEST = 90.0  # lengths from here on in points
_GAP, _BETWEEN = 4.0, 14.0
_LINE = 11.0
_LETTER = 0.56 * SMALL
_NUMBER = 20.0  # a cell that a number fits in


@dataclass(frozen=True, eq=False)
class _Block:
    """An arm: its planes, wrapped after `_IN_A_ROW`, under two lines of text."""

    title: str
    note: str
    planes: Percent
    width: float

    @property
    def side(self) -> float:
        """Of the square that a plane lies in."""
        columns = min(_IN_A_ROW, len(self.planes))
        return min(_LARGEST, (self.width - (columns - 1) * _GAP) / columns)

    @property
    def cell(self) -> float:
        return self.side / max(self.planes.shape[1:])

    @property
    def height(self) -> float:
        rows = math.ceil(len(self.planes) / _IN_A_ROW)
        plane = self.cell * self.planes.shape[1]
        return 2 * _LINE + rows * plane + (rows - 1) * _GAP + _BETWEEN


def phase_maps(rows: Sequence[tuple[int, str, PhaseMap]]) -> str:
    """Departure of each phase's gain from the mean over phases, in percent, on one scale for all.

    Without a pattern the paper shows. The scale is symmetric and no finer than ±1 %. Of three axes
    the planes along the first stand beside each other.

    Args:
        rows: Arm, label and map; the first 12 are drawn. Learned patterns differ between the
            seeds of an arm, so a map is that of one run, never a mean over runs.

    Returns:
        SVG, or nothing without rows.

    Raises:
        ValueError: a map with another number of values than phases.
    """
    shown = rows[:HIGHLIGHTS]
    if not shown:
        return ""
    deep = any(math.prod(found.period[:-2]) > 1 for _, _, found in shown)
    abreast = min(len(shown), 2 if deep else 3)
    room = 72 * WIDTH
    width = (room - (abreast - 1) * _BETWEEN) / abreast
    blocks = [_block(*row, width=width) for row in shown]
    lines = [blocks[i : i + abreast] for i in range(0, len(blocks), abreast)]
    legend = _legend(deep, len(rows))
    height = sum(max(block.height for block in line) for line in lines)
    height += (2.5 + len(legend)) * _LINE
    largest = max(float(np.abs(block.planes).max()) for block in blocks)
    span = max(_LEAST_SPAN, largest)
    with rc_context({**RC, "image.composite_image": False}):
        figure = Figure(figsize=(WIDTH, height / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        top = 0.0
        for line in lines:
            for place, block in enumerate(line):
                _draw(axes, block, place * (width + _BETWEEN), top, span)
            top += max(block.height for block in line)
        _key(axes, top, room, span, legend)
        axes.set(xlim=(0, room), ylim=(height, 0), aspect="auto")
        return svg(figure, "Gain of each phase over the mean gain, by arm")


def _block(arm: int, label: str, found: PhaseMap, width: float) -> _Block:
    planes = 100 * (_planes(found) - 1)
    note = f"RMS {_short(float(np.sqrt(np.square(planes).mean())))}"
    if found.noise is not None:
        note += f" (chance {_short(100 * found.noise)})"
    return _Block(
        title=shortened(f"{arm} {label}", int(width / _LETTER)),
        note=f"{note} %",
        planes=planes,
        width=width,
    )


def _planes(found: PhaseMap) -> Percent:
    """`(planes, rows, columns)`: the last two axes make a plane."""
    if len(found.values) != math.prod(found.period):
        raise ValueError(
            f"{len(found.values)} values are no map of the period {tuple(found.period)}; give one "
            "for each phase"
        )
    rows, columns = (1, *found.period)[-2:]
    return np.reshape(np.array(found.values, dtype=float), (-1, rows, columns))


def _draw(axes: Axes, block: _Block, left: float, top: float, span: float) -> None:
    axes.text(left, top + 0.75 * _LINE, block.title, fontsize=SMALL, va="baseline")
    axes.text(left, top + 1.7 * _LINE, block.note, fontsize=SMALL - 1, color=SOFT, va="baseline")
    _, rows, columns = block.planes.shape
    wide, high = block.cell * columns, block.cell * rows
    for index, plane in enumerate(block.planes):
        row, column = divmod(index, _IN_A_ROW)
        x, y = left + column * (wide + _GAP), top + 2 * _LINE + row * (high + _GAP)
        _picture(axes, _colours(plane, span), (x, y, wide, high))
        if block.cell >= _NUMBER:
            _numbers(axes, plane, x, y, block.cell, span)


def _colours(plane: Percent, span: float) -> NDArray[np.uint8]:
    """Blue below, orange above, and the less opaque the nearer to the mean."""
    hue = np.where(plane[..., None] < 0, _BELOW, _ABOVE)
    opacity = 255 * np.abs(plane[..., None]) / span
    return np.concatenate([hue, opacity], axis=-1).round().astype(np.uint8)


def _picture(
    axes: Axes, colours: NDArray[np.uint8], box: tuple[float, float, float, float]
) -> None:
    x, y, wide, high = box
    # enlarged, since some readers of SVG blur the few pixels there are
    pixels = colours.repeat(4, axis=0).repeat(4, axis=1)
    axes.imshow(pixels, extent=(x, x + wide, y + high, y), interpolation="none", clip_on=False)
    axes.add_patch(Rectangle((x, y), wide, high, fill=False, edgecolor=RULE, lw=0.6, clip_on=False))


def _numbers(axes: Axes, plane: Percent, x: float, y: float, cell: float, span: float) -> None:
    digits = 0 if span >= 10 else 1
    for (row, column), value in np.ndenumerate(plane):
        ink = TEXT if abs(value) < 0.65 * span else "#ffffff"
        place = (x + (column + 0.5) * cell, y + (row + 0.5) * cell)
        axes.text(
            *place, _signed(value, digits), ha="center", va="center", fontsize=SMALL - 1, color=ink
        )


def _key(axes: Axes, top: float, room: float, span: float, lines: Sequence[str]) -> None:
    """The scale with its ends and its middle, and how to read the cells."""
    wide = 0.4 * room
    scale = np.linspace(-span, span, 64)[None]
    _picture(axes, _colours(scale, span), (0, top + 2, wide, 7))
    marks = ((f"−{_short(span)} %", 0.0, "left"), ("0", 0.5, "center"))
    for words, share, side in (*marks, (f"+{_short(span)} %", 1.0, "right")):
        axes.text(share * wide, top + 19, words, ha=side, fontsize=SMALL - 1)
    for index, line in enumerate(lines):
        axes.text(0, top + 32 + index * _LINE, line, fontsize=SMALL - 1, color=SOFT)


def _legend(deep: bool, arms: int) -> list[str]:
    lines = ["Gain of a phase over the mean gain. Chance: RMS of maps without a pattern."]
    if deep:
        lines.append("Planes: phase 0, 1, … of axis 0; rows: axis 1; columns: axis 2.")
    if arms > HIGHLIGHTS:
        lines.append(f"The first {HIGHLIGHTS} of {arms} arms.")
    return lines


def _signed(percent: float, digits: int) -> str:
    return "0" if round(percent, digits) == 0 else signed(percent, digits)


def _short(percent: float) -> str:
    """`0.05`, `5.2`, `12`: a digit more than is needed below 10."""
    if percent >= 10:
        return f"{percent:.0f}"
    return f"{percent:.1f}" if percent >= 0.1 else f"{percent:.1g}"
