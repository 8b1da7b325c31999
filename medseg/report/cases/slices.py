"""The same three slices of a case in every arm, with what each arm gets wrong."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medseg.report.cases.opened import Grids, Opened
from medseg.volumes import to_png
from medseg.volumes.overlay import draw_errors

_SIZE = 200
_GAP = 6
_COLOURS = 160
_PLANES = {2: ("axial", ("L", "R")), 1: ("coronal", ("L", "R")), 0: ("sagittal", ("P", "A"))}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A PNG in base64 with its size in pixels."""

    png: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Planes:
    """Which slices are drawn.

    Attributes:
        indices: Axis across the slice → index in the frame.
        caption: The same in words, counted in the whole volume.
    """

    indices: dict[int, int]
    caption: str


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
