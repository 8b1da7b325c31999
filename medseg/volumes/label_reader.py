"""Label maps of every kind as classes from 0: by value, by colour, or by name of a segment."""

from collections.abc import Mapping, Sequence
from os.path import isdir
from pathlib import Path

import numpy as np

from medseg.volumes.container import Stored, foreign_faults, refusal
from medseg.volumes.dicom_files import (
    is_dicom,
    kind_of,
    read_header,
    scan_dicom,
    segment_names,
    series_referred_to,
)
from medseg.volumes.dicom_labels import read_dicom_segments, read_structures
from medseg.volumes.formats import first_bytes, read_stored
from medseg.volumes.geometry import Form, decide_geometry
from medseg.volumes.labels import (
    IGNORE,
    LARGEST_LABEL,
    Key,
    classes_of,
    listed,
    require_labels,
    whole_numbers,
)
from medseg.volumes.nifti import header_file
from medseg.volumes.reader import Volume, channels_first, place
from medseg.volumes.segments import (
    Segmentation,
    label_map,
    mask_names,
    read_masks,
    read_slicer_segments,
    slicer_names,
)

_MOST_KEYS = 256


def read_labels(
    path: Path,
    *,
    num_classes: int | None,
    values: Mapping[Key, int | str] | None = None,
    like: Volume | None = None,
    spacing: Sequence[float] | None = None,
    prefer: Form = "sform",
) -> Volume:
    """Reads labels of shape (i, j, k): uint8, or uint16 where there are more than 256 values.

    Numbers that the rounding of a header's slope or of a float leaves beside whole ones are
    rounded, with a note.

    Args:
        path: as for `read_image`; also a segmentation of 3D Slicer (.seg.nrrd), a DICOM
            segmentation or an RT structure set.
        num_classes: with background; labels must lie in 0..num_classes-1. None: any label.
        values: label value, colour ("#ff0000") or name of a segment → class, or `IGNORE`, whose
            voxels become `num_classes` (65535 if that is None). A value that is not listed keeps
            its number, a colour is refused unless it is black, a segment is left out with a note.
        like: the image that is segmented; DICOM segmentations and structures need its grid.
        spacing: as for `read_image`.
        prefer: as for `read_image`.

    Raises:
        DataError: the file is damaged or lossy, a voxel is no whole number in the range, or a
            value that is not listed in `values` would become one with another.
    """
    path = Path(path)
    limit = LARGEST_LABEL if num_classes is None else num_classes - 1
    ignored = LARGEST_LABEL if num_classes is None else num_classes
    if values is not None and IGNORE in values.values():
        limit = max(limit, ignored)
    classes = None if values is None else _with_ignored(values, ignored)
    segmentation = _read_segmentation(path, like)
    if segmentation is None:
        stored = read_stored(path)
        header, geometry, place_notes = place(stored, path, spacing=spacing, prefer=prefer)
        voxels, value_notes = _numbers_or_classes(stored, path, classes)
        notes = (*stored.notes, *place_notes, *value_notes)
    else:
        voxels, value_notes = label_map(segmentation, path, classes)
        header, notes = segmentation.header, (*segmentation.notes, *value_notes)
        geometry, _ = decide_geometry(header)
    require_labels(path, voxels, limit)
    largest = int(voxels.max()) if num_classes is None else limit
    is_small = largest <= np.iinfo(np.uint8).max
    labels = np.ascontiguousarray(voxels, np.uint8 if is_small else np.uint16)
    return Volume(path, labels, geometry, header, notes)


def label_keys(path: Path) -> dict[Key, str]:
    """What the labels of a file can be called by, with the name that the file gives each.

    Returns:
        Names of segments and structures, else the voxels' values or colours ("#ff0000").

    Raises:
        DataError: as of `read_labels`; or there are more than 256 values, so that it is an image.
    """
    path = Path(path)
    if (names := _segment_names(path)) is not None:
        return {name: name for name in names}
    stored = read_stored(path)
    colours = _colours(stored, path)
    found = np.unique(_plain_numbers(stored, path)[0] if colours is None else colours)
    if len(found) > _MOST_KEYS:
        raise refusal(path, f"holds {len(found)} values", "pass a label map, not an image")
    keys = [int(value) if colours is None else _colour(value) for value in found]
    return {key: str(key) for key in keys}


def _with_ignored(values: Mapping[Key, int | str], ignored: int) -> dict[Key, int]:
    return {key: ignored if to == IGNORE else int(to) for key, to in values.items()}


def _read_segmentation(path: Path, like: Volume | None) -> Segmentation | None:
    """The named segments of a file, if its format has names.

    Raises:
        DataError: as of the format's reader; or its image is missing, or another.
    """
    if isdir(path):
        return read_masks(path)
    if not is_dicom(first_bytes(header_file(path))):
        return read_slicer_segments(path)
    with foreign_faults(path, "pydicom"):
        dataset = read_header(path)
        kind, referred = kind_of(dataset), series_referred_to(dataset)
    if kind not in ("seg", "rtstruct"):
        return None
    if like is None:
        raise refusal(path, "has no grid of its own", "give the image that it segments")
    series = _series_uid(like.path)
    if referred and series and series not in referred:
        fault = f"refers to the series {referred[0]}, not to that of {like.path}"
        raise refusal(path, fault, "pair it with the series that it was drawn on")
    return read_dicom_segments(path, like) if kind == "seg" else read_structures(path, like)


def _series_uid(path: Path) -> str | None:
    """Of a DICOM image, by any of its files or its folder; None for other formats."""
    if isdir(path):
        found = [one.series_uid for one in scan_dicom(path, recursive=False)]
        return found[0] if len(set(found)) == 1 else None
    if not is_dicom(first_bytes(header_file(path))):
        return None
    return str(read_header(path, tags=("SeriesInstanceUID",)).get("SeriesInstanceUID", "")) or None


def _segment_names(path: Path) -> Sequence[str] | None:
    if isdir(path):
        return mask_names(path)
    if not is_dicom(first_bytes(header_file(path))):
        return slicer_names(path)
    with foreign_faults(path, "pydicom"):
        dataset = read_header(path)
        return segment_names(dataset) if kind_of(dataset) in ("seg", "rtstruct") else None


def _numbers_or_classes(
    stored: Stored, path: Path, classes: Mapping[Key, int] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Voxels (i, j, k), mapped to their classes if there are any, and notes."""
    colours = _colours(stored, path)
    if colours is not None:
        return _classes_of_colours(path, colours, classes), ()
    numbers, notes = _plain_numbers(stored, path)
    if classes is None:
        return numbers, notes
    by_number = {key: to for key, to in classes.items() if isinstance(key, int)}
    for key, to in classes.items():  # grey pixels of a mask whose other pictures have colours
        if isinstance(key, str) and (grey := _grey(key)) is not None:
            by_number.setdefault(grey, to)
    return classes_of(path, numbers, by_number), notes


def _plain_numbers(stored: Stored, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    if stored.lossy:
        fault = "is compressed with loss, which invents values at the borders of classes"
        raise refusal(path, fault, "draw it again or export it as PNG")
    voxels = stored.voxels
    if stored.unstated is not None and voxels.ndim == 4:
        voxels = voxels[..., 0]  # of a picture without colours, whose channels are equal
    else:
        voxels = channels_first(voxels, path, 1)[0]
    return whole_numbers(path, voxels, stored.slope, stored.intercept)


def _colours(stored: Stored, path: Path) -> np.ndarray | None:
    """Colours (i, j, k) as 0xrrggbb; None if the file has none, or grey ones alone."""
    voxels = stored.voxels
    if stored.unstated is None or voxels.ndim != 4 or (voxels == voxels[..., :1]).all():
        return None
    if stored.lossy:
        return _plain_numbers(stored, path)[0]  # refuses it
    if voxels.dtype == np.uint16 and not (voxels % 257).any():
        voxels = voxels // 257  # eight bits, stretched to sixteen
    if voxels.shape[3] != 3 or voxels.dtype.kind != "u" or voxels.max() > np.iinfo(np.uint8).max:
        fault = f"has {voxels.shape[3]} channels of {voxels.dtype}"
        raise refusal(path, fault, "save it as a mask of grey values, or of RGB colours of 8 bits")
    red, green, blue = np.moveaxis(voxels.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _classes_of_colours(
    path: Path, colours: np.ndarray, classes: Mapping[Key, int] | None
) -> np.ndarray:
    found, places, counts = np.unique(colours, return_inverse=True, return_counts=True)
    by_colour = {"#000000": 0} | {str(key).lower(): to for key, to in (classes or {}).items()}
    keys = [_colour(value) for value in found]
    strange = [index for index, key in enumerate(keys) if key not in by_colour]
    if strange:
        names = listed([keys[index] for index in strange], counts[strange], colours.size)
        raise refusal(
            path,
            f"holds {len(strange)} colours of no class: {names}",
            "name the class of each in data.labels; where a resized mask has smoothed borders, "
            "resize it again with nearest neighbour",
        )
    return np.array([by_colour[key] for key in keys])[places].reshape(colours.shape)


def _colour(value: np.number) -> str:
    return f"#{int(value):06x}"


def _grey(colour: str) -> int | None:
    """The value of all three channels of a colour such as #ffffff; None for any other text."""
    pair = colour[1:3]
    is_grey = len(colour) == 7 and colour.startswith("#") and colour[1:] == pair * 3
    return int(pair, 16) if is_grey else None
