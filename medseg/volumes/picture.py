"""Pictures (PNG, JPEG, BMP, GIF, PNM) as volumes of one slice, through Pillow.

The first array axis runs along a picture's rows, the second down its columns, as ITK has it. A
palette is kept beside its indices: for a mask the index is the class, for an image the colour.
"""

import threading
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageFile, ImageOps

from medseg.volumes.container import (
    DEFLATE_LIMIT,
    FLOAT32_BYTES,
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

_opening = threading.Lock()
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM")  # none that runs a program, as EPS does
_SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF8")
_PNM = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
_ORIENTATION, _FIRST_TURNED = 0x0112, 5  # tag of EXIF; values that swap rows and columns
_COLOURS = 3
_LOSSY = ("JPEG", "MPO")
_PLAIN = ("1", "L", "I", "F", "RGB")
_WITH_ALPHA = ("LA", "RGBA", "PA")
_SAVE_PLAINLY = "save it as a grey or RGB PNG"
_FLATTEN = "flatten it onto a background and save it without an alpha channel"


def is_picture(start: bytes) -> bool:
    """Whether a file that begins with `start` is a picture that is read here."""
    return start.startswith(_STARTS) or (start[:2] in _PNM and start[2:3].isspace())


def read_picture(path: Path) -> Stored:
    """Reads a picture as voxels (columns, rows, 1[, channels]), its EXIF orientation applied.

    Raises:
        DataError: the file is damaged, animated, transparent, or too large for the memory.
    """
    require_file(path)
    with foreign_faults(path, "Pillow"):
        with _opened(path) as picture:
            _require_one_readable(picture, path)
            picture.verify()  # checksums of a PNG; the file must be opened again afterwards
        with _opened(path) as picture:
            kind, pixels = str(picture.format), _deep_colours(picture, path)
            orientation = picture.getexif().get(_ORIENTATION, 1)
            turned = ImageOps.exif_transpose(picture) if pixels is None else None
    notes = suffix_note(path, _SUFFIXES[kind], kind)
    palette = None
    if turned is not None:
        if orientation != 1:
            notes += (Doubt("its EXIF orientation is applied: was its mask drawn on it as shown?"),)
        pixels = np.asarray(turned)
        if turned.mode == "P":
            palette = np.array(turned.getpalette("RGB"), np.uint8).reshape(-1, 3)
    assert pixels is not None
    voxels, alpha_notes = without_alpha(pixels, path, has_alpha=pixels.shape[2:] in ((2,), (4,)))
    voxels = np.swapaxes(voxels, 0, 1)[:, :, None]  # (columns, rows, 1[, channels])
    return Stored(
        voxels.astype(np.uint8) if voxels.dtype == bool else voxels,
        1.0,
        0.0,
        header_of(voxels.shape[:3], np.diag([-1.0, -1.0, 1.0, 1.0])),
        (*notes, *alpha_notes),
        palette=palette,
        lossy=kind in _LOSSY,
        unstated=(0, 1, 2),  # a density in dots per inch is one of printing
    )


def picture_shape(path: Path) -> tuple[int, ...]:
    """The shape (columns, rows, 1[, channels]) of a picture as it is read; errors as there."""
    require_file(path)
    with foreign_faults(path, "Pillow"), _opened(path) as picture:
        _require_one_readable(picture, path)
        bands = len(picture.getbands())
        if picture.mode in ("P", "PA"):
            palette = np.array(picture.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
            bands = 1 if (palette == palette[:, :1]).all() else _COLOURS
        is_turned = picture.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED
        size = picture.size[::-1] if is_turned else picture.size
    return (*size, 1, *((_COLOURS,) if bands >= _COLOURS else ()))


def without_alpha(
    pixels: np.ndarray, path: Path, *, has_alpha: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Drops an alpha channel, the last of `pixels` (..., channels), with a note.

    Raises:
        DataError: a pixel is not opaque: what colour it has depends on what lies behind it.
    """
    if not has_alpha:
        return pixels, ()
    colours, alpha = pixels[..., :-1], pixels[..., -1]
    opaque = 1.0 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    if see_through := int(np.count_nonzero(alpha != opaque)):
        fault = f"its alpha channel leaves {see_through} of {alpha.size} pixels transparent"
        raise refusal(path, fault, _FLATTEN)
    colours = colours[..., 0] if colours.shape[-1] == 1 else colours
    return colours, ("its alpha channel is dropped; every pixel is opaque",)


def _opened(path: Path) -> ImageFile.ImageFile:
    """Opens a picture of any size: its memory is checked here before a pixel is decoded."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _require_one_readable(picture: ImageFile.ImageFile, path: Path) -> None:
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":  # previews of phones
        fault = f"holds {getattr(picture, 'n_frames', 1)} frames"
        raise refusal(path, fault, "save each as a file of its own, or all as one TIFF stack")
    if not (picture.mode in (*_PLAIN, "P", *_WITH_ALPHA) or picture.mode.startswith("I;16")):
        raise refusal(path, f"its pixels are {picture.mode}", _SAVE_PLAINLY)
    if picture.format == "PPM" and picture.tile and picture.tile[0][0] != "raw":
        # Pillow stretches these to the full range: class 1 of 3 would become 85
        raise refusal(path, "its largest value is not 255 or 65535", _SAVE_PLAINLY)
    if "transparency" in picture.info and picture.mode not in ("P", "1", *_WITH_ALPHA):
        raise refusal(path, "one of its colours is declared transparent", _FLATTEN)
    values = picture.width * picture.height * len(picture.getbands())
    if picture.format == "PNG" and require_file(path) * DEFLATE_LIMIT * 8 < values:
        raise refusal(path, f"states {values} values, more than it can hold", TRANSFER_AGAIN)
    require_memory(path, values * (FLOAT32_BYTES + 4))


def _deep_colours(picture: ImageFile.ImageFile, path: Path) -> np.ndarray | None:
    """Pixels of colours of 16 bits, which Pillow cuts to 8; None for any other picture."""
    if len(picture.getbands()) == 1 or not picture.tile or "16" not in str(picture.tile[0][3]):
        return None
    if picture.format != "PNG" or picture.getexif().get(_ORIENTATION, 1) != 1:
        raise refusal(path, "its colours of 16 bits cannot be read", "save it as PNG or TIFF")
    return imagecodecs.png_decode(path.read_bytes())
