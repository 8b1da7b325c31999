"""Histories by epoch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medseg.record import RunRecord
from medseg.report.collect import Arm
from medseg.report.figures.placing import apart
from medseg.report.figures.style import (
    HIGHLIGHTS,
    OTHER,
    RC,
    SMALL,
    chart,
    settled,
    stroke,
    svg,
)
from medseg.report.measures import mean
from medseg.report.sources import number

_POINTS = 300
_ALL_POINTS = 2400  # of all lines together; about 15 bytes each
_SEEDS = 5

Series = dict[float, float]


@dataclass(frozen=True)
class _Line:
    """An arm: its seeds and their mean."""

    arm: int
    place: int | None
    seeds: list[Series]
    middle: Series


def curve(
    arms: Sequence[Arm],
    key: str,
    label: str,
    style: Mapping[int, int],
    *,
    history: Callable[[RunRecord], Sequence[dict[str, float | None]]] = lambda r: r.history,
) -> str:
    """One quantity of a history by epoch: a line per arm with its number, its seeds as thin lines.

    More than five runs of an arm are drawn as the band between their extremes, and so are the
    means of more than `HIGHLIGHTS` arms without a colour.

    Returns:
        SVG, or nothing where no run recorded the quantity.
    """
    lines = []
    for arm in arms:
        seeds = [seed for run in arm.runs if (seed := _series(history(run.record), key))]
        if seeds:
            lines.append(_Line(arm.number, style.get(arm.number), seeds, _reduced(seeds, mean)))
    if not lines:
        return ""
    coloured = [line for line in lines if line.place is not None]
    grey = [line for line in lines if line.place is None]
    with rc_context(RC):
        figure, axes = chart("Epoch", label)
        if len(grey) > HIGHLIGHTS:
            _band(axes, [line.middle for line in grey], OTHER, 0.4)
            grey = []
        # Highlighted arms are drawn last, on top of the grey ones.
        shown = [*grey, *coloured]
        count = sum(1 + min(len(line.seeds), 2 * _SEEDS) for line in shown)
        points = max(24, min(_POINTS, _ALL_POINTS // max(1, count)))
        for line in shown:
            _draw(axes, line, points)
        axes.margins(x=0.07)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        settled(figure)
        _number_ends(axes, coloured)
        return svg(figure, f"{label} by epoch")


def _draw(axes: Axes, line: _Line, points: int) -> None:
    colour, dash = stroke(line.place)
    if len(line.seeds) > _SEEDS:
        _band(axes, line.seeds, colour, 0.2)
    elif len(line.seeds) > 1:
        for seed in line.seeds:
            axes.plot(*_thinned(seed, points), color=colour, lw=0.6, alpha=0.45)
    marker = "o" if len(line.middle) == 1 else ""
    axes.plot(
        *_thinned(line.middle, points), color=colour, ls=dash, marker=marker, lw=1.6, markersize=4
    )


def _band(axes: Axes, lines: Sequence[Series], colour: str, alpha: float) -> None:
    low, high = _reduced(lines, min), _reduced(lines, max)
    epochs, lows = _thinned(low, _POINTS // 3)
    highs = [high[epoch] for epoch in epochs]
    axes.fill_between(epochs, lows, highs, color=colour, alpha=alpha, lw=0)


def _number_ends(axes: Axes, lines: Sequence[_Line]) -> None:
    """The arm's number at the right end of its line."""
    if not lines:
        return
    ends = [max(line.middle.items()) for line in lines]
    heights = axes.transData.transform(ends)[:, 1]
    box = axes.get_window_extent()
    places = apart(heights.tolist(), SMALL, box.y0, box.y1)
    for line, (epoch, value), height, place in zip(lines, ends, heights, places, strict=True):
        axes.annotate(
            str(line.arm),
            (epoch, value),
            xytext=(4, place - height),
            textcoords="offset points",
            va="center",
            fontsize=SMALL - 0.5,
        )


def _series(history: Sequence[dict[str, float | None]], key: str) -> Series:
    found = {number(row.get("epoch")): number(row.get(key)) for row in history}
    return {e: v for e, v in found.items() if math.isfinite(e) and math.isfinite(v)}


def _reduced(lines: Sequence[Series], reduce: Callable[[list[float]], float]) -> Series:
    """One line from several, epoch by epoch."""
    values: dict[float, list[float]] = {}
    for line in lines:
        for epoch, value in line.items():
            values.setdefault(epoch, []).append(value)
    return {epoch: reduce(values[epoch]) for epoch in sorted(values)}


def _thinned(series: Series, points: int) -> tuple[list[float], list[float]]:
    """At most about `points` points, the first and the last among them."""
    pairs = sorted(series.items())
    step = max(1, math.ceil(len(pairs) / points))
    kept = pairs[::step] + ([pairs[-1]] if (len(pairs) - 1) % step else [])
    return [epoch for epoch, _ in kept], [value for _, value in kept]
