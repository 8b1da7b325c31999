"""A case as a row of pictures: the label alone, then every arm in the same slices."""

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.errors import DataError
from medseg.report.arm import Arm
from medseg.report.cases.choice import Choice
from medseg.report.cases.opened import Opened, open_case, shown_run
from medseg.report.cases.slices import Drawn, Planes, choose_planes, draw
from medseg.report.cells import fixed
from medseg.report.sources import Run, number

_PNG = b"\x89PNG\r\n\x1a\n"
_TINY_SHARE = 0.01
_KEPT = 2


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
    shots = (label, *(_shot(choice.case, arm, opened, planes) for arm in arms))
    sheet = Sheet(
        case=choice.case,
        reasons=choice.reasons,
        caption=planes.caption,
        shots=shots,
        errors=True,
    )
    return sheet, opened


def said_dice(run: Run, case: str, *, classes: bool = True) -> str:
    """Dice of a case in one run: the mean, then, if wanted, by class and the seed."""
    entry = next(entry for entry in run.record.cases if entry.case == case)
    by_class = {name: number(metrics.get("dice")) for name, metrics in entry.metrics.items()}
    known = [value for value in by_class.values() if not math.isnan(value)]
    text = f"Dice {fixed(math.fsum(known) / len(known))}" if known else "Dice undefined"
    if not classes:
        return text
    if len(by_class) > 1:
        text += f" ({', '.join(f'{name} {fixed(value)}' for name, value in by_class.items())})"
    return f"{text}, seed {run.record.seed}"


def kept_cases(arms: Sequence[Arm]) -> tuple[Choice, ...]:
    """At most two cases of which the records hold pictures."""
    runs = [run for arm in arms for run in arm.counted]
    cases = dict.fromkeys(picture.case for run in runs for picture in run.record.pictures)
    return tuple(
        Choice(case=case, reasons=("the runs kept a picture of it",))
        for case in list(cases)[:_KEPT]
    )


def _from_records(choice: Choice, arms: Sequence[Arm], fault: str) -> Sheet:
    shots = tuple(_picture(choice.case, arm) for arm in arms)
    kept = any(shot.drawn for shot in shots)
    instead = "these are the pictures of the records" if kept else "the records have no picture"
    return Sheet(
        case=choice.case,
        reasons=choice.reasons,
        caption="",
        shots=shots if kept else (),
        note=f"No slices could be drawn ({fault}); {instead}.",
    )


def _shot(case: str, arm: Arm, opened: Opened, planes: Planes) -> Shot:
    found = shown_run(arm, case)
    if found is None:
        note = "not among the validation cases of this arm"
        return Shot(arm=arm.number, label=arm.label, drawn=None, caption="", note=note)
    caption, note = said_dice(found[0], case), opened.faults.get(arm.number, "")
    if note:
        return Shot(arm=arm.number, label=arm.label, drawn=None, caption=caption, note=note)
    share = opened.outside[arm.number]
    if share >= _TINY_SHARE:
        note = f"{100 * share:.0f} % of its wrong voxels lie outside the picture"
    drawn = draw(opened, planes, arm.number)
    return Shot(arm=arm.number, label=arm.label, drawn=drawn, caption=caption, note=note)


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
