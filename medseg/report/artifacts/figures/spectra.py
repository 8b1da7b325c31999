"""The figure whose pixels are frequencies."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Num
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from medseg.report.artifacts.figures.panels import (
    Block,
    Plane,
    diverging,
    draw_blocks,
    lay_out,
    levels,
)
from medseg.report.artifacts.figures.style import ORANGE, STYLE, Array, Values, array, page, times

_SHOWN = 0.999  # of the differences; frequency 0 of a residual is far off
_EDGES = (-0.5, 0.0, 0.5)
_NAMES = ("−½", "0", "½")


@rc_context(STYLE)
def spectrum(
    log_power: Num[Tensor, "*frequencies"] | Array,
    period: Sequence[int],
    reference: Values | None = None,
) -> Figure:
    """Log power over frequency, the lattice points `2πk/s` ringed; in 3-D three central planes.

    Colours end at the lowest hundredth of the power. With a reference, also the difference to it,
    about 0 dB; its colours end at its largest thousandth.

    Args:
        log_power: `10 log₁₀ |E|²` in decibels with frequency 0 in the middle, as of
            `residual_spectrum`; of all axes or of those with a stride > 1.
        period: Voxels per axis after which a pattern repeats.
        reference: Log power of another arm at the same frequencies.

    Raises:
        ValueError: another number of axes, or a reference of another shape.

    >>> figure = spectrum(np.zeros((8, 8)), (2, 2))
    >>> figure.subfigs[0].axes[0].collections[0].get_offsets().tolist()  # cycles per voxel
    [[-0.5, 0.0], [0.0, -0.5], [-0.5, -0.5]]
    """
    power = array(log_power)
    axes = _axes_of(power, period)
    steps = [period[axis] for axis in axes]
    blocks = [Block("Power", _central(power, axes), levels(power), "decibel")]
    if reference is not None:
        change = _change(power, array(reference))
        look = diverging(change, 0.0, _SHOWN)
        blocks.append(Block("Difference to the reference", _central(change, axes), look, "decibel"))
    height, width = lay_out(0.75, power.ndim, blocks)
    note = (
        f"Rings: whole cycles per period of {times(period)} voxels, where a pattern that is locked "
        "to the strides has its energy."
    )
    figure = page(height, "Power by frequency, in cycles per voxel", note=note)
    points = dict(zip((plane.labels for plane in blocks[0].planes), _lattice(steps), strict=True))
    inches = (width - 0.5) / (3 if power.ndim == 3 else 1)
    across = min(7.0, 0.55 * 72 * inches / max(steps))

    def ring(panel: Axes, plane: Plane) -> None:
        size = {"s": across**2, "facecolors": "none", "edgecolors": ORANGE, "linewidths": 1.0}
        panel.scatter(*points[plane.labels].T, clip_on=False, zorder=3, **size)
        panel.set(xlim=_EDGES[::2], ylim=_EDGES[::-2])
        panel.set_xticks(_EDGES, _NAMES)
        panel.set_yticks(*([[]] if power.ndim == 1 else [_EDGES, _NAMES]))
        panel.tick_params(pad=6)

    draw_blocks(figure, power.ndim, blocks, ring)
    return figure


def _axes_of(power: Array, period: Sequence[int]) -> list[int]:
    """Which axes of the maps the spectrum has."""
    strided = [axis for axis, step in enumerate(period) if step > 1]
    for axes in (strided, list(range(len(period)))):
        if len(axes) == power.ndim and 1 <= power.ndim <= 3 and power.size:
            return axes
    raise ValueError(
        f"log power of shape {power.shape} with period {tuple(period)} must have the axes of the "
        "maps or those with a stride > 1, 1 to 3 in all; give the spectrum with its own period"
    )


def _change(power: Array, reference: Array) -> Array:
    """The difference, nowhere where either has no power at all."""
    if power.shape != reference.shape:
        raise ValueError(
            f"reference of shape {reference.shape} has other frequencies than {power.shape}; "
            "take both spectra from maps of one size"
        )
    known = np.isfinite(power) & np.isfinite(reference)
    return np.subtract(power, reference, out=np.full(power.shape, np.nan), where=known)


def _pairs(axes: int) -> list[tuple[int, ...]]:
    return [(0,)] if axes == 1 else list(combinations(range(axes), 2))


def _central(values: Array, axes: Sequence[int]) -> list[Plane]:
    """The planes through frequency 0; of one axis a row."""
    found = []
    for pair in _pairs(values.ndim):
        at = tuple(slice(None) if a in pair else n // 2 for a, n in enumerate(values.shape))
        edges = [_ends(values.shape[axis]) for axis in pair]
        (top, bottom), (left, right) = edges if len(pair) == 2 else [_EDGES[::2], *edges]
        labels = [f"axis {axes[axis]}" for axis in pair]
        found.append(
            Plane(
                title="",
                values=np.atleast_2d(values[at]),
                labels=("" if len(pair) == 1 else labels[0], labels[-1]),
                extent=(left, right, bottom, top),
            )
        )
    return found


def _ends(bins: int) -> tuple[float, float]:
    """Outer edges of the first and the last frequency, in cycles per voxel."""
    return (-(bins // 2) - 0.5) / bins, ((bins - 1) // 2 + 0.5) / bins


def _lattice(steps: Sequence[int]) -> list[Array]:
    """Lattice points `(points, (x, y))` of each plane, without frequency 0."""
    lines = [(np.arange(s) / s + 0.5) % 1 - 0.5 for s in steps]
    grids = ([lines[a] for a in reversed(pair)] for pair in _pairs(len(steps)))
    rows = (np.meshgrid(*(grid if len(grid) == 2 else [*grid, [0.0]])) for grid in grids)
    return [np.stack(row, axis=-1).reshape(-1, 2)[1:] for row in rows]
