"""TIFF pictures and stacks of pages, through tifffile; spacing from ImageJ, OME or resolution tags.

The array axes are columns, rows, pages, as ITK has them.
"""

import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from medseg.volumes.container import (
    FLOAT32_BYTES,
    MILLIMETRES,
    TRANSFER_AGAIN,
    Doubt,
    Stored,
    foreign_faults,
    header_of,
    refusal,
    require_file,
    require_memory,
    suffix_note,
)
from medseg.volumes.picture import without_alpha

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LOSSY = ("JPEG", "WEBP", "JPEGXR", "JPEGXL", "LERC", "JPEG2000", "JP2000")
# what scanners, cameras and editors write for printing, in dots per inch
_PRINTED = {72, 75, 96, 100, 120, 144, 150, 180, 200, 240, 300, 314, 350, 360, 400, 600, 720, 1200}
_SPLIT = "save one volume per file, with its pages as slices"


def is_tiff(start: bytes) -> bool:
    """Whether a file that begins with `start` is a TIFF or BigTIFF."""
    return start.startswith(_STARTS)


def tiff_shape(path: Path) -> tuple[int, ...]:
    """The shape (columns, rows, pages[, channels]) of a TIFF as it is read; errors as there."""
    with _opened(path) as tiff:
        series, first = _only_series(tiff, path), tiff.pages.first
        pixels = np.broadcast_to(np.uint8(0), series.shape)  # no memory
        pixels, _ = _pages_first(pixels, str(series.axes), path)
        pixels, _ = _turned(pixels, _tag(first, "Orientation", 1))
        palette = _palette(first)
    channels = int(np.prod(pixels.shape[3:])) - _has_alpha(first)
    if palette is not None and (palette != palette[:, :1]).any():
        channels = 3
    shape = pixels.shape[2::-1]
    return (*shape, channels) if channels > 1 else shape


def read_tiff(path: Path) -> Stored:
    """Reads a TIFF as voxels (columns, rows, pages[, channels]).

    Raises:
        DataError: the file is damaged, holds more than one volume, or is too large for the memory.
    """
    size = require_file(path)
    with _opened(path) as tiff:
        series, first = _only_series(tiff, path), tiff.pages.first
        _require_whole(series, path, size)
        require_memory(path, series.size * (2 * np.dtype(series.dtype).itemsize + FLOAT32_BYTES))
        pixels = series.asarray(maxworkers=1)
        axes, spacing = str(series.axes), _spacing(tiff, first)
        notes = suffix_note(path, (".tif", ".tiff"), "TIFF")
        pixels, page_notes = _pages_first(pixels, axes, path)
        pixels, alpha_notes = without_alpha(pixels, path, has_alpha=_has_alpha(first))
        if first.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
            pixels = ~pixels if first.bitspersample != 1 else 1 - pixels.astype(np.uint8)
            notes += ("stores white as 0; inverted, so that white is high",)
        pixels, turn_notes = _turned(pixels, _tag(first, "Orientation", 1))
        palette = _palette(first)
        lossy = any(name in tifffile.COMPRESSION(first.compression).name for name in _LOSSY)
    voxels = np.moveaxis(pixels, (0, 1, 2), (2, 1, 0))  # (pages, rows, columns) → (i, j, k)
    affine = np.diag([*(-(s or 1.0) for s in spacing[:2]), spacing[2] or 1.0, 1.0])
    return Stored(
        voxels.astype(np.uint8) if voxels.dtype == bool else voxels,
        1.0,
        0.0,
        header_of(voxels.shape[:3], affine),
        (*notes, *page_notes, *alpha_notes, *turn_notes),
        palette=palette,
        lossy=lossy,
        unstated=tuple(axis for axis, length in enumerate(spacing) if length is None),
    )


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    require_file(path)
    # forms in which a file names others as its parts are not followed
    single: dict[str, Any] = {"_multifile": False, "is_ndtiff": False, "is_mmstack": False}
    with (
        foreign_faults(path, "tifffile"),
        _errors_raised(),
        tifffile.TiffFile(path, **single) as tiff,
    ):
        yield tiff


def _has_alpha(page: Any) -> bool:
    return any(int(extra) in (1, 2) for extra in page.extrasamples)


class _Faults(logging.Filter):
    """Keeps what tifffile logs as an error (it then reads on without the damaged part)."""

    def __init__(self) -> None:
        super().__init__()
        self.of_thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        found: list[str] | None = getattr(self.of_thread, "found", None)
        if found is not None and record.levelno >= logging.ERROR:
            found.append(record.getMessage())
        return found is None


_faults = _Faults()
logging.getLogger("tifffile").addFilter(_faults)


@contextmanager
def _errors_raised() -> Iterator[None]:
    _faults.of_thread.found = found = []
    try:
        yield
    finally:
        _faults.of_thread.found = None
    if found:
        raise ValueError(found[0])


def _only_series(tiff: tifffile.TiffFile, path: Path) -> Any:
    shapes = [series.shape for series in tiff.series]
    if len(shapes) != 1:
        listed = ", ".join(map(str, shapes[:4]))
        raise refusal(path, f"holds {len(shapes)} pictures of their own ({listed})", _SPLIT)
    return tiff.series[0]


def _require_whole(series: Any, path: Path, size: int) -> None:
    """Every strip and tile must lie in the file: tifffile gives zeros for what is not there."""
    for page in series.pages:
        if page is None:
            raise refusal(path, "lacks a page of its stack", TRANSFER_AGAIN)
        for start, length in zip(page.dataoffsets, page.databytecounts, strict=False):
            if start <= 0 or length <= 0 or start + length > size:
                fault = f"states pixels up to byte {start + length}, it holds {size}"
                raise refusal(path, fault, TRANSFER_AGAIN)
    if len(series.pages) == 1 and series.dataoffset is not None:  # one page stands for the stack
        end = series.dataoffset + series.size * np.dtype(series.dtype).itemsize
        if end > size:
            raise refusal(path, f"states {end} bytes, it holds {size}", TRANSFER_AGAIN)


def _pages_first(pixels: np.ndarray, axes: str, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Pixels as (pages, rows, columns[, channels]), and a note if pages are called times."""
    long = [a for a, length in zip(axes, pixels.shape, strict=True) if length > 1 or a in "YX"]
    pixels = pixels.reshape([n for n, a in zip(pixels.shape, axes, strict=True) if a in long])
    channel = [a for a in long if a in "SC"]
    page = [a for a in long if a not in "SCYX"]
    if len(channel) > 1 or len(page) > 1 or not {"X", "Y"} <= set(long):
        fault = f"its axes {axes} of {pixels.shape} are no volume with channels"
        raise refusal(path, fault, _SPLIT)
    order = [long.index(a) for a in (*page, "Y", "X", *channel)]
    pixels = np.transpose(pixels, order)
    if not page:
        return pixels[None], ()
    if page == ["T"]:
        return pixels, (Doubt(f"calls its {len(pixels)} pages times; they are read as slices"),)
    return pixels, ()


def _turned(pixels: np.ndarray, orientation: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first row on top and the first column left, as the tag Orientation has it (TIFF 6.0)."""
    if orientation not in range(2, 9):
        return pixels, ()
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 1, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, :, ::-1]
    return pixels, ("its orientation tag is applied",)


def _palette(page: Any) -> np.ndarray | None:
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    colours = np.asarray(page.colormap).T  # (index, 3), of 16 bits
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _spacing(tiff: tifffile.TiffFile, page: Any) -> list[float | None]:
    """Mm along columns, rows and pages; None where the file does not say."""
    per_unit = [_ratio(_tag(page, name, None)) for name in ("XResolution", "YResolution")]
    if tiff.ome_metadata:
        found = [_ome_length(tiff.ome_metadata, axis) for axis in "XYZ"]
    elif tiff.imagej_metadata:
        unit = MILLIMETRES.get(str(tiff.imagej_metadata.get("unit", "")).strip().lower())
        between = tiff.imagej_metadata.get("spacing")
        lengths = [1 / ratio if ratio else None for ratio in per_unit]
        lengths.append(abs(float(between)) if between is not None else None)
        found = [unit * length if unit and length else None for length in lengths]
    else:
        unit = {2: 25.4, 3: 10.0}.get(int(_tag(page, "ResolutionUnit", 1)))
        dots = [ratio * 25.4 / unit if unit and ratio else None for ratio in per_unit]
        is_printed = any(d is None or round(d, 1) in _PRINTED for d in dots)
        found = [None if is_printed or not d else 25.4 / d for d in dots] + [None]
    return [s if s and math.isfinite(s) and s > 0 else None for s in found]


def _tag(page: Any, name: str, default: Any) -> Any:
    tag = page.tags.get(name)
    return default if tag is None else tag.value


def _ratio(value: Any) -> float | None:
    if not isinstance(value, tuple) or len(value) != 2 or not value[0] or not value[1]:
        return None
    return value[0] / value[1]


def _ome_length(metadata: str, axis: str) -> float | None:
    found = re.search(rf'PhysicalSize{axis}="([^"]+)"', metadata)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', metadata)
    factor = MILLIMETRES.get(unit[1].lower() if unit else "µm")  # the schema's default
    try:
        return float(found[1]) * factor if found and factor else None
    except ValueError:
        return None
