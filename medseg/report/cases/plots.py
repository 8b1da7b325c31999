"""Dice of single cases as figures: how it is spread, and where arms part from the reference."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medseg.report.arm import Arm
from medseg.report.cases.values import CaseValues
from medseg.report.figures.style import (
    OTHER,
    RC,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    WIDTH,
    bare,
    chart,
    plain,
    shortened,
    stroke,
    svg,
)

MOST_CASES = 60
_CLASSES = 8
_PITCH, _EDGE = 0.2, 0.75  # inches
_LETTERS = 44


def distributions(
    arms: Sequence[Arm], values: CaseValues, style: Mapping[int, int]
) -> dict[str, str]:
    """Class → SVG with a row per arm: every case a dot, the quartiles a box, the median a line.

    At most 8 classes. Beyond `MOST_CASES` cases the dots are quantiles, the extremes among them.
    """
    found = {arm.number: values.by_class("dice", arm.number) for arm in arms}
    names = dict.fromkeys(name for classes in found.values() for name in classes)
    drawn = {}
    for name in list(names)[:_CLASSES]:
        of_class = {arm: classes.get(name) for arm, classes in found.items()}
        spread = {arm: sorted(cases.values()) for arm, cases in of_class.items() if cases}
        drawn[name] = _spread(name, spread, style)
    return drawn


def case_by_case(
    arms: Sequence[Arm], values: CaseValues, reference: int, style: Mapping[int, int]
) -> str:
    """SVG with the reference's cases from the hardest to the easiest, every arm a dot per case.

    The line is the reference. Beyond `MOST_CASES` cases, that many are shown, evenly through the
    order. Nothing where no other arm shares a case with the reference.
    """
    base = values.by_case("dice", reference)
    others = {
        arm.number: dice
        for arm in arms
        if arm.number != reference and set(dice := values.by_case("dice", arm.number)) & set(base)
    }
    if not others:
        return ""
    ranked = sorted(base, key=lambda case: (base[case], case))
    cases = [ranked[place] for place in _evenly(len(ranked))]
    with rc_context(RC):
        figure, axes = chart(f"Cases by their Dice in arm {reference}", "Dice by case")
        ends = {0: "hardest", len(cases) - 1: "easiest"} if len(cases) > 1 else {0: cases[0]}
        axes.set_xticks(list(ends), labels=list(ends.values()))
        for arm, dice in others.items():
            places = [place for place, case in enumerate(cases) if case in dice]
            _dots(axes, places, [dice[cases[place]] for place in places], style.get(arm))
        line = [base[case] for case in cases]
        axes.plot(range(len(cases)), line, color=TEXT, lw=1.3, marker="_", markersize=5, zorder=4)
        return svg(figure, f"Dice of each case in every arm, sorted by arm {reference}")


def _spread(name: str, spread: Mapping[int, Sequence[float]], style: Mapping[int, int]) -> str:
    with rc_context(RC):
        figure = Figure(figsize=(WIDTH, _EDGE + _PITCH * len(spread)), layout="constrained")
        axes = figure.add_subplot()
        bare(axes)
        axes.set_title(shortened(name, _LETTERS), loc="left", fontsize=SMALL + 0.5)
        axes.set_xlabel("Dice by case")
        axes.grid(axis="x", color=RULE, lw=0.6)
        axes.xaxis.set_major_formatter(lambda value, _: plain(value))
        axes.set_yticks(range(len(spread)), labels=[str(arm) for arm in spread])
        axes.set_ylim(len(spread) - 0.4, -0.6)
        for row, (arm, dice) in enumerate(spread.items()):
            low, median, high = np.percentile(dice, (25, 50, 75))
            axes.plot([low, high], [row] * 2, color=OTHER, lw=7, alpha=0.55, solid_capstyle="butt")
            shown = [dice[place] for place in _evenly(len(dice))]
            _dots(axes, shown, [row] * len(shown), style.get(arm))
            ends = [row - 0.36, row + 0.36]
            axes.plot([median] * 2, ends, color=TEXT, lw=1.6, zorder=4, solid_capstyle="butt")
        axes.tick_params(axis="y", labelcolor=SOFT)
        return svg(figure, f"Dice by case of {name}, one row per arm")


def _dots(axes: Axes, x: Sequence[float], y: Sequence[float], place: int | None) -> None:
    """Full dots are points of one broken line, which an SVG holds in a tenth of the bytes."""
    colour, dash = stroke(place)
    if dash != "-":
        axes.plot(x, y, "o", color=colour, mfc="none", mew=0.8, markersize=3.2, alpha=0.75)
        return
    gap = [np.nan] * len(x)
    xs, ys = (np.column_stack([v, v, gap]).ravel() for v in (x, y))
    (line,) = axes.plot(xs, ys, "-", color=colour, lw=4, alpha=0.75, solid_capstyle="round")
    line.get_path().should_simplify = False


def _evenly(count: int) -> list[int]:
    """At most `MOST_CASES` places from 0 to `count - 1`, both ends among them."""
    if count <= MOST_CASES:
        return list(range(count))
    return np.linspace(0, count - 1, MOST_CASES).round().astype(int).tolist()
