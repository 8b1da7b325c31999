"""Places of labels: apart from each other, from the marks, and inside the chart."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from medseg.report.figures.style import SMALL, SOFT, TEXT

_DIGIT = 0.62  # widths of letters over the size of the font
_MARK = 7.0
_AROUND = (135, 45, 0, 180, 90, 270, 315, 225)  # degrees; above left is free at a front
_REACH = (11.0, 14.0, 18.0, 24.0, 32.0, 42.0, 54.0)
_LEADER = 15.0  # points from which a line leads back to the mark

Boxes = NDArray[np.float64]


def apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights moved as little as possible until neighbours are `gap` apart, within low and high.

    Where there is no room for all, they share what there is.

    >>> apart([5.0, 5.0], gap=2.0, low=0.0, high=10.0)
    [4.0, 6.0]
    """
    if not heights:
        return []
    gap = min(gap, (high - low) / len(heights))
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    flat = isotonic_regression(np.asarray(heights)[order] - steps).x
    placed = np.clip(flat, low + gap / 2, high - gap / 2 - steps[-1]) + steps
    moved = np.empty(len(heights))
    moved[order] = placed
    return moved.tolist()


def number_marks(
    axes: Axes,
    labels: Sequence[str],
    places: Sequence[tuple[float, float]],
    *,
    bold: Sequence[bool] = (),
    below: bool = False,
) -> None:
    """Writes a label beside each mark where it covers nothing, with a line where it is far.

    Args:
        axes: Settled: limits, scales and place are final.
        labels: Short texts.
        places: Of their marks, in data.
        bold: Which labels are emphasised; none if empty.
        below: The lower left is tried first, not the upper left.
    """
    marks = axes.transData.transform(np.array(places).reshape(-1, 2))
    frame = axes.get_window_extent()
    sizes = [(_DIGIT * SMALL * len(label), SMALL) for label in labels]
    offsets = _offsets(marks, sizes, (frame.x0, frame.y0, frame.x1, frame.y1), below)
    for i, (label, (x, y)) in enumerate(zip(labels, offsets, strict=True)):
        far = math.hypot(x, y) > _LEADER
        arrow = {"arrowstyle": "-", "color": SOFT, "lw": 0.5, "shrinkA": 1, "shrinkB": 3}
        axes.annotate(
            label,
            places[i],
            xytext=(x, y),
            textcoords="offset points",
            ha="center",
            va="center",
            color=TEXT,
            fontsize=SMALL,
            fontweight="bold" if bold and bold[i] else "normal",
            arrowprops=arrow if far else None,
        )


def _offsets(
    marks: Boxes,
    sizes: Sequence[tuple[float, float]],
    frame: tuple[float, float, float, float],
    below: bool,
) -> list[tuple[float, float]]:
    """Greedy: for each label the nearest place that covers no mark and no label before it."""
    angles = [math.radians(-a if below else a) for a in _AROUND]
    taken = np.hstack([marks - _MARK / 2, marks + _MARK / 2])
    found = []
    for mark, (width, height) in zip(marks, sizes, strict=True):
        stretch = width / height if width > height else 1.0
        tried = [
            (reach * math.cos(a) * (1 + (stretch - 1) / 3), reach * math.sin(a))
            for reach in _REACH
            for a in angles
        ]
        centres = mark + np.array(tried)
        half = np.array([width, height]) / 2
        boxes = np.hstack([centres - half, centres + half])
        cost = _covered(boxes, taken) + _outside(boxes, frame)
        best = int(np.argmin(cost))
        found.append(tried[best])
        taken = np.vstack([taken, boxes[best]])
    return found


def _covered(boxes: Boxes, taken: Boxes) -> Boxes:
    """Area of each box that others cover."""
    low = np.maximum(boxes[:, None, :2], taken[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], taken[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=-1).sum(axis=-1)


def _outside(boxes: Boxes, frame: tuple[float, float, float, float]) -> Boxes:
    low, high = np.array(frame[:2]), np.array(frame[2:])
    beyond = np.clip(low - boxes[:, :2], 0, None) + np.clip(boxes[:, 2:] - high, 0, None)
    return 10 * beyond.sum(axis=-1)
