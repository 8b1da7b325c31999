"""The figures of an operator: its taps, its overlaps, its matrix and its receptive field."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from medseg.errors import ConfigError
from medseg.explain.board import Array, Panel, board, planes, terse
from medseg.explain.drawing import Drawing, headed, render, stacked
from medseg.explain.example import matrix, small, uses_of, worked
from medseg.explain.operator import Operator, Sizes
from medseg.explain.reach import draw_field
from medseg.explain.taps import draw_taps

_MATRIX_COARSE = {1: 5, 2: 2, 3: 2}
_MATRIX_FINE = {1: 8, 2: 4, 3: 3}
_MATRIX_STRIDED = {1: 8, 2: 4, 3: 4}
_MATRIX_SCALE = 0.8
_WORDED = 18


def draw_example(operator: Operator) -> Drawing:
    """The arrays of the worked example, with their values; in 3-D each array in its own rows."""
    rows = [
        [
            Panel(title=step.title + name, values=plane, shade=_even(plane))
            for name, plane in planes(step.values.numpy())
        ]
        for step in worked(small(operator))
    ]
    if operator.dims == 3:
        return stacked([board(row) for row in rows])
    return board([panel for row in rows for panel in row])


def draw_overlap(operator: Operator) -> Drawing:
    """How many inputs paint each output voxel; for others, how many outputs read each input."""
    uses = uses_of(operator)
    counts = uses.values.numpy()
    if counts.ndim == 1:
        return board([Panel(title=uses.title, values=counts)])
    top = counts.max()
    return board(
        [
            Panel(title=uses.title + name, values=plane, shade=0.6 * plane / top)
            for name, plane in planes(counts)
        ]
    )


def draw_matrix(operator: Operator) -> Drawing:
    """The operator as a matrix (rows are outputs, columns inputs), and its transpose.

    Its own input is smaller than that of the other figures. Empty cells are zeros.
    """
    caps = _MATRIX_COARSE if operator.about.upsamples else _MATRIX_FINE
    if max(operator.stride) > 1 and not operator.about.upsamples:
        caps = _MATRIX_STRIDED
    cut = small(operator, caps)
    entries = matrix(cut).numpy()
    return board(
        [
            matrix_panel(f"matrix {_sized(entries)} on {_grid(cut.size)} voxels", entries),
            matrix_panel(f"its transpose {_sized(entries.T)}", entries.T),
        ]
    )


def matrix_panel(title: str, entries: Array, words: Sequence[Sequence[str]] | None = None) -> Panel:
    """A matrix whose zeros are left empty; written out where the cells are large enough."""
    if words is None and max(entries.shape) <= _WORDED:
        words = [[terse(value) for value in row] for row in entries]
    return Panel(
        title=title,
        values=entries,
        shade=0.5 * (entries != 0),
        words=words,
        numbers=False,
        scale=_MATRIX_SCALE,
    )


FIGURES: dict[str, Callable[[Operator], Drawing]] = {
    "taps": draw_taps,
    "overlap": draw_overlap,
    "matrix": draw_matrix,
    "field": draw_field,
}


def draw_figure(operator: Operator, name: str) -> Figure:
    """The figure of a name of `FIGURES`, or `all` below each other.

    Raises:
        ConfigError: no such name, or the operator is too large to draw.
    """
    if name == "all":
        parts = [headed(part.capitalize(), draw(operator)) for part, draw in FIGURES.items()]
        return render(stacked(parts))
    if name not in FIGURES:
        listed = ", ".join([*FIGURES, "all"])
        raise ConfigError(f"figure={name}: no such figure; choose from {listed}")
    return render(FIGURES[name](operator))


def _even(plane: Array) -> Array:
    size = np.abs(plane)
    return 0.5 * size / max(float(size.max()), 1e-12)


def _sized(entries: Array) -> str:
    return f"{entries.shape[0]}×{entries.shape[1]}"


def _grid(size: Sizes) -> str:
    return "×".join(str(n) for n in size)
