"""Histories by epoch: a line per arm."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medseg.plotting import HIGHLIGHTS, OTHER, line_style, new_figure, plain_ticks, styled
from medseg.report.arms import Arm

_SEEDS = 5
_POINTS = 200


def histories(
    arms: Iterable[Arm], key: str, field: Literal["history", "artifact_history"] = "history"
) -> pd.DataFrame:
    """One quantity of the runs' histories: columns arm, run, epoch (finished epochs) and value."""
    rows = [
        (arm.number, place, row.get("epoch"), row.get(key))
        for arm in arms
        for place, run in enumerate(arm.runs)
        for row in getattr(run, field)
    ]
    frame = pd.DataFrame(rows, columns=["arm", "run", "epoch", "value"])
    return frame.astype({"epoch": float, "value": float}).dropna()


@styled()
def curve(lines: pd.DataFrame, label: str, places: Mapping[int, int]) -> Figure | None:
    """A line per arm, the mean over its runs, with its runs as thin lines.

    More than five runs of an arm are drawn as the band between their extremes, and so are the
    means of more than `HIGHLIGHTS` arms without a colour.

    Args:
        lines: As of `histories`.
        label: The quantity.
        places: Arm → place in the palette.
    """
    if lines.empty:
        return None
    figure = new_figure(3.4)
    axes = figure.add_subplot()
    means = lines.pivot_table(index="epoch", columns="arm", values="value")
    grey = [arm for arm in means if arm not in places]
    if len(grey) > HIGHLIGHTS:
        _band(axes, means.filter(grey), OTHER, 0.4)
        grey = []
    for arm in [*grey, *(arm for arm in means if arm in places)]:
        look = line_style(places.get(arm))
        of_arm = lines[lines["arm"] == arm]
        runs = of_arm.pivot_table(index="epoch", columns="run", values="value")
        if runs.shape[1] > _SEEDS:
            _band(axes, runs, look["color"], 0.2)
        elif runs.shape[1] > 1:
            thin = _thinned(runs)
            axes.plot(thin.index, thin, color=look["color"], lw=0.6, alpha=0.45)
        mean = _thinned(means[arm].dropna())
        marker = "o" if len(mean) == 1 else ""
        name = f"arm {arm}" if arm in places else ""
        axes.plot(mean.index, mean, lw=1.6, marker=marker, ms=4, label=name, **look)
    axes.set(title=label, xlabel="Epoch")
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(plain_ticks())
    axes.yaxis.set_major_formatter(plain_ticks())
    if any(arm in places for arm in means):
        figure.legend(loc="outside lower left", ncols=6, columnspacing=1.2, handlelength=1.6)
    return figure


def _band(axes: Axes, lines: pd.DataFrame, colour: str, alpha: float) -> None:
    thin = _thinned(lines)
    low, high = thin.min(axis=1), thin.max(axis=1)
    axes.fill_between(thin.index, low, high, color=colour, alpha=alpha, lw=0)


def _thinned(lines: Any) -> Any:
    """Every n-th epoch, the last among them: a page needs no more points than pixels."""
    return lines.iloc[:: -max(1, math.ceil(len(lines) / _POINTS))].iloc[::-1]
