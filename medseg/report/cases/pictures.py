"""A case as a row of pictures: the label alone, then every arm in the same slices."""

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medseg.errors import DataError
from medseg.formatting import fixed
from medseg.record import RunRecord
from medseg.report.arms import Arm
from medseg.report.cases.files import Grids, Opened, open_case, shown_run
from medseg.volumes import to_png
from medseg.volumes.overlay import draw_errors

_SIZE = 200
_GAP = 6
_COLOURS = 160
_PLANES = {2: ("axial", ("L", "R")), 1: ("coronal", ("L", "R")), 0: ("sagittal", ("P", "A"))}
_PNG = b"\x89PNG\r\n\x1a\n"
_TINY_SHARE = 0.01
_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A PNG in base64 with its size in pixels."""

    png: str
    width: int
    height: int


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


@dataclass(frozen=True, kw_only=True)
class Planes:
    """Which slices are drawn.

    Attributes:
        indices: Axis across the slice → index in the frame.
        caption: The same in words, counted in the whole volume.
    """

    indices: dict[int, int]
    caption: str


def sheet_of(case: str, reasons: Sequence[str], arms: Sequence[Arm]) -> tuple[Sheet, Opened | None]:
    """The row of a case from its files, or from the records where these are not there."""
    try:
        opened = open_case(case, arms)
    except DataError as error:
        return _from_records(case, reasons, arms, str(error)), None
    planes = choose_planes(opened)
    label = Shot(arm=0, label="Label", drawn=draw(opened, planes, None), caption="true classes")
    shots = (label, *(_shot(case, arm, opened, planes) for arm in arms))
    sheet = Sheet(
        case=case,
        reasons=tuple(reasons),
        caption=planes.caption,
        shots=shots,
        errors=True,
    )
    return sheet, opened


def dice_of(run: RunRecord, case: str, *, classes: bool = True) -> str:
    """Dice of a case in one run: the mean, then, if wanted, by class and the seed."""
    entry = next(entry for entry in run.cases if entry.case == case)
    by_class = {name: metrics.get("dice") for name, metrics in entry.metrics.items()}
    known = [value for value in by_class.values() if value is not None]
    text = f"Dice {fixed(math.fsum(known) / len(known))}" if known else "Dice undefined"
    if not classes:
        return text
    if len(by_class) > 1:
        text += f" ({', '.join(f'{name} {fixed(value)}' for name, value in by_class.items())})"
    return f"{text}, seed {run.seed}"


def kept_cases(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """At most two cases of which the records hold pictures, with the reason to show them."""
    runs = [run for arm in arms for run in arm.counted]
    cases = dict.fromkeys(picture.case for run in runs for picture in run.pictures)
    return {case: ["the runs kept a picture of it"] for case in list(cases)[:_KEPT]}


def choose_planes(opened: Opened) -> Planes:
    """Per axis the slice with the most voxels on which the arms differ.

    Where they do not differ at all, the one with the most errors; without errors, the most label.
    """
    counted, why = _counted(opened.frame)
    axes = [a for a in _PLANES if all(counted.shape[b] > 1 for b in range(3) if b != a)]
    indices = {
        axis: int(counted.sum(axis=tuple(b for b in range(3) if b != axis)).argmax())
        for axis in axes
    }
    slices = [f"{_PLANES[a][0]} slice {opened.start[a] + i}" for a, i in indices.items()]
    return Planes(indices=indices, caption=f"{', '.join(slices).capitalize()}: {why}.")


def draw(opened: Opened, planes: Planes, arm: int | None) -> Drawn:
    """The planes one above the other, of one arm, or of the label alone."""
    grids = opened.frame
    prediction = None if arm is None else grids.predictions[arm]
    longest = max(np.multiply(grids.image.shape, opened.spacing))
    pictures = []
    for axis, index in planes.indices.items():
        i, j = (b for b in range(3) if b != axis)
        spacing = (opened.spacing[i], opened.spacing[j])
        extent = max(grids.image.shape[i] * spacing[0], grids.image.shape[j] * spacing[1])
        picture = draw_errors(
            grids.image.take(index, axis),
            spacing,
            grids.label.take(index, axis),
            None if prediction is None else prediction.take(index, axis),
            size=round(_SIZE * extent / longest),
            sides=_PLANES[axis][1],
        )
        pictures.append(picture)
    return _stacked(pictures)


def _counted(grids: Grids) -> tuple[np.ndarray, str]:
    predictions = list(grids.predictions.values())
    differ = np.zeros(grids.label.shape, bool)
    wrong = np.zeros(grids.label.shape, bool)
    for prediction in predictions:
        differ |= prediction != predictions[0]
        wrong |= prediction != grids.label
    if differ.any():
        return differ, "where the arms differ most"
    if wrong.any():
        return wrong, "where most voxels are wrong"
    return grids.label > 0, "where the label is largest"


def _stacked(pictures: Sequence[Image.Image]) -> Drawn:
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + _GAP * (len(pictures) - 1)
    sheet, top = Image.new("RGB", (width, height)), 0
    for picture in pictures:
        sheet.paste(picture, ((width - picture.width) // 2, top))
        top += picture.height + _GAP
    reduced = sheet.quantize(_COLOURS, dither=Image.Dither.NONE)
    png = base64.b64encode(to_png(reduced)).decode()
    return Drawn(png=png, width=width, height=height)


def _from_records(case: str, reasons: Sequence[str], arms: Sequence[Arm], fault: str) -> Sheet:
    shots = tuple(_picture(case, arm) for arm in arms)
    kept = any(shot.drawn for shot in shots)
    instead = "these are the pictures of the records" if kept else "the records have no picture"
    return Sheet(
        case=case,
        reasons=tuple(reasons),
        caption="",
        shots=shots if kept else (),
        note=f"No slices could be drawn ({fault}); {instead}.",
    )


def _shot(case: str, arm: Arm, opened: Opened, planes: Planes) -> Shot:
    found = shown_run(arm, case)
    if found is None:
        note = "not among the validation cases of this arm"
        return Shot(arm=arm.number, label=arm.label, drawn=None, caption="", note=note)
    caption, note = dice_of(found[0], case), opened.faults.get(arm.number, "")
    if note:
        return Shot(arm=arm.number, label=arm.label, drawn=None, caption=caption, note=note)
    share = opened.outside[arm.number]
    if share >= _TINY_SHARE:
        note = f"{100 * share:.0f} % of its wrong voxels lie outside the picture"
    drawn = draw(opened, planes, arm.number)
    return Shot(arm=arm.number, label=arm.label, drawn=drawn, caption=caption, note=note)


def _picture(case: str, arm: Arm) -> Shot:
    for run in arm.counted:
        for picture in run.pictures:
            if picture.case == case and (drawn := _checked(picture.png)):
                caption = f"{picture.caption}, seed {run.seed}"
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
