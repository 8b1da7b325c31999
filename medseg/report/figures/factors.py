"""Figures of factors: differences of levels, means of two factors together, and variances."""

from collections.abc import Mapping, Sequence

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medseg.report.cells import percent
from medseg.report.figures.rows import IntervalRow, interval_rows
from medseg.report.figures.style import (
    OTHER,
    RC,
    SERIES,
    SMALL,
    TEXT,
    WIDTH,
    bare,
    digits_for,
    shortened,
    signed,
    svg,
)
from medseg.statistics import Contrast, Effect, VarianceSplit

_ROWS = 30  # levels in one figure
_COLUMNS = 10
_BAR, _LINE = 0.65, 0.19  # inches
_LETTERS = 20
_MAP = colormaps["cividis"]  # told apart without colours too
_PARTS = {"case": "cases", "fold": "folds", "seed": "seeds", "residual": "seed × case"}


def effects_figure(effects: Sequence[Effect], *, metric: str) -> str:
    """Every level against the first of its factor, with both intervals.

    Of more than 30 rows the first are drawn.

    Args:
        effects: Main effects; factors without a contrast are left out.
        metric: What differs.

    Returns:
        SVG, or nothing where no level has a difference.
    """
    known = [
        (effect, level.level, level.contrast)
        for effect in effects
        for level in effect.levels
        if level.contrast and level.contrast.estimate is not None
    ]
    if not known:
        return ""
    digits = digits_for([0.0, *(found.estimate or 0.0 for _, _, found in known)])
    rows: list[IntervalRow] = []
    headed: list[str] = []
    for effect, level, found in known:
        if effect.factor not in headed:
            headed.append(effect.factor)
            first = shortened(effect.levels[0].level, _LETTERS + 12)
            rows.append(IntervalRow(label=f"{effect.factor}, minus {first}", words=""))
        rows.append(_row(level, found, digits, SERIES[(len(headed) - 1) % len(SERIES)]))
    with rc_context(RC):
        return interval_rows(
            rows[:_ROWS],
            title=f"{metric} of each level minus that of the first",
            x_label=f"Difference in {metric}, averaged over the other factors",
            margin=None,
            spoken=f"Effect of each factor on {metric}",
        )


def interaction_figure(
    means: Mapping[tuple[str, str], float],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    titles: tuple[str, str],
    metric: str,
) -> str:
    """Means by the levels of two factors as a map with its numbers; hatched is not there.

    Args:
        means: (level of the rows, level of the columns) → mean.
        rows: Levels from top to bottom; of more than 30 the first are drawn.
        columns: Levels from left to right; of more than 10 the first are drawn.
        titles: Names of the factors, rows first.
        metric: What the means are of.

    Returns:
        SVG, or nothing without a mean.
    """
    rows, columns = rows[:_ROWS], columns[:_COLUMNS]
    shown = [means[r, c] for r in rows for c in columns if (r, c) in means]
    if not shown:
        return ""
    low, span = min(shown), (max(shown) - min(shown)) or 1.0
    with rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.95 + 0.32 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        bare(axes)
        axes.spines["bottom"].set_visible(False)
        axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                mean = means.get((row, column))
                share = None if mean is None else (mean - low) / span
                _square(axes, j, i, share, "" if mean is None else f"{mean:.3f}")
        letters = max(4, 54 // len(columns))
        axes.set_xticks(
            [j + 0.5 for j in range(len(columns))], [shortened(c, letters) for c in columns]
        )
        axes.set_yticks([i + 0.5 for i in range(len(rows))], [shortened(r, _LETTERS) for r in rows])
        axes.xaxis.tick_top()
        axes.set_title(f"{metric}: {titles[0]} by {titles[1]}", loc="left", fontsize=SMALL + 0.5)
        return svg(figure, f"{metric} by {titles[0]} and {titles[1]}")


def variance_figure(split: VarianceSplit) -> str:
    """The variance of a single value as one bar; SVG, or nothing where nothing varies."""
    shares = split.shares()
    if not shares:
        return ""
    with rc_context(RC):
        figure = Figure(figsize=(WIDTH, _BAR + _LINE * len(shares)))
        height = figure.get_figheight()
        axes = figure.add_axes((0.02, 1 - 0.52 / height, 0.96, 0.24 / height))
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_title("Variance of a single Dice value", loc="left", fontsize=SMALL + 0.5)
        left = 0.0
        for place, (name, share) in enumerate(shares.items()):
            colour = SERIES[place % len(SERIES)]
            axes.add_patch(Rectangle((left, 0), share, 1, color=colour, lw=0))
            left += share
            below = 1 - (_BAR + _LINE * place + 0.08) / height
            mark = Rectangle((0.02, below), 0.028, 0.09 / height, color=colour, lw=0)
            figure.add_artist(mark)
            text = f"{_PARTS[name]}  {percent(share)}"
            figure.text(0.065, below, text, fontsize=SMALL, color=TEXT)
        return svg(figure, "Where the variance lies")


def _row(level: str, found: Contrast, digits: int, colour: str) -> IntervalRow:
    return IntervalRow(
        label=f"   {shortened(level, _LETTERS + 12)}",
        words=signed(found.estimate or 0.0, digits),
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        case_low=found.case_low,
        case_high=found.case_high,
        colour=colour,
    )


def _square(axes: Axes, x: float, y: float, share: float | None, text: str) -> None:
    if share is None:
        axes.add_patch(Rectangle((x, y), 1, 1, fill=False, hatch="////", ec=OTHER, lw=0))
        return
    axes.add_patch(Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, color=to_hex(_MAP(share)), lw=0))
    ink = "#ffffff" if share < 0.55 else "#000000"
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=ink, fontsize=SMALL)
