# The stubs of pandas are wider than what these frames hold.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
"""Scatter plots of arms: quality by cost, and predicted against measured."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from medseg.plotting import OTHER, SOFT, line_style, new_figure, plain_ticks, styled

NUMBERED = 40  # of more arms only the coloured and those on the front have a number
_BINARY = {"GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10}
_WIDE, _HIGH = 0.05, 0.055  # of a number, as a share of the chart
_IN_A_LINE = 5


def front(costs: Sequence[float], values: Sequence[float], *, higher_better: bool = True) -> list:
    """Whether each arm is beaten by none: none costs at most as much, is as good, better in one.

    Arms with equal numbers do not beat each other; one without a number is not on the front.

    >>> front([0, 1, 2], [0.8, 0.7, 0.9])
    [True, False, True]
    """
    cost = np.asarray(costs, float)
    value = np.asarray(values, float) * (1 if higher_better else -1)
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
    higher_better: bool = True,
) -> Figure | None:
    """Arms by cost and value with the front as a stepped line; numbers are arms, rings are beaten.

    Args:
        points: Columns arm, x, y, and the ends y_low and y_high of its interval, NaN if unknown;
            arms without x or y are left out.
        x_label: Cost, better when smaller.
        y_label: Value.
        places: Arm → place in the palette.
        unit: Of the cost: "B" has binary prefixes, "s" is written, a count has k, M and G.
        higher_better: Whether a greater value is the better one.
    """
    known = points.astype({"x": float, "y": float}).dropna(subset=["x", "y"])
    if known.empty:
        return None
    scale, x_label = _unit(known["x"], x_label, unit)
    known = known.assign(
        x=known["x"] / scale, best=front(known["x"], known["y"], higher_better=higher_better)
    )
    figure = new_figure(3.1)
    axes = figure.add_subplot()
    axes.set(title=y_label, xlabel=x_label)
    axes.grid(axis="y")
    shown = known[_numbered(known["arm"], places, known["best"])]
    intervals = shown[["y_low", "y_high"]].to_numpy(float).ravel()
    _limit(axes.xaxis, known["x"], unit)
    _limit(axes.yaxis, [*known["y"], *intervals[np.isfinite(intervals)]], "", log=False)
    steps = known[known["best"]].sort_values("x")
    far = axes.get_xlim()[1]
    axes.plot(
        [*steps["x"], far], [*steps["y"], steps["y"].iloc[-1]],
        color=SOFT, lw=1, drawstyle="steps-post", zorder=1.5,
    )  # fmt: skip
    for row in shown.itertuples():
        colour = line_style(places.get(row.arm))["color"]
        axes.vlines(row.x, row.y_low, row.y_high, color=colour, lw=1, alpha=0.5)
    _draw_arms(axes, known, places, hollow=~known["best"])
    return figure


@styled()
def predicted_figure(
    points: pd.DataFrame, *, label: str, unit: str, places: Mapping[int, int]
) -> Figure | None:
    """Measured against predicted with the line where both are equal; numbers are arms.

    Args:
        points: Columns arm, predicted and measured; arms without both are left out.
        label: The quantity.
        unit: "B", "s" or "×", the multiple of a reference.
        places: Arm → place in the palette.
    """
    known = points.astype({"predicted": float, "measured": float}).dropna()
    if known.empty:
        return None
    values = known[["predicted", "measured"]].to_numpy(float)
    scale, said = _unit(values, label, unit)
    figure = new_figure(3.6)
    axes = figure.add_subplot()
    axes.set(title=f"{said}, measured", xlabel=f"{said}, predicted")
    axes.grid()
    for axis in (axes.xaxis, axes.yaxis):
        _limit(axis, values.ravel() / scale, unit)
    ends = axes.get_xlim()
    axes.plot(ends, ends, color=SOFT, lw=1, ls="--", zorder=1.5, label="measured as predicted")
    figure.legend(loc="outside lower left")
    marks = pd.DataFrame({"arm": known["arm"], "x": values[:, 0], "y": values[:, 1]})
    marks[["x", "y"]] /= scale
    _draw_arms(axes, marks.assign(best=False), places, hollow=marks["x"] != marks["x"])
    return figure


def _unit(values: pd.Series | np.ndarray, label: str, unit: str) -> tuple[float, str]:
    """What a value is divided by, and the label with its unit."""
    if unit != "B":
        return 1.0, f"{label} ({unit})" if unit else label
    largest = float(np.max(values))
    prefix = next((p for p, size in _BINARY.items() if largest >= 2 * size), "KiB")
    return _BINARY[prefix], f"{label} ({prefix})"


def _limit(axis: Axis, values: Sequence[float], unit: str, log: bool = True) -> None:
    """Limits and ticks; logarithmic over more than a decade.

    The axis spans 2 % of its values at least, so that a difference that nobody would notice does
    not fill the chart.
    """
    low, high = min(values), max(values)
    log = log and low > 0 and high > 10 * low
    if log:
        pad = (high / low) ** 0.09
        limits = low / pad, high * pad
    else:
        least = 0.02 * max(abs(low), abs(high)) or 1.0
        middle, half = (low + high) / 2, 0.59 * max(high - low, least)
        limits = middle - half, middle + half
    name = axis.axis_name
    axis.axes.set(**{f"{name}scale": "log" if log else "linear", f"{name}lim": limits})
    subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=7) if log else MaxNLocator(nbins=5))
    axis.set_minor_locator(NullLocator())
    counts = not unit and high >= 1e4
    axis.set_major_formatter(EngFormatter(sep="") if counts else plain_ticks())


def _numbered(arms: pd.Series, places: Mapping[int, int], best: pd.Series) -> pd.Series:
    return best | arms.isin(list(places)) | (len(arms) <= NUMBERED)


def _draw_arms(
    axes: Axes, points: pd.DataFrame, places: Mapping[int, int], hollow: pd.Series
) -> None:
    """Dots with the numbers of their arms; arms whose numbers would overlap share one label."""
    numbered = _numbered(points["arm"], places, points["best"])
    rest = points[~numbered]
    axes.plot(rest["x"], rest["y"], "o", color=OTHER, ms=3, mew=0, zorder=1)
    for row in points[numbered].itertuples():
        colour = line_style(places.get(row.arm))["color"]
        face = "none" if hollow[row.Index] else colour
        axes.plot(row.x, row.y, "o", color=colour, mfc=face, mew=1.3, ms=5.5, clip_on=False)
    to_share = axes.transData + axes.transAxes.inverted()
    for group in _neighbours(axes, points[numbered]):
        x, y = group.sort_values("y")[["x", "y"]].to_numpy(float)[-1]
        # Labels point into the chart, where there is room.
        side = "right" if to_share.transform((x, y))[0] > 0.6 else "left"
        arms = [str(arm) for arm in group["arm"]]
        lines = [arms[i : i + _IN_A_LINE] for i in range(0, len(arms), _IN_A_LINE)]
        axes.annotate(
            ",\n".join(map(", ".join, lines)),
            (x, y),
            xytext=(-4 if side == "right" else 4, 4),
            textcoords="offset points",
            ha=side,
            fontweight="bold" if group["best"].any() else "normal",
        )


def _neighbours(axes: Axes, points: pd.DataFrame) -> list[pd.DataFrame]:
    """Points in groups: a point joins the first group that has one within the size of a number."""
    to_share = axes.transData + axes.transAxes.inverted()
    shares = to_share.transform(points[["x", "y"]].to_numpy(float))
    groups: list[list[int]] = []
    for place, share in enumerate(shares):
        near = (abs(shares - share) < (_WIDE, _HIGH)).all(axis=1)
        group = next((g for g in groups if near[g].any()), None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    return [points.iloc[group] for group in groups]
