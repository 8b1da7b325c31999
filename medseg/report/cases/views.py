"""The section on cases as plain data for its template."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medseg.report.arm import Arm
from medseg.report.cases.choice import Choice, choose
from medseg.report.cases.opened import Opened, shown_run
from medseg.report.cases.plots import case_by_case, distributions
from medseg.report.cases.sheets import Sheet, kept_cases, said_dice, sheet_of
from medseg.report.cases.values import CaseValues, artifact_scores
from medseg.report.cases.viewer import Candidate, Viewer, build_viewer
from medseg.report.cases.worst import worst_table
from medseg.report.cells import Table

MOST_ARMS = 12
_PICTURE_BYTES = 8 * 2**20


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
    values = CaseValues(shown)
    dice = {arm.number: values.by_case("dice", arm.number) for arm in shown}
    choices = choose(dice.get(reference, {}), dice, artifact_scores(shown))
    sheets, opened, notes = _drawn(choices, shown)
    if not any(sheet.shots for sheet in sheets):
        sheets += [sheet_of(choice, shown)[0] for choice in kept_cases(shown)]
    viewer = build_viewer(
        [_candidate(case, found, shown) for case, found in opened.items()],
        next((run.record.classes for arm in shown for run in arm.counted), []),
        budget_bytes=budget_bytes,
    )
    style = {arm: place for place, arm in enumerate(sorted(chosen_arms))}
    line = case_by_case(shown, values, reference, style)
    return CaseViews(
        arms=tuple((arm.number, arm.label) for arm in shown),
        reference=reference,
        distributions=tuple(map(Markup, distributions(shown, values, style).values())),
        by_case=(Markup(line),) if line else (),
        worst=worst_table(shown, values, reference),
        sheets=tuple(sheet for sheet in sheets if sheet.shots),
        missing=tuple(sheet for sheet in sheets if not sheet.shots),
        viewer=viewer,
        notes=(*_left_out(arms, base, chosen_arms, shown), *notes, *_unseen(viewer)),
    )


def _shown(arms: Sequence[Arm], base: Arm, chosen: Sequence[int]) -> list[Arm]:
    """The reference first, then the chosen arms of its dataset."""
    wanted = dict.fromkeys(chosen)
    others = [
        arm
        for arm in arms
        if arm.number in wanted and arm is not base and arm.counted and arm.dataset == base.dataset
    ]
    return [arm for arm in [base, *others[: MOST_ARMS - 1]] if arm.counted]


def _drawn(
    choices: Sequence[Choice], arms: Sequence[Arm]
) -> tuple[list[Sheet], dict[str, Opened], list[str]]:
    """Sheets for as long as their pictures fit, the volumes behind them, what did not fit."""
    sheets: list[Sheet] = []
    volumes: dict[str, Opened] = {}
    notes: list[str] = []
    room = _PICTURE_BYTES
    for choice in choices:
        sheet, opened = sheet_of(choice, arms)
        room -= sum(len(shot.drawn.png) for shot in sheet.shots if shot.drawn)
        if room < 0:
            notes.append(f"Pictures of {choice.case} are left out to keep this file small.")
            continue
        sheets.append(sheet)
        if opened:
            volumes[choice.case] = opened
    return sheets, volumes, notes


def _candidate(case: str, opened: Opened, arms: Sequence[Arm]) -> Candidate:
    said = {
        arm.number: f"{arm.label}, {said_dice(found[0], case, classes=False)}"
        for arm in arms
        if (found := shown_run(arm, case))
    }
    return Candidate(case=case, opened=opened, arms=said)


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
