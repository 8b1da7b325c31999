"""Every arm against the reference."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context

from medseg.report.figures.rows import IntervalRow, interval_rows
from medseg.report.figures.style import RC, SERIES, SOFT, digits_for, plain, shortened, signed

# A shape and a word besides the colour: the verdict is read without seeing colours.
_LOOKS = {
    "better": (SERIES[2], "^"),
    "worse": (SERIES[1], "v"),
    "equal": (SERIES[0], "s"),
    "undecided": (SOFT, "o"),
}


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """An arm minus the reference.

    Args:
        arm: Its number.
        label: Its name.
        estimate: Difference of means; NaN is not drawn.
        low: Lower end of the interval over runs and cases, None if unknown.
        high: Upper end of it.
        case_low: Lower end of the interval over cases for these trainings, None if unknown.
        case_high: Upper end of it.
        verdict: "better", "worse", "equal" or "undecided".
    """

    arm: int
    label: str
    estimate: float
    low: float | None
    high: float | None
    case_low: float | None
    case_high: float | None
    verdict: str


def forest(rows: Sequence[ForestRow], *, margin: float | None, metric: str, reference: str) -> str:
    """Differences to the reference with both intervals, in the order given.

    The thick bar is the interval over runs and cases, the thin one over cases alone, the shaded
    band what counts as equal. A mark is hollow where runs were not repeated.

    Args:
        rows: Arms.
        margin: What counts as equal, in units of the metric.
        metric: Its name, with its unit if it has one.
        reference: Label of the reference.
    """
    known = [row for row in rows if math.isfinite(row.estimate)]
    if not known:
        return ""
    typical = margin or statistics.median(abs(row.estimate) for row in known)
    digits = digits_for([-typical, typical])
    name = shortened(reference, 44)
    band = f"; shaded: ±{plain(margin)} counts as equal" if margin else ""
    with rc_context(RC):
        return interval_rows(
            [_row(row, digits) for row in known],
            title=f"{metric} minus that of {name}",
            x_label=f"Difference in {metric}{band}",
            margin=margin,
            spoken=f"{metric} of every arm minus that of {name}",
        )


def _row(row: ForestRow, digits: int) -> IntervalRow:
    colour, mark = _LOOKS.get(row.verdict, _LOOKS["undecided"])
    return IntervalRow(
        label=f"{row.arm}  {row.label}",
        words=signed(row.estimate, digits),
        verdict=row.verdict,
        estimate=row.estimate,
        low=row.low,
        high=row.high,
        case_low=row.case_low,
        case_high=row.case_high,
        colour=colour,
        mark=mark,
    )
