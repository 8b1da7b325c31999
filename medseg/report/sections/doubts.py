"""What stands in the way of verdicts: arms that scatter, cases that stand out, too few of both."""

import math
from typing import Any

import numpy as np

from medseg.formatting import MISSING, counted, p_value, percent, signed, significant
from medseg.report.page import Note, Section
from medseg.report.study import PRIMARY, Study
from medseg.report.tables import Cell, Table, arm_cell, number, table
from medseg.statistics import needed_for
from medseg.statistics.contrast import differences

LINES = 8
ROWS = 20
_LEVEL = 0.95
_SIZES = (
    "Sizes that reach the verdict with 80 % power, simulated from the spreads of trainings and of "
    "cases of this study, by its own rules; the difference is taken to be the one seen, or 0 for "
    "equality, and p is corrected for all arms. “both”: seeds and cases in the proportion that "
    "they have now. Seeds are those of every arm. The components are estimates: with few seeds the "
    "sizes may be off by half."
)


def doubts(study: Study) -> list[Section]:
    """Sections on the verdicts by Dice; an empty one is left out."""
    found = {
        "Arms whose trainings scatter": [_scattering(study)],
        "Cases that stand out": [_outliers(study)],
    }
    sections = [Section(title, parts) for title, parts in found.items() if any(parts)]
    needed = needed_table(study)
    return sections + ([Section("What would decide it", [needed, Note(_SIZES)])] if needed else [])


def needed_table(study: Study) -> Table:
    """The seeds and cases that each undecided arm lacks."""
    observations, compared = study.observations[PRIMARY], study.by()
    arms = {arm.number: arm for arm in study.arms}
    undecided = compared[(compared["verdict"] == "undecided") & compared["low"].notna()]
    rows = []
    shown: list[Any] = [*undecided.head(ROWS).itertuples()]
    for one in shown:
        size = needed_for(
            observations,
            int(one.arm),
            study.reference.number,
            difference=float(one.estimate),
            margin=study.margin,
            comparisons=len(compared),
        )
        seeds, cases = min(one.seeds, one.reference_seeds), int(one.cases)
        rows.append(
            {
                "Arm": arm_cell(arms[int(one.arm)]),
                "Δ Dice": number(one.estimate, signed),
                "Seeds": _more(size.find_seeds, seeds),
                "Cases": _more(size.find_cases, cases),
                "Both": _both(size.find_both),
                "Seeds, equal": _more(size.equal_seeds, seeds),
                "Cases, equal": _more(size.equal_cases, cases),
                "Both, equal": _both(size.equal_both),
            }
        )
    left = len(undecided) - len(rows)
    return table(
        "What would decide the undecided arms" + (f"; {left} more are not shown" if left else ""),
        rows,
        {
            "Seeds": "to find Δ, these cases",
            "Cases": "to find Δ, these seeds",
            "Both": "to find Δ",
            "Seeds, equal": f"within ±{study.margin:g}",
            "Cases, equal": f"within ±{study.margin:g}",
            "Both, equal": f"within ±{study.margin:g}",
        },
    )


def outlying_cases(study: Study) -> dict[str, list[int]]:
    """Case → the arms in whose Dice differences to the reference it stands out."""
    found: dict[str, list[int]] = {}
    compared: list[Any] = [*study.by().itertuples()]
    for one in compared:
        for case in filter(None, str(one.outliers).split("; ")):
            found.setdefault(case, []).append(int(one.arm))
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def scattering_arms(study: Study) -> list[int]:
    """Arms that are judged by their own spread, those that stand out first."""
    observations = study.observations[PRIMARY]
    trainings = observations.trainings
    if trainings is None:
        return []
    order = sorted(
        trainings.alone,
        key=lambda place: (place not in trainings.apart, -trainings.own[place].value),
    )
    return [observations.arms[place] for place in order]


def _scattering(study: Study) -> list[str]:
    observations = study.observations[PRIMARY]
    trainings, arms = observations.trainings, scattering_arms(study)
    if trainings is None or not arms:
        return []
    lines = []
    if trainings.apart:
        own = [trainings.own[place] for place in trainings.apart]
        total = trainings.pool.df + sum(spread.df for spread in own)
        value = sum(spread.value * spread.df for spread in [trainings.pool, *own]) / total
        wider = math.sqrt(value / trainings.pool.value) if trainings.pool.value else math.inf
        lines.append(
            f"{counted(len(own), 'arm')} left out of the pooled spread of trainings; otherwise all "
            f"others would be judged by a spread {significant(wider)} times as wide."
        )
    for arm in arms[:LINES]:
        place = observations.arms.index(arm)
        spread, others = trainings.own[place], trainings.others[place]
        luck = "" if place in trainings.apart else ", which may be luck: another seed would tell"
        lines.append(
            f"{study.labels([arm])[0]}: its trainings differ by "
            f"{significant(math.sqrt(spread.value))} (SD of Dice, {counted(spread.df, 'degree')} "
            f"of freedom), those of the other arms by {significant(math.sqrt(others))}{luck}. "
            f"{_cost(study, arm)}"
        )
    return [*lines, *_rest(len(arms))]


def _cost(study: Study, arm: int) -> str:
    """What its own spread does to its interval; of the reference, to that of the first arm."""
    reference = study.reference.number
    first = int(study.by()["arm"].iloc[0]) if arm == reference else arm
    now, alike = (
        differences(
            study.observations[PRIMARY], {first: 1.0, reference: -1.0}, alike=alike
        ).uncertainty
        for alike in (False, True)
    )
    if now is None or alike is None:
        return "Judged by its own spread."
    ends = [significant(known.half_width(_LEVEL)) for known in (now, alike)]
    whose = f"that of {study.labels([first])[0]}" if arm == reference else "its interval"
    return f"Judged by its own spread, {whose} is ±{ends[0]}, not ±{ends[1]}."


def _outliers(study: Study) -> list[str]:
    rows: list[Any] = [*study.by().itertuples()]
    compared = {int(one.arm): one for one in rows}
    cases, lines = outlying_cases(study), []
    for case, arms in list(cases.items())[:LINES]:
        parts = []
        for arm in arms[:3]:
            one = compared[arm]
            pair = differences(
                study.observations[PRIMARY], {arm: 1.0, study.reference.number: -1.0}
            )
            place = list(pair.names).index(case)
            squares = (pair.values - pair.values.mean()) ** 2
            parts.append(
                f"{study.labels([arm])[0]}: {signed(float(pair.values[place]))} beside a median of "
                f"{signed(float(np.median(pair.values)))}, "
                f"{percent(float(squares[place] / squares.sum()))} of the variance over cases; "
                f"p {_p(one.p_holm)}, of trimmed means {_p(one.trimmed_holm)}"
            )
        more = f"; and {counted(len(arms) - 3, 'more arm')}" if len(arms) > 3 else ""
        lines.append(f"{case} in {'; '.join(parts)}{more}. Look at it before you read the table.")
    return [*lines, *_rest(len(cases))]


def _rest(count: int) -> list[str]:
    return [f"And {count - LINES} more."] if count > LINES else []


def _p(value: float | None) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _more(size: int | None, now: int) -> Cell:
    if size is None:
        return Cell(MISSING, note="not alone")
    more = size - now
    return Cell(str(size), size, f"{more} more" if more > 0 else "as now")


def _both(size: tuple[int, int] | None) -> Cell:
    if size is None:
        return Cell(MISSING)
    return Cell(f"{size[0]} × {size[1]}", math.prod(size))
