"""What stands in the way of verdicts: arms that scatter, cases that stand out, too few of both."""

import math
from typing import Any

import numpy as np

from medseg.formatting import MISSING, counted, p_value, percent, signed, significant
from medseg.report.page import Note, Section
from medseg.report.study import PRIMARY, Study
from medseg.report.tables import Cell, Table, arm_cell, number, table, words
from medseg.statistics import needed_for
from medseg.statistics.contrast import differences

ROWS = 20
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
        "Arms whose trainings scatter": [scattering_table(study), *_cost_to_others(study)],
        "Cases that stand out": [outliers_table(study)],
        "What would decide it": [needed := needed_table(study), Note(_SIZES if needed else "")],
    }
    return [Section(title, parts) for title, parts in found.items() if any(parts)]


def needed_table(study: Study) -> Table:
    """The seeds and cases that each undecided arm lacks."""
    observations, compared = study.observations[PRIMARY], study.by()
    arms = {arm.number: arm for arm in study.arms}
    undecided = compared[(compared["verdict"] == "undecided") & compared["low"].notna()]
    rows = []
    shown: list[Any] = [*undecided.head(ROWS).itertuples()]
    for one in shown:
        sizes = needed_for(
            observations,
            int(one.arm),
            study.reference.number,
            difference=float(one.estimate),
            margin=study.margin,
            comparisons=len(compared),
        )
        seeds, cases = min(one.seeds, one.reference_seeds), int(one.cases)
        row = {"Arm": arm_cell(arms[int(one.arm)]), "Δ Dice": number(one.estimate, signed)}
        for what, size in zip(("", ", equal"), sizes, strict=True):
            row |= {
                f"Seeds{what}": _more(size.seeds, seeds),
                f"Cases{what}": _more(size.cases, cases),
                f"Both{what}": _both(size.both),
            }
        rows.append(row)
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


def scattering_table(study: Study) -> Table:
    """How far the trainings of these arms differ, and what their own spread costs them.

    Of the reference it is what it costs the first arm.
    """
    observations, reference = study.observations[PRIMARY], study.reference.number
    trainings, arms = observations.trainings, {arm.number: arm for arm in study.arms}
    if trainings is None:
        return table("", [])
    rows = []
    for arm in scattering_arms(study):
        place = observations.arms.index(arm)
        first = int(study.by()["arm"].iloc[0]) if arm == reference else arm
        own, alike = (
            differences(observations, {first: 1.0, reference: -1.0}, alike=alike).uncertainty
            for alike in (False, True)
        )
        rows.append(
            {
                "Arm": arm_cell(arms[arm]),
                "SD": _number(
                    math.sqrt(trainings.own[place].value),
                    "" if place in trainings.apart else "may be luck: another seed would tell",
                ),
                "df": Cell(str(trainings.own[place].df), trainings.own[place].df),
                "SD of the others": _number(math.sqrt(trainings.others[place])),
                "±": _number(
                    own and own.half_width(),
                    f"of {arms[first].label}" if first != arm else "",
                ),
                "± if pooled": _number(alike and alike.half_width()),
            }
        )
    units = {"SD": "of Dice, by training", "±": "95 %, by its own spread"}
    return table("Arms that are judged by the spread of their own trainings", rows, units)


def _cost_to_others(study: Study) -> list[str]:
    """What the arms that left the pool would cost the others in it."""
    trainings = study.observations[PRIMARY].trainings
    if trainings is None or not trainings.apart:
        return []
    own = [trainings.own[place] for place in trainings.apart]
    total = trainings.pool.df + sum(spread.df for spread in own)
    value = sum(spread.value * spread.df for spread in [trainings.pool, *own]) / total
    wider = math.sqrt(value / trainings.pool.value) if trainings.pool.value else math.inf
    return [
        f"{counted(len(own), 'arm')} left out of the pooled spread of trainings; otherwise all "
        f"others would be judged by a spread {significant(wider)} times as wide."
    ]


def outliers_table(study: Study) -> Table:
    """Cases that stand out, and what they do to the difference."""
    observations, reference = study.observations[PRIMARY], study.reference.number
    arms = {arm.number: arm for arm in study.arms}
    compared = study.by().set_index("arm")
    rows = []
    for case, arm in ((c, n) for c, found in outlying_cases(study).items() for n in found):
        pair = differences(observations, {arm: 1.0, reference: -1.0})
        own = float(pair.values[list(pair.names).index(case)])
        off = own - pair.values.mean()
        share = float(off**2 / ((pair.values - pair.values.mean()) ** 2).sum())
        rows.append(
            {
                "Case": words(case),
                "Arm": arm_cell(arms[arm]),
                "Δ Dice": number(own, signed),
                "Median Δ": number(float(np.median(pair.values)), signed),
                "Share": number(share, percent),
                "p": number(compared.at[arm, "p_holm"], p_value),
                "p trimmed": number(compared.at[arm, "trimmed_holm"], p_value),
            }
        )
    units = {"Median Δ": "of all cases", "Share": "of the variance over cases"}
    return table("Cases whose difference to the reference stands out", rows, units)


def _number(value: float | None, note: str = "") -> Cell:
    return number(value, significant, note)


def _more(size: int | None, now: int) -> Cell:
    if size is None:
        return Cell(MISSING, note="not alone")
    more = size - now
    return Cell(str(size), size, f"{more} more" if more > 0 else "as now")


def _both(size: tuple[int, int] | None) -> Cell:
    if size is None:
        return Cell(MISSING)
    return Cell(f"{size[0]} × {size[1]}", math.prod(size))
