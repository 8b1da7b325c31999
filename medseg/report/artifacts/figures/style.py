"""Paper, ink and colours that all figures of this room share, and figures as PNG."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor

from medseg.files import write_bytes

INK, SOFT, RULE, PALE = "#1b1f24", "#5c6570", "#b9c1ca", "#e6e9ed"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"
SERIES = (
    (BLUE, "-", "o"),
    (ORANGE, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (INK, "-", "v"),
    ("#e69f00", "--", "P"),
)
DIVERGING, AMOUNT = (
    LinearSegmentedColormap.from_list(name, shades).with_extremes(bad=PALE)
    for name, shades in (
        ("deviation", [BLUE, "white", ORANGE]),
        ("amount", ["white", BLUE, "#00263c"]),
    )
)

WIDTH, DPI = 4.5, 200  # 900 pixels across
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.titlesize": 8.5,
    "axes.titlecolor": INK,
    "axes.labelsize": 8.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
    "figure.facecolor": "white",
}
_LETTERS = 54

Array = NDArray[Any]
Values = Tensor | Array


def page(height: float, heading: str, *, note: str = "", fixed: bool = False) -> Figure:
    """An empty figure 4.5 inches wide, its heading above and a note below, both in lines.

    Args:
        height: Inches.
        heading: Set in bold.
        note: Set small.
        fixed: Whether axes stay where they are put; else the figure finds their places.
    """
    layout = None if fixed else ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=layout)
    top = 1 - 0.06 / height if fixed else None
    figure.suptitle(_lines(heading), x=0.02, y=top, ha="left", fontsize=10, fontweight="bold")
    if note:
        figure.supxlabel(_lines(note, 1.4), x=0.02, ha="left", fontsize=8, color=SOFT)
    return figure


def array(values: Values) -> Array:
    """A tensor of any device, or an array, in double precision."""
    return torch.as_tensor(values).detach().cpu().double().numpy()


def plane_of(values: Values, what: str) -> Array:
    """Two axes, as they are.

    Raises:
        ValueError: another number of axes, or no voxels.
    """
    plane = array(values)
    if plane.ndim != 2 or not plane.size:
        raise ValueError(
            f"{what} of shape {plane.shape} must have two axes and voxels to be drawn; give a slice"
        )
    return plane


def png(figure: Figure) -> bytes:
    """The figure as a PNG of its own size: 900 pixels wide.

    >>> png(page(1.0, "nothing"))[1:4]
    b'PNG'
    """
    stream = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Writes the figure's PNG, wholly or not at all.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    write_bytes(path, png(figure))


def finite(values: Array) -> Array:
    """The values that are numbers, in a row."""
    return values[np.isfinite(values)]


def times(sizes: Sequence[int]) -> str:
    """Sizes joined so that no line ends between them.

    >>> times((2, 4)).split()  # no-break spaces count as spaces here
    ['2', '×', '4']
    """
    return "\u00a0×\u00a0".join(map(str, sizes))


def _lines(text: str, density: float = 1.0) -> str:
    return "\n".join(textwrap.wrap(text, int(_LETTERS * density)))
