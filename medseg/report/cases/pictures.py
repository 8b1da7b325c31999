"""A case as a row of pictures: the label alone, then every arm in the same slices."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
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
class Shot:
    """One picture of a row.

    Args:
        label: Of the arm, or of the label alone.
        arm: Number of the arm, 0 for the label alone.
        png: In base64; empty where there is no picture.
        size: Width and height in pixels.
        caption: Dice by class and seed, or what the record says of its picture.
        note: Why something is missing; empty where nothing is.
    """

    label: str
    arm: int = 0
    png: str = ""
    size: tuple[int, int] = (0, 0)
    caption: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A case with its pictures.

    Args:
        case: Its id.
        reasons: Why it is shown.
        caption: Which slices, or why these are not the slices.
        shots: The pictures.
        errors: Whether errors are marked in it.
    """

    case: str
    reasons: tuple[str, ...]
    caption: str
    shots: tuple[Shot, ...]
    errors: bool = False


def sheet_of(
    case: str, reasons: Sequence[str], arms: Sequence[Arm], values: pd.DataFrame
) -> tuple[Sheet, Opened | None]:
    """The row of a case from its files, or from the records where these are not there.

    Args:
        case: Its id.
        reasons: Why it is shown.
        arms: Those shown.
        values: Metrics of their runs (`ReportData.frame`).
    """
    try:
        opened = open_case(case, arms)
    except DataError as error:
        shots = tuple(_picture(case, arm) for arm in arms)
        kept = any(shot.png for shot in shots)
        instead = "these are the pictures of the records" if kept else "the records have no picture"
        note = f"No slices could be drawn ({error}); {instead}."
        empty = Sheet(case=case, reasons=tuple(reasons), caption=note, shots=shots if kept else ())
        return empty, None
    indices, caption = choose_planes(opened)
    png, size = draw(opened, indices, None)
    label = Shot(label="Label", png=png, size=size, caption="true classes")
    shots = (label, *(_shot(case, arm, opened, indices, values) for arm in arms))
    return Sheet(
        case=case, reasons=tuple(reasons), caption=caption, shots=shots, errors=True
    ), opened


def dice_of(run: RunRecord, case: str, values: pd.DataFrame, *, classes: bool = True) -> str:
    """Dice of a case in one run: the mean, then, if wanted, by class and the seed."""
    same = (values["run"] == run.source) & (values["case"] == case) & (values["metric"] == "dice")
    own = values.loc[same, ["class", "value"]]
    mean = float(own["value"].mean())
    text = "Dice undefined" if math.isnan(mean) else f"Dice {fixed(mean)}"
    if not classes:
        return text
    if len(own) > 1:
        pairs = zip(own["class"], own["value"], strict=True)
        text += f" ({', '.join(f'{name} {fixed(value)}' for name, value in pairs)})"
    return f"{text}, seed {run.seed}"


def kept_cases(arms: Sequence[Arm]) -> dict[str, list[str]]:
    """At most two cases of which the records hold pictures, with the reason to show them."""
    runs = [run for arm in arms for run in arm.counted]
    cases = dict.fromkeys(picture.case for run in runs for picture in run.pictures)
    return {case: ["the runs kept a picture of it"] for case in list(cases)[:_KEPT]}


def choose_planes(opened: Opened) -> tuple[dict[int, int], str]:
    """Per axis the slice with the most voxels on which the arms differ.

    Where they do not differ at all, the one with the most errors; without errors, the most label.

    Returns:
        Axis across the slice → index in the frame, and the same in words, counted in the volume.
    """
    counted, why = _counted(opened.frame)
    axes = [a for a in _PLANES if all(counted.shape[b] > 1 for b in range(3) if b != a)]
    indices = {
        axis: int(counted.sum(axis=tuple(b for b in range(3) if b != axis)).argmax())
        for axis in axes
    }
    slices = [f"{_PLANES[a][0]} slice {opened.start[a] + i}" for a, i in indices.items()]
    return indices, f"{', '.join(slices).capitalize()}: {why}."


def draw(
    opened: Opened, indices: Mapping[int, int], arm: int | None
) -> tuple[str, tuple[int, int]]:
    """The planes one above the other, of one arm, or of the label alone; base64 and size."""
    grids = opened.frame
    prediction = None if arm is None else grids.predictions[arm]
    longest = max(np.multiply(grids.image.shape, opened.spacing))
    pictures = []
    for axis, index in indices.items():
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


def _stacked(pictures: Sequence[Image.Image]) -> tuple[str, tuple[int, int]]:
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + _GAP * (len(pictures) - 1)
    sheet, top = Image.new("RGB", (width, height)), 0
    for picture in pictures:
        sheet.paste(picture, ((width - picture.width) // 2, top))
        top += picture.height + _GAP
    reduced = sheet.quantize(_COLOURS, dither=Image.Dither.NONE)
    return base64.b64encode(to_png(reduced)).decode(), (width, height)


def _shot(
    case: str, arm: Arm, opened: Opened, indices: Mapping[int, int], values: pd.DataFrame
) -> Shot:
    shot = Shot(label=arm.label, arm=arm.number)
    found = shown_run(arm, case)
    if found is None:
        return replace(shot, note="not among the validation cases of this arm")
    shot = replace(shot, caption=dice_of(found[0], case, values))
    if note := opened.faults.get(arm.number, ""):
        return replace(shot, note=note)
    png, size = draw(opened, indices, arm.number)
    share = opened.outside[arm.number]
    if share >= _TINY_SHARE:
        note = f"{100 * share:.0f} % of its wrong voxels lie outside the picture"
    return replace(shot, png=png, size=size, note=note)


def _picture(case: str, arm: Arm) -> Shot:
    shot = Shot(label=arm.label, arm=arm.number, note="no picture was kept")
    for run in arm.counted:
        for picture in run.pictures:
            if picture.case == case and (size := _size_of(picture.png)):
                caption = f"{picture.caption}, seed {run.seed}"
                return replace(shot, png=picture.png, size=size, caption=caption, note="")
    return shot


def _size_of(png: str) -> tuple[int, int] | None:
    """Width and height in pixels of a picture whose base64 and header are sound."""
    try:
        header = base64.b64decode(png, validate=True)[:24]
    except (binascii.Error, ValueError):
        return None
    if len(header) < 24 or not header.startswith(_PNG):
        return None
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
    return width, height
