"""The verdicts as tables, as rows of a figure, and as tidy values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from medseg.report.arm import Arm
from medseg.report.cells import (
    NOTHING,
    Cell,
    Column,
    Row,
    Table,
    chance,
    counted,
    fixed,
    interval,
    percent,
    signed,
    words,
)
from medseg.report.measures import DIGITS
from medseg.report.studies import Study, Verdicts
from medseg.statistics import Comparison

FOREST_ROWS = 40
WORDS = ("better", "worse", "equal", "undecided")
_UNITS = {"hd95_mm": "mm"}


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """An arm minus the reference, as `figures.forest` draws it."""

    arm: int
    label: str
    estimate: float
    low: float | None
    high: float | None
    case_low: float | None
    case_high: float | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Rows of a figure, in the order of their estimates, and how many stand for how many."""

    rows: tuple[ForestRow, ...]
    total: int

    @property
    def said(self) -> str:
        """What the figure leaves out; empty if nothing."""
        if len(self.rows) == self.total:
            return ""
        return (
            f"{len(self.rows)} of {self.total} arms are drawn: the best, the worst, and those "
            "nearest to the reference. The table has all."
        )


def verdict_table(study: Study, verdicts: Verdicts) -> Table:
    """One row per arm, best first, the reference at its place."""
    unit = _UNITS.get(verdicts.metric, "")
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="verdict", title="Verdict", unit="and why"),
        Column(
            key="difference",
            title=f"Δ {verdicts.title}",
            unit=f"{f'{unit}, ' if unit else ''}95 % over runs and cases",
            numeric=True,
        ),
        Column(key="cases_only", title="95 % over cases", unit="these trainings", numeric=True),
        Column(key="p", title="p", unit="runs and cases, Holm", numeric=True),
        Column(key="tost", title="p equal", unit="TOST", numeric=True),
        Column(key="wilcoxon", title="p Wilcoxon", unit="cases only, Holm", numeric=True),
        Column(key="effect", title="d", unit="of case differences", numeric=True),
        Column(key="superiority", title="Cases won", unit="ties half", numeric=True),
        Column(key="best", title="P(best)", numeric=True),
        Column(key="seeds", title="Seeds", unit="arm, reference", numeric=True),
        Column(key="cases", title="Cases", unit="shared", numeric=True),
    )
    labels = {arm.number: arm.label for arm in study.arms}
    rows = [_row(verdicts, found, labels) for found in verdicts.comparisons]
    place = sum(_gain(found, verdicts) > 0 for found in verdicts.comparisons)
    rows.insert(place, _reference_row(study, verdicts))
    return Table(
        caption=f"{verdicts.title}: every arm minus the reference",
        columns=columns,
        rows=tuple(rows),
    )


def forest_rows(study: Study, verdicts: Verdicts) -> Chosen:
    """The comparisons to draw: all, or the best, the worst and those nearest to the reference."""
    known = [found for found in verdicts.comparisons if found.estimate is not None]
    places = _picked(known, FOREST_ROWS)
    labels = {arm.number: arm.label for arm in study.arms}
    rows = tuple(
        ForestRow(
            arm=found.arm,
            label=labels[found.arm],
            estimate=math.nan if found.estimate is None else found.estimate,
            low=found.low,
            high=found.high,
            case_low=found.case_low,
            case_high=found.case_high,
            verdict=found.verdict,
        )
        for found in (known[place] for place in places)
    )
    return Chosen(rows=rows, total=len(known))


def verdict_counts(verdicts: Verdicts) -> dict[str, list[Comparison]]:
    """Verdict → the comparisons that came to it, best first."""
    return {
        word: [found for found in verdicts.comparisons if found.verdict == word] for word in WORDS
    }


def comparisons_frame(studies: Sequence[Study]) -> pd.DataFrame:
    """All comparisons in tidy form: one row per dataset × metric × arm but the reference."""
    rows = []
    for study in studies:
        labels = {arm.number: arm for arm in study.arms}
        for metric, verdicts in study.verdicts.items():
            for found in verdicts.comparisons:
                rows.append(
                    {"dataset": study.dataset, "metric": metric}
                    | _names(labels[found.arm], study.reference.arm)
                    | {k: v for k, v in asdict(found).items() if k not in _NAMED}
                    | {
                        "probability_best": verdicts.best.get(found.arm),
                        "left_out": found.left_out.get(found.arm, 0),
                        "left_out_reference": found.left_out.get(found.reference, 0),
                    }
                )
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["dataset", "metric", "arm"])


_NAMED = ("arm", "reference", "left_out")


def _names(arm: Arm, reference: Arm) -> dict[str, object]:
    return {
        "number": arm.number,
        "arm": arm.label,
        "reference": reference.label,
        **{f"level {factor}": level for factor, level in arm.levels.items()},
    }


def _gain(found: Comparison, verdicts: Verdicts) -> float:
    sign = 1.0 if verdicts.higher_is_better else -1.0
    return -math.inf if found.estimate is None else sign * found.estimate


def _row(verdicts: Verdicts, found: Comparison, labels: Mapping[int, str]) -> Row:
    digits = DIGITS[verdicts.metric]
    cells = (
        words(labels[found.arm]),
        Cell(text=found.verdict, value=found.verdict, note=found.reason),
        _difference(found, digits),
        Cell(
            text=interval(found.case_low, found.case_high, digits) or NOTHING,
            value=found.case_low,
            note="" if found.case_low is not None else "< 8 cases",
        ),
        chance(found.p_holm),
        chance(found.equivalence_p),
        chance(found.wilcoxon_holm, note=_least(found)),
        _effect_size(found.effect_size),
        _percent(found.superiority),
        _best(verdicts.best.get(found.arm)),
        Cell(text=f"{found.seeds}, {found.reference_seeds}", value=found.seeds),
        Cell(text=str(found.cases), value=found.cases, note=_left_out(found)),
    )
    return Row(arm=found.arm, cells=cells)


def _reference_row(study: Study, verdicts: Verdicts) -> Row:
    arm, none = study.reference.arm, Cell(text="–")
    seen = verdicts.observations
    seeds, cases = seen.seeds(arm.number), len(seen.cases(arm.number))
    cells = (
        words(arm.label),
        Cell(text="reference", value="reference", note=study.reference.why),
        Cell(text=fixed(0.0, DIGITS[verdicts.metric]), value=0.0),
        *[none] * 6,
        _best(verdicts.best.get(arm.number)),
        Cell(text=str(seeds), value=seeds),
        Cell(text=str(cases), value=cases),
    )
    return Row(arm=arm.number, cells=cells)


def _difference(found: Comparison, digits: int) -> Cell:
    if found.estimate is None:
        return Cell(text=NOTHING)
    note = interval(found.low, found.high, digits) or "interval unknown"
    return Cell(text=signed(found.estimate, digits), value=found.estimate, note=note)


def _least(found: Comparison) -> str:
    return f"least {found.least_p:.2g}" if found.least_p > 1e-3 else ""


def _left_out(found: Comparison) -> str:
    gone = sum(found.left_out.values())
    return f"{counted(gone, 'case')} of one arm only, left out" if gone else ""


def _effect_size(value: float | None) -> Cell:
    if value is None:
        return Cell(text=NOTHING)
    return Cell(text=signed(value, 2 if abs(value) < 10 else 0), value=value)


def _percent(value: float | None) -> Cell:
    if value is None:
        return Cell(text=NOTHING)
    return Cell(text=percent(value), value=value)


def _best(value: float | None) -> Cell:
    """Draws that an arm never won do not show that it cannot win."""
    return Cell(text="< 1 %", value=value) if value == 0 else _percent(value)


def _picked(ranked: Sequence[Comparison], most: int) -> list[int]:
    """Places in a ranking: all, or a quarter from each end and the rest nearest to 0."""
    if len(ranked) <= most:
        return list(range(len(ranked)))
    quarter = most // 4
    ends = {*range(quarter), *range(len(ranked) - quarter, len(ranked))}
    middle = [place for place in range(len(ranked)) if place not in ends]
    middle.sort(key=lambda place: abs(ranked[place].estimate or 0.0))
    return sorted(ends | set(middle[: most - len(ends)]))
