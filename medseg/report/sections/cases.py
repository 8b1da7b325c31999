"""Single cases: how they spread, which are shown and why, the same slices in every arm."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from medseg.formatting import fixed
from medseg.record.frame import case_means
from medseg.report.arms import Arm
from medseg.report.cases.files import Opened, shown_run
from medseg.report.cases.pictures import Sheet, dice_of, kept_cases, sheet_of
from medseg.report.cases.viewer import build_viewer
from medseg.report.figures.cases import distribution
from medseg.report.page import Figure, Html, Note, Section, environment
from medseg.report.study import PRIMARY, ReportData
from medseg.report.tables import Table, number, table, words

MOST_ARMS = 12
_CLASSES = 8  # with a figure of their own
_ROWS = 20
_PICTURE_BYTES = 8 * 2**20
_VIEWER_BYTES = 8 * 2**20
# An artifact measure of a case: name for readers, group and key in its record.
_SCORES = (
    ("cycle-spin residual", "cycle_spin", "cycle_spin"),
    ("gain κ", "prediction", "gain"),
)
_NOTE = (
    "Every dot is a case, the mean over the runs of its arm; the box spans the quartiles, the bar "
    "is the median. Of more than 60 cases, 60 are drawn, evenly through the order with both ends."
)


def cases(data: ReportData) -> Section:
    """The cases of the first dataset that has a result: the reference's, and of at most 11 arms."""
    base = data.studies[0].reference if data.studies else data.arms[0]
    arms, left_out = shown_arms(data, base)
    values = data.frame.loc[data.frame["arm"].isin([arm.number for arm in arms])]
    means, by_class = case_means(values), case_means(values, "class")
    dice = means.loc[means["metric"] == PRIMARY].dropna()
    of_class = by_class.loc[by_class["metric"] == PRIMARY].dropna()
    choices = choose(dice, base.number, artifact_scores(arms))
    sheets, volumes, too_large = draw_cases(choices, arms, values)
    viewer = build_viewer(
        {case: (opened, _arms_of(case, arms, values)) for case, opened in volumes.items()},
        next((run.labelling.value_names for arm in arms for run in arm.counted), []),
        budget_bytes=_VIEWER_BYTES,
    )
    notes = [*left_out, *too_large]
    if viewer.left_out:
        unseen = ", ".join(viewer.left_out)
        notes.append(f"Not in the 3-D viewer, to keep this file small: {unseen}.")
    figures = [
        Figure(distribution(own, name, data.style), f"Dice by case of {name}")
        for name, own in of_class.groupby("class", sort=False)
    ][:_CLASSES]
    nothing = "No finished run has a Dice value of a single case."
    page = environment().get_template("cases.html.j2")
    shown = Markup(page.render(sheets=sheets, viewer=viewer))
    parts = [figures, Note(_NOTE)] if any(figures) else [nothing]
    return Section(
        "Cases",
        [
            *parts,
            *map(Note, notes),
            Html(shown, viewer.scripts),
            lowest_table(by_class, arms, base.number),
        ],
        key="cases",
        legend=any(figures),
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


def shown_arms(data: ReportData, base: Arm) -> tuple[list[Arm], list[str]]:
    """The arm `base`, then the coloured ones of its dataset; and in words what is left out."""
    own = [arm for arm in data.arms if arm.counted and arm.dataset == base.dataset]
    first = [base] if base.counted else []
    others = [arm for arm in own if arm.number in data.style and arm is not base]
    shown, notes = [*first, *others[: MOST_ARMS - 1]], []
    if len(own) > len(shown):
        notes.append(f"{len(shown)} of {len(own)} arms are shown: the reference and the best.")
    if any(arm.number in data.style and arm.dataset != base.dataset for arm in data.arms):
        notes.append(f"Only cases of {base.dataset or 'the first dataset'} are shown.")
    return shown, notes


def draw_cases(
    choices: Mapping[str, Sequence[str]], arms: Sequence[Arm], values: pd.DataFrame
) -> tuple[list[Sheet], dict[str, Opened], list[str]]:
    """Draws chosen cases for as long as their pictures fit.

    Where not one can be drawn, cases follow of which the records kept a picture.

    Returns:
        A sheet of each case, the volumes behind them, and in words what did not fit.
    """
    sheets: list[Sheet] = []
    volumes: dict[str, Opened] = {}
    notes: list[str] = []
    room = _PICTURE_BYTES
    for case, reasons in choices.items():
        sheet, opened = sheet_of(case, reasons, arms, values)
        room -= sum(len(shot.png) for shot in sheet.shots)
        if room < 0:
            notes.append(f"Pictures of {case} are left out to keep this file small.")
            continue
        sheets.append(sheet)
        if opened:
            volumes[case] = opened
    if not any(sheet.shots for sheet in sheets):
        kept = kept_cases(arms).items()
        sheets += [sheet_of(case, reasons, arms, values)[0] for case, reasons in kept]
    return sheets, volumes, notes


def _arms_of(case: str, arms: Sequence[Arm], values: pd.DataFrame) -> dict[int, str]:
    """Arm → its name and Dice, as the viewer lists them."""
    return {
        arm.number: f"{arm.label}, {dice_of(found[0], case, values, classes=False)}"
        for arm in arms
        if (found := shown_run(arm, case))
    }
