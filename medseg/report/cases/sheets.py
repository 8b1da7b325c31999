"""A case as a row of pictures: the label alone, then every arm in the same slices."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medseg.errors import DataError
from medseg.report.arm import Arm
from medseg.report.cases.choice import Choice
from medseg.report.cases.opened import Opened, open_case, shown_run
from medseg.report.cases.slices import Drawn, choose_planes, draw
from medseg.report.cells import fixed
from medseg.report.sources import Run, number

_PNG = b"\x89PNG\r\n\x1a\n"
_TINY_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture of a row.

    Args:
        arm: Number of the arm, 0 for the label alone.
        label: Of the arm.
        drawn: The picture, None where there is none.
        caption: Dice by class and seed, or what the record says of its picture.
        note: Why something is missing; empty where nothing is.
    """

    arm: int
    label: str
    drawn: Drawn | None
    caption: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A case with its pictures.

    Args:
        case: Its id.
        reasons: Why it is shown.
        caption: Which slices.
        shots: The pictures.
        note: Why these are not the slices, if so.
        errors: Whether errors are marked in it.
    """

    case: str
    reasons: tuple[str, ...]
    caption: str
    shots: tuple[Shot, ...]
    note: str = ""
    errors: bool = False


def sheet_of(choice: Choice, arms: Sequence[Arm]) -> tuple[Sheet, Opened | None]:
    """The row of a case from its files, or from the records where these are not there."""
    try:
        opened = open_case(choice.case, arms)
    except DataError as error:
        return _from_records(choice, arms, str(error)), None
    planes = choose_planes(opened)
    label = Shot(arm=0, label="Label", drawn=draw(opened, planes, None), caption="true classes")
    shots = [label, *(_shot(choice.case, arm, opened) for arm in arms)]
    drawn = [
        Shot(
            arm=shot.arm,
            label=shot.label,
            drawn=draw(opened, planes, shot.arm) if shot.arm in opened.outside else shot.drawn,
            caption=shot.caption,
            note=shot.note,
        )
        for shot in shots
    ]
    sheet = Sheet(
        case=choice.case,
        reasons=choice.reasons,
        caption=planes.caption,
        shots=tuple(drawn),
        errors=True,
    )
    return sheet, opened


def said_dice(run: Run, case: str) -> str:
    """Dice of a case in one run: the mean, then by class if there are several."""
    entry = next(entry for entry in run.record.cases if entry.case == case)
    by_class = {name: number(metrics.get("dice")) for name, metrics in entry.metrics.items()}
    known = [value for value in by_class.values() if value == value]
    text = f"Dice {fixed(sum(known) / len(known))}" if known else "Dice undefined"
    if len(by_class) > 1:
        text += f" ({', '.join(f'{name} {fixed(value)}' for name, value in by_class.items())})"
    return f"{text}, seed {run.record.seed}"


def kept_cases(arms: Sequence[Arm], most: int = 2) -> tuple[Choice, ...]:
    """Cases of which records hold pictures, where no better reason could be followed."""
    cases = dict.fromkeys(p.case for arm in arms for run in arm.counted for p in run.record.pictures)
    return tuple(
        Choice(case=case, reasons=("the runs kept pictures of it",)) for case in list(cases)[:most]
    )


def _from_records(choice: Choice, arms: Sequence[Arm], fault: str) -> Sheet:
    shots = [_picture(choice.case, arm) for arm in arms]
    kept = any(shot.drawn for shot in shots)
    instead = "these are the pictures kept in the records" if kept else "no record kept a picture"
    return Sheet(
        case=choice.case,
        reasons=choice.reasons,
        caption="",
        shots=tuple(shots) if kept else (),
        note=f"No slices are drawn: {fault}. Instead, {instead}.",
    )


def _shot(case: str, arm: Arm, opened: Opened) -> Shot:
    """What is said of an arm's picture."""
    found = shown_run(arm, case)
    if found is None:
        note = "not among the validation cases of this arm"
        return Shot(arm=arm.number, label=arm.label, drawn=None, caption="", note=note)
    share = opened.outside.get(arm.number, 0.0)
    far = f"{100 * share:.0f} % of its wrong voxels lie outside the picture"
    note = opened.faults.get(arm.number, far if share >= _TINY_SHARE else "")
    caption = said_dice(found[0], case)
    return Shot(arm=arm.number, label=arm.label, drawn=None, caption=caption, note=note)


def _picture(case: str, arm: Arm) -> Shot:
    for run in arm.counted:
        for picture in run.record.pictures:
            if picture.case == case and (drawn := _checked(picture.png)):
                caption = f"{picture.caption}, seed {run.record.seed}"
                return Shot(arm=arm.number, label=arm.label, drawn=drawn, caption=caption)
    return Shot(arm=arm.number, label=arm.label, drawn=None, caption="", note="no picture was kept")


def _checked(png: str) -> Drawn | None:
    """A picture whose base64 and header are sound; its width and height in pixels."""
    try:
        header = base64.b64decode(png, validate=True)[:24]
    except (binascii.Error, ValueError):
        return None
    if len(header) < 24 or not header.startswith(_PNG):
        return None
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
    return Drawn(png=png, width=width, height=height)


def names_of(choice: Choice, arms: Sequence[Arm]) -> Mapping[int, str]:
    """Arm → label and Dice of the run that is shown."""
    shown = {arm: pair for arm in arms if (pair := shown_run_of(arm, choice.case))}
    return {arm.number: f"{arm.label}, {said_dice(run, choice.case)}" for arm, run in shown.items()}
