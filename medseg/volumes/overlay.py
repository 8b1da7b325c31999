"""Pictures of slices with the outlines of label and prediction.

Arrays are expected to run right, anterior, superior. A slice is shown as seen on paper: the
second axis points up, and the patient's left is on the left-hand side and marked so.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medseg.volumes.colours import class_colours
from medseg.volumes.geometry import Geometry, to_ras

FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS = 1, 2, 3
ERROR_COLOURS = {
    FALSE_POSITIVE: (213, 94, 0),  # vermillion
    FALSE_NEGATIVE: (86, 180, 233),  # sky blue
    WRONG_CLASS: (240, 228, 66),  # yellow
}
"""Colours of the errors, of Okabe and Ito as well."""

_WINDOW_PERCENTILES = (1, 99)
_ERROR_SHARE = 0.65
_LINE_PIXELS = 2
_LETTER_PIXELS = 13
_CAPTION_PIXELS = 22
_GAP_PIXELS = 8
_SHEET_PIXELS = 480
_COLOURS = 3
_INK = (235, 235, 235)
_PAPER = (0, 0, 0)
_SIDES = {0: ("P", "A"), 1: ("L", "R"), 2: ("L", "R")}


def draw_slice(
    image: np.ndarray,
    spacing: tuple[float, float],
    *,
    label: np.ndarray | None = None,
    size: int = 320,
    sides: tuple[str, str] = ("L", "R"),
) -> Image.Image:
    """Draws one slice in grey, with one outline per class.

    Args:
        image: (i, j), or (i, j, 3) colours; the 1st percentile becomes black, the 99th white.
        spacing: mm per voxel along i and j; the picture has the proportions of the patient.
        label: (i, j) class indices to outline.
        size: length of the longer side in pixels, met up to the rounding of voxels to pixels.
        sides: what to write on the left-hand and right-hand side.
    """
    pixels = _pixels(image.shape[:2], spacing, size)
    shown = Image.fromarray(_on_paper(_windowed(image)))
    canvas = np.array(shown.resize(pixels, _resampling(image.shape, pixels)).convert("RGB"))
    if label is not None:
        _draw_outlines(canvas, _enlarged(label, pixels))
    picture = Image.fromarray(canvas)
    _write_sides(picture, sides)
    return picture


def draw_planes(
    image: np.ndarray,
    label: np.ndarray,
    geometry: Geometry,
    *,
    size: int | None = None,
    gap: int = _GAP_PIXELS,
) -> Image.Image:
    """Draws the slices with most label across each axis side by side, with one outline per class.

    An image of one slice is drawn as it is stored, in colours if it has three channels.

    Args:
        image: (channels, i, j, k).
        label: (i, j, k) class indices to outline.
        geometry: of both.
        size: pixels along the longest axis of the volume; None: 480, for an image of one slice at
            least a pixel for each of its own.
        gap: pixels between two slices.
    """
    voxels, classes = to_ras(image, geometry.affine), to_ras(label, geometry.affine)
    right, anterior, superior = geometry.ras_spacing
    is_flat = classes.shape[2] == 1
    if is_flat and "L" in geometry.axcodes:
        voxels, classes = voxels[:, ::-1], classes[::-1]
    in_colour = is_flat and len(voxels) == _COLOURS
    size = size or max([_SHEET_PIXELS, *classes.shape] if is_flat else [_SHEET_PIXELS])
    extent = np.multiply(classes.shape, (right, anterior, superior))
    spacing, panels = (right, anterior, superior), []
    thin = {axis for axis, length in enumerate(classes.shape) if length == 1}
    planes = [axis for axis in (2, 1, 0) if not thin - {axis}] or [2]
    for axis in planes:
        i, j = (a for a in range(3) if a != axis)
        index = best_slice(classes, axis)
        panel = draw_slice(
            np.moveaxis(voxels[..., 0], 0, -1) if in_colour else voxels[0].take(index, axis),
            (spacing[i], spacing[j]),
            label=classes.take(index, axis),
            size=max(1, round(size * max(extent[i], extent[j]) / extent.max())),
            sides=("", "") if is_flat else _SIDES[axis],
        )
        panels.append((panel, ""))
    return side_by_side(panels, gap=gap)


def picture_of_case(
    image: np.ndarray,
    label: np.ndarray | None,
    prediction: np.ndarray | None,
    spacing: tuple[float, float, float],
    axis: int = 2,
    *,
    size: int = 320,
) -> Image.Image:
    """Draws label and prediction side by side, at the slice with the most foreground.

    Args:
        image: (i, j, k), axes running right, anterior, superior.
        label: (i, j, k) class indices; without it, its panel shows the image alone.
        prediction: as `label`; it chooses the slice where there is no label.
        spacing: mm per voxel along i, j and k.
        axis: the one across the slice: 0 sagittal, 1 coronal, 2 axial.
        size: of each panel, as for `draw_slice`.
    """
    guide = next((m for m in (label, prediction) if m is not None and m.any()), None)
    index = image.shape[axis] // 2 if guide is None else best_slice(guide, axis)
    in_plane = [a for a in range(3) if a != axis]
    panels = []
    for name, classes in (("label", label), ("prediction", prediction)):
        panel = draw_slice(
            image.take(index, axis),
            (spacing[in_plane[0]], spacing[in_plane[1]]),
            label=None if classes is None else classes.take(index, axis),
            size=size,
            sides=_SIDES[axis],
        )
        panels.append((panel, "image" if classes is None else name))
    return side_by_side(panels, caption=_CAPTION_PIXELS)


def errors_of(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Voxel by voxel what is wrong: 0 nothing, else a key of `ERROR_COLOURS`.

    >>> errors_of(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 0, 1])).tolist()
    [0, 1, 0, 2, 3]
    """
    found = np.zeros(label.shape, np.uint8)
    found[(label == 0) & (prediction != 0)] = FALSE_POSITIVE
    found[(label != 0) & (prediction == 0)] = FALSE_NEGATIVE
    found[(label != 0) & (prediction != 0) & (label != prediction)] = WRONG_CLASS
    return found


def draw_errors(
    image: np.ndarray,
    spacing: tuple[float, float],
    label: np.ndarray,
    prediction: np.ndarray | None = None,
    *,
    size: int = 320,
    sides: tuple[str, str] = ("L", "R"),
) -> Image.Image:
    """Draws one slice in grey, the label's classes outlined in white, the errors in colour.

    Args:
        image: As for `draw_slice`.
        spacing: As for `draw_slice`.
        label: (i, j) class indices.
        prediction: As `label`; without it, no errors are drawn.
        size: As for `draw_slice`.
        sides: As for `draw_slice`.
    """
    canvas = np.array(draw_slice(image, spacing, size=size, sides=("", "")))
    pixels = (canvas.shape[1], canvas.shape[0])
    if prediction is not None:
        errors = _enlarged(errors_of(label, prediction), pixels)
        for error, colour in ERROR_COLOURS.items():
            mixed = (1 - _ERROR_SHARE) * canvas[errors == error] + _ERROR_SHARE * np.array(colour)
            canvas[errors == error] = mixed.round()
    _draw_outlines(canvas, _enlarged(label, pixels), lines=1, colours=(_INK,))
    picture = Image.fromarray(canvas)
    _write_sides(picture, sides)
    return picture


def best_slice(label: np.ndarray, axis: int = 2) -> int:
    """The index along `axis` of the slice with the most foreground; the middle if there is none."""
    others = tuple(a for a in range(3) if a != axis)
    foreground = np.count_nonzero(label, axis=others)
    return int(foreground.argmax()) if foreground.any() else label.shape[axis] // 2


def to_png(image: Image.Image) -> bytes:
    """The picture as the content of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _windowed(image: np.ndarray) -> np.ndarray:
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, _WINDOW_PERCENTILES) if finite.size else (0.0, 1.0)
    shown = np.nan_to_num(image, nan=low, posinf=high, neginf=low)
    share = (shown - low) / (high - low if high > low else 1.0)
    return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)


def _on_paper(plane: np.ndarray) -> np.ndarray:
    """Rows from top to bottom: the first axis to the right, the second upwards."""
    return np.ascontiguousarray(np.swapaxes(plane, 0, 1)[::-1])


def _pixels(shape: tuple[int, ...], spacing: tuple[float, float], size: int) -> tuple[int, int]:
    """Width and height: whole pixels per voxel on the finer axis, where one fits."""
    extent = np.multiply(shape, spacing)
    per_voxel = size / extent.max() * min(spacing)
    per_mm = (round(per_voxel) if per_voxel >= 1 else per_voxel) / min(spacing)
    width, height = np.maximum(1, np.round(extent * per_mm)).astype(int)
    return int(width), int(height)


def _resampling(shape: tuple[int, ...], pixels: tuple[int, int]) -> Image.Resampling:
    shrinks = pixels[0] < shape[0] or pixels[1] < shape[1]
    return Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST


def _enlarged(classes: np.ndarray, pixels: tuple[int, int]) -> np.ndarray:
    plane = Image.fromarray(_on_paper(classes).astype(np.int32))
    return np.array(plane.resize(pixels, Image.Resampling.NEAREST))


def _draw_outlines(
    canvas: np.ndarray,
    classes: np.ndarray,
    *,
    lines: int = _LINE_PIXELS,
    colours: Sequence[tuple[int, int, int]] | None = None,
) -> None:
    colours = colours or class_colours(int(classes.max()))
    for value in np.unique(classes[classes > 0]):
        region = classes == value
        inside = ndimage.binary_erosion(region, np.ones((3, 3)), iterations=lines)
        canvas[region & np.logical_not(inside)] = colours[(value - 1) % len(colours)]


def _write_sides(picture: Image.Image, sides: tuple[str, str]) -> None:
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_LETTER_PIXELS)
    middle, margin = picture.height / 2, 4
    places = ((margin, middle), (picture.width - margin, middle))
    for letter, place, anchor in zip(sides, places, ("lm", "rm"), strict=True):
        pen.text(place, letter, _INK, font, anchor, stroke_width=1, stroke_fill=_PAPER)


def side_by_side(
    panels: Sequence[tuple[Image.Image, str]], *, gap: int = _GAP_PIXELS, caption: int = 0
) -> Image.Image:
    """Pictures in a row, each with its caption above it.

    Args:
        panels: the pictures and what stands above them.
        gap: pixels between two.
        caption: pixels for the captions; 0 leaves them out.
    """
    width = sum(panel.width for panel, _ in panels) + gap * (len(panels) - 1)
    tallest = max(panel.height for panel, _ in panels)
    sheet, left = Image.new("RGB", (width, tallest + caption), _PAPER), 0
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LETTER_PIXELS)
    for panel, text in panels:
        if caption:
            pen.text((left + panel.width / 2, caption / 2), text, _INK, font, "mm")
        sheet.paste(panel, (left, caption + (tallest - panel.height) // 2))
        left += panel.width + gap
    return sheet
