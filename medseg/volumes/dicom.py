"""DICOM images: a series of files, or a multi-frame file, as one volume."""

from os.path import isdir
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from medseg.volumes.container import (
    FLOAT32_BYTES,
    Doubt,
    Stored,
    foreign_faults,
    header_of,
    refusal,
    require_memory,
)
from medseg.volumes.dicom_files import kind_of, read_header, scan_dicom, series_beside
from medseg.volumes.dicom_slices import Slice, is_projection, slices_of, stack
from medseg.volumes.geometry import LPS_TO_RAS

_WITH_UNITS = ("CT", "PT")  # whose values mean the same however they are shown
_LOSSY = (".50", ".51", ".81", ".91", ".93", ".102", ".103", ".104", ".105", ".106")


def read_dicom(path: Path) -> Stored:
    """Reads a series as voxels (columns, rows, slices[, channels]).

    Each slice has its own slope and intercept. Values of MONOCHROME1, in which low is white, are
    inverted unless they have a unit of their own (CT, PT).

    Args:
        path: a multi-frame file, any one file of a series, or the folder of a single series.

    Raises:
        DataError: it is no volume, or damaged: see `dicom_slices.stack`.
    """
    reader = _Pixels()
    with foreign_faults(path, "pydicom"):
        files = files_of_series(path)
        slices = [one for file in files for one in slices_of(file, read_header(file))]
        dataset = read_header(files[0])
        rows, columns = slices[0].shape
        _require_readable(dataset, path)
        samples = int(dataset.get("SamplesPerPixel", 1))
        bytes_each = int(dataset.get("BitsAllocated", 16)) // 8 or 1
        values = rows * columns * len(slices) * samples
        require_memory(path, values * (bytes_each + 2 * FLOAT32_BYTES))
        is_picture = is_projection(slices, dataset)
        if is_picture:
            rows, columns = slices[0].spacing or (1.0, 1.0)
            affine, notes = np.diag([columns, rows, 1.0, 1.0]), []
        else:
            slices, affine, notes = stack(slices, path, reader.of)
        voxels, slope, intercept = _assemble(slices, reader)
    unstated = ((2,) if slices[0].spacing else (0, 1, 2)) if is_picture else None
    return Stored(
        voxels,
        slope,
        intercept,
        header_of(voxels.shape[:3], LPS_TO_RAS @ affine),
        (*notes, *_notes(dataset, is_lossy=reader.is_lossy)),
        lossy=reader.is_lossy,
        unstated=unstated,
    )


def placed_slices(path: Path) -> list[Slice]:
    """The slices of a series in the order of the voxels of `read_dicom`; errors as there."""
    with foreign_faults(path, "pydicom"):
        slices = [s for file in files_of_series(path) for s in slices_of(file, read_header(file))]
        return stack(slices, path, _Pixels().of)[0]


def files_of_series(path: Path) -> tuple[Path, ...]:
    """The files of the image that a path names, as of `read_dicom`, by name.

    Raises:
        DataError: it is a folder of several series, or no image.
    """
    if isdir(path):
        found = [one for one in scan_dicom(path, recursive=False) if one.kind == "series"]
        if len(found) != 1:
            named = ", ".join(
                f"{one.path.name} ({one.description or one.modality}, {len(one.files)} files)"
                for one in found[:5]
            )
            fault = (
                f"is a folder of {len(found)} DICOM series ({named})" if found else "is a folder"
            )
            raise refusal(path, fault, "name a file in it")
        return found[0].files
    dataset = read_header(path)
    kind = kind_of(dataset)
    if kind != "series":
        name = {"seg": "a segmentation", "rtstruct": "a structure set"}.get(kind, "no image")
        raise refusal(path, f"is {name} ({dataset.get('Modality', 'DICOM')})", "name a series")
    slices = slices_of(path, dataset)
    if len(slices) > 1 or is_projection(slices, dataset):
        return (path,)
    return series_beside(path, dataset)


class _Pixels:
    """Reads slices; keeps the file of the last, which may hold the next."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._dataset = Dataset()
        self.is_lossy = False

    def of(self, one: Slice) -> np.ndarray:
        """Pixels (rows, columns[, channels]) as stored.

        Raises:
            DataError: they are missing or cannot be decoded.
        """
        with foreign_faults(one.path, "pydicom"):
            if self._path != one.path:
                self._dataset, self._path = read_header(one.path, pixels=True), one.path
                syntax = str(self._dataset.file_meta.get("TransferSyntaxUID", ""))
                self.is_lossy |= syntax.endswith(_LOSSY) and ".1.2.4" in syntax
                self.is_lossy |= self._dataset.get("LossyImageCompression") == "01"
            is_grey = int(self._dataset.get("SamplesPerPixel", 1)) == 1
            pixels = pixel_array(self._dataset, index=one.frame, raw=is_grey)
        if not _is_inverted(self._dataset):
            return pixels
        is_signed = bool(self._dataset.get("PixelRepresentation"))
        highest = -1 if is_signed else (1 << int(self._dataset.get("BitsStored", 16))) - 1
        return np.asarray(highest - pixels.astype(np.int64), pixels.dtype)


def _require_readable(dataset: Dataset, path: Path) -> None:
    shown = str(dataset.get("PhotometricInterpretation", ""))
    if shown == "PALETTE COLOR":
        raise refusal(path, "its pixels are indices of colours", "export it as grey or RGB")


def _assemble(slices: list[Slice], reader: _Pixels) -> tuple[np.ndarray, float, float]:
    """Voxels with a common slope and intercept, or with those of each slice applied."""
    scalings = {(one.slope, one.intercept) for one in slices}
    first = reader.of(slices[0])
    dtype = first.dtype if len(scalings) == 1 else np.dtype(np.float32)
    voxels = np.empty((len(slices), *first.shape), dtype)
    for index, one in enumerate(slices):
        pixels = reader.of(one)
        if pixels.shape != first.shape:
            raise refusal(
                one.path, f"its pixels are {pixels.shape}, not {first.shape}", "export it again"
            )
        if len(scalings) == 1 and pixels.dtype != voxels.dtype:
            voxels = voxels.astype(np.result_type(voxels, pixels))
        scaled = len(scalings) > 1
        voxels[index] = pixels * np.float64(one.slope) + one.intercept if scaled else pixels
    slope, intercept = (1.0, 0.0) if len(scalings) > 1 else next(iter(scalings))
    return np.moveaxis(voxels, (0, 1, 2), (2, 1, 0)), slope, intercept


def _is_inverted(dataset: Dataset) -> bool:
    shown = dataset.get("PhotometricInterpretation")
    return shown == "MONOCHROME1" and dataset.get("Modality") not in _WITH_UNITS


def _notes(dataset: Dataset, *, is_lossy: bool) -> list[str]:
    notes: list[str] = [Doubt("was compressed with loss")] if is_lossy else []
    if _is_inverted(dataset):
        notes.append(
            "is MONOCHROME1, in which low values are white: inverted, so that white is high"
        )
    elif dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        notes.append("is MONOCHROME1, to be shown with low values white; its values are kept")
    return notes
