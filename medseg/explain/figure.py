"""The figure of an operator: small arrays as grids of numbers, to scale, side by side."""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medseg.analysis.closed_form import jump, receptive_field
from medseg.errors import ConfigError
from medseg.explain.example import FINE, small, windows, worked
from medseg.explain.operator import Operator
from medseg.plotting import AMOUNT, RULE, WIDTH, styled

_CELL, _LEGIBLE = 0.3, 0.13  # inches; numbers are left out of smaller cells
_GAP, _LINE, _LETTER = 0.25, 0.16, 0.07
_MOST_CELLS = 10_000
_LONGEST = 400
_PERIODS = {1: 6, 2: 5, 3: 3}
_MATRIX_UP, _MATRIX, _MATRIX_STRIDED = {1: 5, 2: 2, 3: 2}, {1: 8, 2: 4, 3: 3}, {1: 8, 2: 4, 3: 4}
_USUAL_TIMES = {True: 2, False: 3}
# their own matrix depends on values; these have the same windows
_SAME_WINDOWS = {"deformable": "conv", "max_unpool": "nearest"}

Array = NDArray[Any]


class Panel(NamedTuple):
    """An array of 1 to 3 axes, and what is written into its cells instead of the values."""

    title: str
    values: Array
    texts: Sequence[Sequence[str]] | None = None


def example(operator: Operator) -> list[Panel]:
    """The arrays of the worked example."""
    return [Panel(name, values.numpy()) for name, values in worked(small(operator)).items()]


def taps(operator: Operator) -> list[Panel]:
    """Weights with which one output reads the input; of an upsampling, what one input adds."""
    cut = small(operator)
    entries, size = windows(cut).numpy(), cut.output
    if cut.about.upsamples:
        place = tuple((n - 1) // 2 for n in cut.size)
        weights = entries[:, np.ravel_multi_index(place, cut.size)].reshape(size)
        return [_marked("one input", cut.size, place), Panel("its share of the output", weights)]
    place = tuple(n // 2 for n in size)
    weights = entries[np.ravel_multi_index(place, size)].reshape(cut.size)
    return [Panel("weights of the input in one output", weights), _marked("output", size, place)]


def overlap(operator: Operator) -> list[Panel]:
    """How many inputs reach each output voxel; for others, how many outputs read each input."""
    if operator.about.upsamples:  # on a grid that is large enough for its pattern
        operator = replace(operator, size=(_PERIODS[operator.dims],) * operator.dims)
        cut = small(operator, _PERIODS)
        counts = (windows(cut) != 0).sum(1).reshape(cut.output)
        return [Panel("inputs that reach each output voxel", counts.numpy())]
    cut = small(operator, FINE)
    counts = (windows(cut) != 0).sum(0).reshape(cut.size)
    return [Panel("outputs that read each input voxel", counts.numpy())]


def as_matrix(operator: Operator) -> list[Panel]:
    """The operator as a matrix on a small input: rows are outputs, columns inputs."""
    strided = max(operator.stride) > 1
    most = _MATRIX_UP if operator.about.upsamples else _MATRIX_STRIDED if strided else _MATRIX
    cut = small(operator, most)
    entries = windows(cut).numpy()
    return [Panel(f"matrix, {entries.shape[0]}×{entries.shape[1]}", entries)]


def field(operator: Operator) -> list[Panel]:
    """Paths from the input voxels to one output of a chain, as far as any lead there.

    A chain of one is drawn as three in a row, of an upsampling as two, or as many as can be drawn.

    Raises:
        ConfigError: the field is too long to draw.
    """
    chains = [operator.times]
    if operator.times == 1:
        chains = range(_USUAL_TIMES[operator.about.upsamples], 0, -1)
    for times in chains:
        try:
            axes = [np.trim_zeros(_paths(operator.along(a), times)) for a in range(operator.dims)]
        except ConfigError:
            if times == chains[-1]:
                raise
            continue
        product = axes[0]
        for axis in axes[1:]:
            product = product[..., None] * axis
        if len(axes) == 3:
            product = product[len(product) // 2]
        middle = ", middle slice" if len(axes) == 3 else ""
        return [Panel(f"paths from the input to one output after {times}{middle}", product)]
    raise AssertionError


FIGURES: dict[str, Callable[[Operator], list[Panel]]] = {
    "example": example,
    "taps": taps,
    "overlap": overlap,
    "matrix": as_matrix,
    "field": field,
}


def draw_operator(operator: Operator, names: Iterable[str]) -> Figure:
    """Draws the figures of these names of `FIGURES` below each other.

    Raises:
        ConfigError: no such figure, or the operator is too large to draw.
    """
    for name in names:
        if name not in FIGURES:
            raise ConfigError(f"figure={name}: no such figure; choose from {', '.join(FIGURES)}")
    return draw([FIGURES[name](operator) for name in names])


@styled()
def draw(groups: Iterable[Sequence[Panel]]) -> Figure:
    """Draws panels to one scale, each group in rows of its own.

    Raises:
        ConfigError: more cells than can be drawn.
    """
    rows = [
        row for group in groups for row in _rows([p for panel in group for p in _planes(panel)])
    ]
    cells = sum(panel.values.size for row in rows for panel in row)
    if cells > _MOST_CELLS:
        raise ConfigError(
            f"{cells} cells are too many to draw; choose a smaller size, kernel or stride"
        )
    heights = [_heading(row) + max(_extent(panel)[1] for panel in row) + _GAP for row in rows]
    height = sum(heights)
    figure = Figure(figsize=(WIDTH, height))
    top = 0.0
    for row, row_height in zip(rows, heights, strict=True):
        left = 0.0
        for panel in row:
            width, tall = _extent(panel)
            foot = 1 - (top + _heading(row) + tall) / height
            axes = figure.add_axes((left / WIDTH, foot, width / WIDTH, tall / height))
            _draw_cells(axes, panel)
            left += max(width, _title_width(panel)) + _GAP
        top += row_height
    return figure


def written(value: float) -> str:
    """Formats a number as short as it can be, with two decimals at most.

    >>> written(2.0), written(-0.25)
    ('2', '−0.25')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "−")


def _planes(panel: Panel) -> list[Panel]:
    """The panel's 2-D slices, without those that are zero where others are not."""
    if panel.values.ndim < 3:
        return [panel._replace(values=np.atleast_2d(panel.values))]
    return [
        Panel(f"{panel.title}, slice {number} of {len(panel.values)}", plane)
        for number, plane in enumerate(panel.values, start=1)
        if plane.any() or not panel.values.any()
    ]


def _rows(panels: Sequence[Panel]) -> list[list[Panel]]:
    """The panels side by side, in as many rows as the width asks for."""
    rows: list[list[Panel]] = []
    used = math.inf
    for panel in panels:
        width = max(_extent(panel)[0], _title_width(panel)) + _GAP
        if used + width > WIDTH + _GAP:
            rows.append([])
            used = 0.0
        rows[-1].append(panel)
        used += width
    return rows


def _extent(panel: Panel) -> tuple[float, float]:
    """Width and height of the cells in inches."""
    rows, columns = panel.values.shape
    cell = min(_CELL, WIDTH / max(rows, columns))
    return columns * cell, rows * cell


def _lines(panel: Panel) -> list[str]:
    return textwrap.wrap(panel.title, max(16, int(_extent(panel)[0] / _LETTER)))


def _title_width(panel: Panel) -> float:
    return max(map(len, _lines(panel))) * _LETTER


def _heading(row: Sequence[Panel]) -> float:
    return _LINE * max(len(_lines(panel)) for panel in row) + 0.04


def _draw_cells(axes: Any, panel: Panel) -> None:
    values = np.asarray(panel.values, dtype=float)
    rows, columns = values.shape
    largest = max(float(np.abs(values).max()), 1e-12)
    shade = np.abs(values) / largest
    axes.pcolormesh(shade, cmap=AMOUNT, vmin=0, vmax=3, edgecolors=RULE, linewidth=0.6)
    axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title("\n".join(_lines(panel)), pad=3)
    cell = _extent(panel)[0] / columns
    if cell < _LEGIBLE:
        return
    for row, column in np.ndindex(rows, columns):
        if panel.texts is not None:
            text = panel.texts[row][column]
        else:
            text = written(float(values[row, column])) if values[row, column] else ""
        size = min(8.0, cell * 72 * 0.82 / max(2, len(text) * 0.62))
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center_baseline", size=size)


def _marked(title: str, size: Sequence[int], place: Sequence[int]) -> Panel:
    marks = np.zeros(size)
    marks[tuple(place)] = 1
    return Panel(title, marks)


def _paths(line: Operator, times: int) -> Array:
    """Paths along one axis from every input voxel to the output near the middle that sees most."""
    line = replace(line, kind=_SAME_WINDOWS.get(line.kind, line.kind), times=times)
    layers = [line.layer(0)] * times
    size = line.size[0]
    if line.about.upsamples:
        size = _PERIODS[2]
    elif line.about.family == "conv":
        size = receptive_field(layers) + 2 * jump(layers)
    if size > _LONGEST:
        raise ConfigError(
            f"times={times}: the receptive field of {receptive_field(layers)} voxels is too long "
            "to draw; choose a smaller times, kernel or dilation"
        )
    sizes = [n for (n,) in replace(line, size=(size,)).sizes]
    if sizes[-1] > _LONGEST:
        raise ConfigError(
            f"times={times}: {sizes[-1]} voxels are too many to draw; choose a smaller times"
        )
    paths = np.eye(sizes[-1])
    for n in reversed(sizes[:-1]):
        paths = paths @ (windows(replace(line, size=(n,))).numpy() != 0)
    quarter = len(paths) // 4
    chosen = paths[quarter : len(paths) - quarter]
    middle = (len(chosen) - 1) / 2
    order = sorted(range(len(chosen)), key=lambda i: abs(i - middle))
    return max((chosen[i] for i in order), key=np.count_nonzero)
