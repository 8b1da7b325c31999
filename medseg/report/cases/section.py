"""The section on cases: which are shown and why, their figures, pictures and lowest values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from medseg.formatting import fixed
from medseg.plotting import to_svg
from medseg.record.frame import case_means, frame
from medseg.report.arms import Arm
from medseg.report.cases.files import Opened, shown_run
from medseg.report.cases.pictures import Sheet, dice_of, kept_cases, sheet_of
from medseg.report.cases.viewer import Viewer, build_viewer
from medseg.report.figures.cases import case_by_case, distribution
from medseg.report.tables import Table, number, table, words

MOST_ARMS = 12
_CLASSES = 8  # with a figure of their own
_ROWS = 20
_PICTURE_BYTES = 8 * 2**20
# An artifact measure of a case: name for readers, group and key in its record.
_SCORES = (
    ("cycle-spin residual", "cycle_spin", "cycle_spin"),
    ("gain κ", "prediction", "gain"),
)


@dataclass(frozen=True, kw_only=True)
class CaseViews:
    """What `cases.html.j2` shows.

    Attributes:
        arms: Number and label of the arms that are shown.
        reference: Number of the arm that the cases were chosen by.
        distributions: One figure per class, Dice by case in every arm.
        by_case: Figures of the arms against the reference, case by case.
        worst: The cases with the lowest Dice.
        sheets: Cases with their pictures.
        missing: Chosen cases without any picture.
        viewer: The 3-D viewer; without data where there is none.
        notes: What was left out, and why.
    """

    arms: tuple[tuple[int, str], ...]
    reference: int
    distributions: tuple[Markup, ...]
    by_case: tuple[Markup, ...]
    worst: Table
    sheets: tuple[Sheet, ...]
    missing: tuple[Sheet, ...]
    viewer: Viewer
    notes: tuple[str, ...]

    @property
    def scripts(self) -> tuple[str, ...]:
        """Every text that may run; the page's policy names their hashes."""
        return self.viewer.scripts


def case_views(
    arms: Sequence[Arm], reference: int, chosen_arms: Sequence[int], *, budget_bytes: int
) -> CaseViews:
    """Chooses the cases, reads their files and draws them.

    Args:
        arms: All arms.
        reference: Number of the arm by which cases are chosen; only its dataset is shown.
        chosen_arms: Numbers of the arms that have a colour on the page; the reference and at
            most 11 of them are shown.
        budget_bytes: What the 3-D viewer may add to the page, NiiVue included.
    """
    base = next(arm for arm in arms if arm.number == reference)
    shown = _shown(arms, base, chosen_arms)
    values = frame({arm.number: arm.counted for arm in shown})
    means = case_means(values)
    dice = means.loc[means["metric"] == "dice"]
    choices = choose(dice, reference, artifact_scores(shown))
    sheets, opened, notes = _drawn(choices, shown)
    if not any(sheet.shots for sheet in sheets):
        sheets += [sheet_of(case, reasons, shown)[0] for case, reasons in kept_cases(shown).items()]
    viewer = build_viewer(
        {case: (found, _arms_of(case, shown)) for case, found in opened.items()},
        next((run.classes for arm in shown for run in arm.counted), []),
        budget_bytes=budget_bytes,
    )
    places = {arm: place for place, arm in enumerate(sorted(chosen_arms))}
    by_class = case_means(values, "class")
    line = case_by_case(dice, reference, places)
    return CaseViews(
        arms=tuple((arm.number, arm.label) for arm in shown),
        reference=reference,
        distributions=tuple(
            Markup(to_svg(distribution(of_class, name, places), f"Dice by case of {name}"))
            for name, of_class in by_class[by_class["metric"] == "dice"]
            .dropna()
            .groupby("class", sort=False)
        )[:_CLASSES],
        by_case=(Markup(to_svg(line, "Dice of each case in every arm")),) if line else (),
        worst=lowest_table(by_class, shown, reference),
        sheets=tuple(sheet for sheet in sheets if sheet.shots),
        missing=tuple(sheet for sheet in sheets if not sheet.shots),
        viewer=viewer,
        notes=(*_left_out(arms, base, chosen_arms, shown), *notes, *_unseen(viewer)),
    )


def choose(
    dice: pd.DataFrame, reference: int, scores: tuple[str, pd.DataFrame] | None = None
) -> dict[str, list[str]]:
    """The reference's worst, median and best case, the most disputed one, the most artificial one.

    The rule is fixed, so that nobody picks the pretty ones. Equal values are settled by the case's
    name.

    Args:
        dice: Columns arm, case and value.
        reference: Number of the arm.
        scores: Name of an artifact measure, and its value by arm and case.

    Returns:
        Case → every reason for which it is shown.
    """
    reasons: dict[str, list[str]] = {}
    table = dice.dropna().pivot(index="case", columns="arm", values="value").sort_index()
    if reference in table:
        ranked = pd.Series(table[reference]).dropna().sort_values(kind="stable").to_dict()
        cases, last = list(ranked), len(ranked) - 1
        for name, place in {"worst": 0, "median": last // 2, "best": last}.items():
            reason = f"{name} of the reference, Dice {fixed(ranked[cases[place]])}"
            reasons.setdefault(str(cases[place]), []).append(reason)
    low, high = table.min(axis=1), table.max(axis=1)
    if (high > low).to_numpy().any():
        case = str((high - low).idxmax())
        reason = f"arms differ most, Dice {low[case]:.3f} to {high[case]:.3f}"
        reasons.setdefault(case, []).append(reason)
    if scores is not None:
        name, values = scores
        order = values.sort_values(["value", "case", "arm"], ascending=[False, True, False])
        largest = order.to_dict("records")[0]
        reason = f"largest {name}, {largest['value']:.2g} in arm {largest['arm']}"
        reasons.setdefault(largest["case"], []).append(reason)
    return reasons


def artifact_scores(arms: Sequence[Arm]) -> tuple[str, pd.DataFrame] | None:
    """Cycle-spin residual of each case, mean over the runs of its arm; gain where there is none.

    Returns:
        Name of the measure, and columns arm, case, value; None if nothing was recorded.
    """
    for name, group, key in _SCORES:
        rows = [
            (arm.number, case.case, case.get(group, key))
            for arm in arms
            for run in arm.counted
            if run.artifacts
            for case in run.artifacts.cases
        ]
        found = pd.DataFrame(rows, columns=["arm", "case", "value"]).astype({"value": float})
        found = found.dropna()
        if not found.empty:
            return name, pd.DataFrame(
                found.groupby(["arm", "case"], as_index=False)["value"].mean()
            )
    return None


def lowest_table(means: pd.DataFrame, arms: Sequence[Arm], reference: int) -> Table:
    """At most 20 pairs of case and class, by the lowest Dice of any arm.

    HD95 is that of the arm with the lowest Dice, whose number stands below it.

    Args:
        means: Columns arm, metric, case, class and value, each the mean over the arm's runs.
        arms: Those shown.
        reference: Number of the arm.
    """
    numbers = [arm.number for arm in arms]

    def by_arm(metric: str) -> pd.DataFrame:
        own = means.loc[means["metric"] == metric]
        table = own.pivot(index=["case", "class"], columns="arm", values="value")
        return table.reindex(columns=numbers)

    found = by_arm("dice").dropna(how="all").sort_index()
    if found.empty:
        return table("", [])
    dice, far = found.to_numpy(float), by_arm("hd95_mm").reindex(found.index).to_numpy(float)
    rows = []
    for place in np.argsort(np.nanmin(dice, axis=1), kind="stable")[:_ROWS]:
        case, name = found.index.tolist()[place]
        worst = int(np.nanargmin(dice[place]))
        rows.append(
            {
                "Case": words(case),
                "Class": words(name),
                "Lowest Dice": number(float(dice[place, worst]), fixed, f"arm {numbers[worst]}"),
                "HD95": number(float(far[place, worst]), lambda value: fixed(value, 2)),
            }
            | {
                f"Arm {arm}": number(float(value), fixed)
                for arm, value in zip(numbers, dice[place], strict=True)
            }
        )
    more = len(found) - len(rows)
    caption = "Lowest Dice of any arm shown, mean over its runs; arms have their numbers above"
    units = {f"Arm {n}": "Dice, reference" if n == reference else "Dice" for n in numbers}
    return table(
        f"{caption}; {more} more not listed" if more else caption,
        rows,
        {"HD95": "mm, same arm", **units},
    )


def _shown(arms: Sequence[Arm], base: Arm, chosen: Sequence[int]) -> list[Arm]:
    """The reference first, then the chosen arms of its dataset."""
    others = [
        arm
        for arm in arms
        if arm.number in set(chosen)
        and arm is not base
        and arm.counted
        and arm.dataset == base.dataset
    ]
    return [arm for arm in [base, *others[: MOST_ARMS - 1]] if arm.counted]


def _drawn(
    choices: Mapping[str, Sequence[str]], arms: Sequence[Arm]
) -> tuple[list[Sheet], dict[str, Opened], list[str]]:
    """Sheets for as long as their pictures fit, the volumes behind them, what did not fit."""
    sheets: list[Sheet] = []
    volumes: dict[str, Opened] = {}
    notes: list[str] = []
    room = _PICTURE_BYTES
    for case, reasons in choices.items():
        sheet, opened = sheet_of(case, reasons, arms)
        room -= sum(len(shot.drawn.png) for shot in sheet.shots if shot.drawn)
        if room < 0:
            notes.append(f"Pictures of {case} are left out to keep this file small.")
            continue
        sheets.append(sheet)
        if opened:
            volumes[case] = opened
    return sheets, volumes, notes


def _arms_of(case: str, arms: Sequence[Arm]) -> dict[int, str]:
    """Arm → its name and Dice, as the viewer lists them."""
    return {
        arm.number: f"{arm.label}, {dice_of(found[0], case, classes=False)}"
        for arm in arms
        if (found := shown_run(arm, case))
    }


def _left_out(
    arms: Sequence[Arm], base: Arm, chosen: Sequence[int], shown: Sequence[Arm]
) -> list[str]:
    counted = [arm for arm in arms if arm.counted and arm.dataset == base.dataset]
    notes = []
    if len(counted) > len(shown):
        notes.append(f"{len(shown)} of {len(counted)} arms are shown: the reference and the best.")
    if any(arm.number in set(chosen) and arm.dataset != base.dataset for arm in arms):
        notes.append(f"Only cases of {base.dataset or 'the first dataset'} are shown.")
    return notes


def _unseen(viewer: Viewer) -> list[str]:
    if not viewer.left_out:
        return []
    return [f"Not in the 3-D viewer, to keep this file small: {', '.join(viewer.left_out)}."]
