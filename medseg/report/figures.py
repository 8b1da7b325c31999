"""Curves and scatter as inline SVG that takes its colours and its font from the page."""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medseg.record import RunRecord
from medseg.report.cells import amount, duration
from medseg.report.collect import Arm
from medseg.report.measures import mean, of_runs
from medseg.report.sources import number

HIGHLIGHTS = 12

_POINTS = 300
_COLOURS = 6
_SIZE = (4.7, 3.1)
# Stand-ins that the SVG is drawn with; each is replaced by a colour of the page.
_TEXT, _RULE, _OTHER = "#0a0b0c", "#0a0b0d", "#0a0b0e"
_SERIES = [f"#0a0c0{i}" for i in range(_COLOURS)]
_PAGE = {_TEXT: "currentColor", _RULE: "var(--rule)", _OTHER: "var(--other)"} | {
    colour: f"var(--s{i})" for i, colour in enumerate(_SERIES)
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """An arm in the scatter: cost, mean Dice and its SD over cases (NaN for one case)."""

    arm: int
    cost: float
    dice: float
    deviation: float


def styles(arms: Sequence[Arm], dice: dict[int, float]) -> dict[int, int]:
    """Arm number → place in the palette, for the `HIGHLIGHTS` best arms; the others are grey."""
    ranked = sorted(arms, key=lambda arm: -dice.get(arm.number, -math.inf))[:HIGHLIGHTS]
    kept = sorted(arm.number for arm in ranked)
    return {arm: place for place, arm in enumerate(kept)}


def curve(
    arms: Sequence[Arm],
    key: str,
    label: str,
    style: dict[int, int],
    *,
    history: Callable[[RunRecord], Sequence[dict[str, float | None]]] = lambda r: r.history,
) -> str:
    """One quantity of a history by epoch: a line per arm, its seeds as thin lines.

    Returns:
        SVG, or nothing where no run recorded the quantity.
    """
    with rc_context(_RC):
        chart, axes = _axes("Epoch", label)
        drawn = False
        # Highlighted arms are drawn last, on top of the grey ones.
        for arm in sorted(arms, key=lambda arm: style.get(arm.number, -1)):
            seeds = [seed for run in arm.runs if (seed := _series(history(run.record), key))]
            if not seeds:
                continue
            drawn = True
            colour, dash = _style(style.get(arm.number))
            if len(seeds) > 1:
                for seed in seeds:
                    axes.plot(*_thinned(seed), color=colour, lw=0.6, alpha=0.45)
            middle = {
                epoch: mean([seed[epoch] for seed in seeds if epoch in seed])
                for epoch in sorted(set().union(*seeds))
            }
            marker = "o" if len(middle) == 1 else ""
            axes.plot(*_thinned(middle), color=colour, ls=dash, marker=marker, lw=1.6, markersize=4)
        return _svg(chart, f"curve-{key}", f"{label} by epoch") if drawn else ""


def scatter(points: Sequence[Point], cost: str, style: dict[int, int]) -> str:
    """Mean Dice against what it cost, with the SD over cases as a thin bar.

    Args:
        points: Arms with both numbers.
        cost: Label of the axis; "MACs" are shown with SI prefixes, anything else as durations.
        style: Places in the palette.
    """
    known = [p for p in points if math.isfinite(p.cost) and math.isfinite(p.dice)]
    if not known:
        return ""
    with rc_context(_RC):
        chart, axes = _axes(cost, "Mean Dice over cases")
        for point in known:
            colour, dash = _style(style.get(point.arm))
            if math.isfinite(point.deviation):
                low, high = point.dice - point.deviation, point.dice + point.deviation
                axes.plot([point.cost] * 2, [low, high], color=colour, lw=0.8, alpha=0.5)
            face = colour if dash == "-" else "none"
            axes.plot(point.cost, point.dice, "o", color=colour, mfc=face, mew=1.4, markersize=6)
            axes.annotate(
                str(point.arm),
                (point.cost, point.dice),
                xytext=(6, 3),
                textcoords="offset points",
                color=_TEXT,
                fontsize=8,
            )
        costs = [point.cost for point in known]
        if min(costs) > 0 and max(costs) / min(costs) > 10:
            axes.set_xscale("log")
        shown = amount if cost.startswith("MACs") else duration
        axes.xaxis.set_major_formatter(lambda value, _: shown(value) if value > 0 else "0")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.margins(x=0.12, y=0.08)
        return _svg(chart, "scatter", f"Mean Dice against {cost}")


def cost_of(arms: Sequence[Arm]) -> tuple[str, dict[int, float]]:
    """MACs by arm, or seconds per step where MACs do not tell the arms apart."""
    macs = {arm.number: mean(of_runs(arm, lambda r: r.macs)) for arm in arms}
    steps = {arm.number: mean(of_runs(arm, lambda r: r.seconds.get("step"))) for arm in arms}
    known = {value for value in macs.values() if math.isfinite(value)}
    times = any(map(math.isfinite, steps.values()))
    if len(known) > 1 or (known and not times):
        return "MACs of one patch", macs
    return "Median training step", steps


_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "medseg",
    "font.size": 8.5,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "axes.unicode_minus": True,
}


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    chart = Figure(figsize=_SIZE, layout="constrained")
    chart.patch.set_visible(False)
    axes = chart.add_subplot()
    axes.patch.set_visible(False)
    axes.set_xlabel(x)
    axes.set_title(y, loc="left", fontsize=9, color=_TEXT)
    axes.grid(axis="y", color=_RULE, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.tick_params(length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=x == "Epoch"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    return chart, axes


def _style(place: int | None) -> tuple[str, str]:
    if place is None:
        return _OTHER, "-"
    return _SERIES[place % _COLOURS], "-" if place < _COLOURS else "--"


def _series(history: Sequence[dict[str, float | None]], key: str) -> dict[float, float]:
    found = {number(row.get("epoch")): number(row.get(key)) for row in history}
    return {e: v for e, v in found.items() if math.isfinite(e) and math.isfinite(v)}


def _thinned(series: dict[float, float]) -> tuple[list[float], list[float]]:
    """At most about `_POINTS` points, the first and the last among them."""
    pairs = sorted(series.items())
    step = max(1, len(pairs) // _POINTS)
    kept = pairs[::step] + ([pairs[-1]] if (len(pairs) - 1) % step else [])
    return [epoch for epoch, _ in kept], [value for _, value in kept]


def _svg(chart: Figure, prefix: str, title: str) -> str:
    """The figure as an SVG element whose ids are its own and whose colours are the page's."""
    stream = io.StringIO()
    chart.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\s(width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    for drawn, shown in _PAGE.items():
        text = text.replace(drawn, shown)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).strip()
