"""Dice of single cases: how it is spread, and where arms part from the reference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from medseg.plotting import (
    INK,
    OTHER,
    line_style,
    new_figure,
    plain_ticks,
    shortened,
    styled,
)

MOST_CASES = 60


@styled()
def distribution(dice: pd.DataFrame, name: str, places: Mapping[int, int]) -> Figure | None:
    """A row per arm: every case a dot, the quartiles a box, the median a line.

    Beyond `MOST_CASES` cases the dots are quantiles, the extremes among them.

    Args:
        dice: Columns arm and value, a row per case.
        name: Of the class.
        places: Arm → place in the palette.
    """
    by_arm: dict[Any, np.ndarray] = {
        arm: np.sort(values) for arm, values in dice.dropna().groupby("arm")["value"]
    }
    if not by_arm:
        return None
    figure = new_figure(0.8 + 0.2 * len(by_arm))
    axes = figure.add_subplot()
    axes.set(title=shortened(name, 50), xlabel="Dice by case", ylabel="Arm")
    axes.set_yticks(range(len(by_arm)), [str(arm) for arm in by_arm])
    axes.set_ylim(len(by_arm) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.xaxis.set_major_formatter(plain_ticks())
    for row, (arm, values) in enumerate(by_arm.items()):
        low, median, high = np.percentile(values, (25, 50, 75))
        axes.barh(row, high - low, left=low, height=0.5, color=OTHER, alpha=0.55)
        shown = values[_evenly(len(values))]
        _dots(axes, shown, [row] * len(shown), places.get(arm))
        axes.vlines(median, row - 0.36, row + 0.36, color=INK, lw=1.6, zorder=4)
    return figure


def _dots(axes: Axes, x: ArrayLike, y: ArrayLike, place: int | None) -> None:
    look = line_style(place)
    face = look["color"] if look["linestyle"] == "-" else "none"
    axes.plot(x, y, "o", color=look["color"], mfc=face, mew=0.8, ms=3.2, alpha=0.75)


def _evenly(count: int) -> list[int]:
    """At most `MOST_CASES` places from 0 to `count - 1`, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_CASES)).round()).astype(int).tolist()
