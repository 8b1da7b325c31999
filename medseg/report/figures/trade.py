"""Quality by cost: arms as points, with the front of those that no other beats."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from medseg.plotting import OTHER, SOFT, line_style, new_figure, plain_ticks, styled

NUMBERED = 40  # of more arms only the coloured and those on the front have a number
_GIB = 2.0**30
_CELLS = 19  # of the chart in each direction, within which numbers of arms would overlap
_IN_A_LINE = 5


def front(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """Whether each arm is beaten by none: none costs at most as much, is as good, better in one.

    Arms with equal numbers do not beat each other; one without a number is not on the front.

    >>> front([0, 1, 2], [0.8, 0.7, 0.9])
    [True, False, True]
    """
    cost, value = np.asarray(costs, float), np.asarray(values, float)
    known = np.isfinite(cost) & np.isfinite(value)
    beaten = [
        bool(np.any(known & (cost <= c) & (value >= v) & ((cost < c) | (value > v))))
        for c, v in zip(cost, value, strict=True)
    ]
    return [bool(k) and not b for k, b in zip(known, beaten, strict=True)]


@styled()
def pareto(
    points: pd.DataFrame,
    *,
    x_label: str,
    y_label: str,
    places: Mapping[int, int],
    unit: str = "",
) -> Figure | None:
    """Arms by cost and value with the front as a stepped line; numbers are arms, rings are beaten.

    Args:
        points: Arm → x and y; arms without one of them are left out.
        x_label: Cost, better when smaller.
        y_label: Value, better when greater.
        places: Arm → place in the palette.
        unit: Of the cost: "B" is drawn in GiB, "s" is written, a count has k, M and G.
    """
    known = points.dropna().astype(float)
    if known.empty:
        return None
    if unit == "B":
        known, unit = known.assign(x=known["x"] / _GIB), "GiB"
    best = front(list(known["x"]), list(known["y"]))
    known = known.assign(best=best)
    figure = new_figure(3.1)
    axes = figure.add_subplot()
    axes.set(title=y_label, xlabel=f"{x_label} ({unit})" if unit else x_label)
    axes.grid(axis="y")
    x, y = known["x"].tolist(), known["y"].tolist()
    _set_axis(axes, "x", x, log=max(x) > 10 * min(x) > 0)
    _set_axis(axes, "y", y, log=False)
    if not unit and max(x) >= 1e4:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    steps = sorted((a, b) for a, b, on_front in zip(x, y, best, strict=True) if on_front)
    axes.plot(
        [*(a for a, _ in steps), axes.get_xlim()[1]], [*(b for _, b in steps), steps[-1][1]],
        color=SOFT, lw=1, drawstyle="steps-post", zorder=1.5,
    )  # fmt: skip
    _draw_arms(axes, known, places)
    return figure


def _set_axis(axes: Axes, name: str, values: Sequence[float], *, log: bool) -> None:
    """Limits and ticks; logarithmic over more than a decade.

    The axis spans 2 % of its values at least, so that a difference that nobody would notice does
    not fill the chart.
    """
    low, high = min(values), max(values)
    if log:
        pad = (high / low) ** 0.09
        limits = low / pad, high * pad
    else:
        least = 0.02 * max(abs(low), abs(high)) or 1.0
        middle, half = (low + high) / 2, 0.59 * max(high - low, least)
        limits = middle - half, middle + half
    options: dict[str, Any] = {f"{name}scale": "log" if log else "linear", f"{name}lim": limits}
    axes.set(**options)
    axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
    subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=7) if log else MaxNLocator(nbins=5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(plain_ticks())


def _draw_arms(axes: Axes, points: pd.DataFrame, places: Mapping[int, int]) -> None:
    """Dots with the numbers of their arms; arms in one cell of the chart share one label."""
    numbered = points["best"] | points.index.isin(list(places)) | (len(points) <= NUMBERED)
    rest = points[~numbered]
    axes.plot(rest["x"], rest["y"], "o", color=OTHER, ms=3, mew=0, zorder=1)
    shown = points.loc[numbered]
    for arm, x, y, best in shown.itertuples():
        colour = line_style(places.get(arm))["color"]
        face = colour if best else "none"
        axes.plot(x, y, "o", color=colour, mfc=face, mew=1.3, ms=5.5, clip_on=False)
    to_share = axes.transData + axes.transAxes.inverted()
    shares = to_share.transform(np.column_stack([shown["x"], shown["y"]]))
    for _, group in shown.assign(share=shares[:, 0]).groupby(
        (shares * _CELLS).astype(int) @ [1, _CELLS + 1]
    ):
        x, y, share = group.loc[group["y"].idxmax(), ["x", "y", "share"]]
        # Labels point into the chart, where there is room.
        side = "right" if share > 0.6 else "left"
        arms = [str(arm) for arm in group.index]
        lines = [arms[i : i + _IN_A_LINE] for i in range(0, len(arms), _IN_A_LINE)]
        axes.annotate(
            ",\n".join(map(", ".join, lines)),
            (x, y),
            xytext=(-4 if side == "right" else 4, 4),
            textcoords="offset points",
            ha=side,
            fontweight="bold" if any(group["best"]) else "normal",
        )
