"""A case's image, label and predictions from their files, cut and shrunk to what is drawn.

Whole predictions are not kept: of each only the frame around the label and a small copy for the
viewer, so that a dozen arms of a large scan fit into memory.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from medseg.errors import DataError
from medseg.record import CaseRecord, RunRecord
from medseg.report.arms import Arm
from medseg.volumes import (
    Volume,
    checked_label_values,
    on_grid_of,
    ras_affine,
    read_image,
    read_labels,
    to_ras,
)

_MARGIN_SHARE = 0.15
_MARGIN_MM = 8.0
LONGEST = 128  # voxels along a side of what the viewer is given
_WINDOW_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, kw_only=True, eq=False)
class Grids:
    """Arrays of one grid whose axes run right, anterior, superior; predictions by arm."""

    image: np.ndarray
    label: np.ndarray
    predictions: Mapping[int, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """What the files of a case hold.

    Attributes:
        frame: The voxels around the label.
        start: Index of the frame's first voxel in the whole volume.
        spacing: mm per voxel.
        small: The whole volume on a coarser grid.
        affine: Of the coarser grid, voxel index to mm.
        outside: Arm → share of its wrong voxels that lie outside the frame.
        faults: Arm → why its prediction is not there.
    """

    frame: Grids
    start: tuple[int, ...]
    spacing: tuple[float, float, float]
    small: Grids
    affine: np.ndarray
    outside: Mapping[int, float]
    faults: Mapping[int, str]


def shown_run(arm: Arm, case: str) -> tuple[RunRecord, CaseRecord] | None:
    """The run whose prediction of a case is shown: the first that still has the file."""
    found = [(run, entry) for run in arm.counted for entry in run.cases if entry.case == case]
    kept = (
        (run, entry)
        for run, entry in found
        if entry.prediction and isfile(run.path.parent / entry.prediction)
    )
    return next(kept, found[0] if found else None)


def open_case(case: str, arms: Sequence[Arm]) -> Opened:
    """Reads a case; a prediction that cannot be used is named in `faults`.

    Raises:
        DataError: image or label are not there, damaged, or not on one grid.
    """
    shown = {arm.number: pair for arm in arms if (pair := shown_run(arm, case))}
    image, label = _image_and_label(list(shown.values()))
    affine = image.geometry.affine
    beyond = max((run.labelling.ignored for run, _ in shown.values() if run.classes), default=None)
    # background in label and predictions, as they are scored
    ignored = label.array >= (beyond or label.array.max() + 1)
    label.array[ignored] = 0
    seen, truth = to_ras(image.array[0], affine), to_ras(label.array, affine)
    spacing = image.geometry.ras_spacing
    box = _frame(truth, spacing)
    frames, smalls, outside, faults = {}, {}, {}, {}
    for arm, (run, entry) in shown.items():
        try:
            prediction = _read_prediction(run, entry, image)
            prediction = to_ras(np.where(ignored, 0, prediction), affine)
        except DataError as error:
            faults[arm] = str(error)
            continue
        frames[arm] = prediction[box].copy()
        smalls[arm] = shrunk_labels(prediction)
        wrong = np.count_nonzero(prediction != truth)
        inside = np.count_nonzero(frames[arm] != truth[box])
        outside[arm] = (wrong - inside) / wrong if wrong else 0.0
    return Opened(
        frame=Grids(image=seen[box].copy(), label=truth[box].copy(), predictions=frames),
        start=tuple(edge.start for edge in box),
        spacing=spacing,
        small=Grids(image=shrunk_image(seen), label=shrunk_labels(truth), predictions=smalls),
        affine=shrunk_affine(ras_affine(affine, image.array.shape[-3:]), seen.shape),
        outside=outside,
        faults=faults,
    )


def _image_and_label(shown: Sequence[tuple[RunRecord, CaseRecord]]) -> tuple[Volume, Volume]:
    """Those that the records name, from the first record whose files can be read."""
    faults: dict[str, None] = {}
    for run, entry in shown:
        try:
            path = _named(entry.image, "image")
            image = read_image(path, channels=None, nonfinite="replace")
            label = _named(entry.label, "label")
            label = read_labels(label, num_classes=None, values=_label_values(run), like=image)
            label = on_grid_of(image, label)
        except DataError as error:
            faults[str(error)] = None
        else:
            return image, label
    raise DataError("; ".join(faults) or "no run of these arms has the case")


def _read_prediction(run: RunRecord, entry: CaseRecord, image: Volume) -> np.ndarray:
    path = run.path.parent / _named(entry.prediction, "prediction")
    prediction = read_labels(path, num_classes=None)
    return on_grid_of(image, prediction).array


def _named(path: str, what: str) -> Path:
    if not path:
        raise DataError(
            f"the record is of an older version and does not say where the {what} lies; "
            "run it again"
        )
    if "\0" in path:
        raise DataError(f"{what}={path!r} in the record is no path; run it again")
    return Path(path)


def _label_values(run: RunRecord) -> dict[int | str, int | str] | None:
    data = run.config.get("data")
    found = data.get("labels") if isinstance(data, dict) else None
    found = found if run.label_values is None else run.label_values
    try:
        return None if found is None else checked_label_values(found)
    except ValueError as error:
        raise DataError(f"{run.path}: data.{error}; run it again") from error


def _frame(label: np.ndarray, spacing: Sequence[float]) -> tuple[slice, ...]:
    """The label's box with a margin; the whole volume where there is no label."""
    box = ndimage.find_objects((label > 0).astype(np.uint8))
    if not box:
        return tuple(slice(0, length) for length in label.shape)
    edges = []
    for edge, length, size in zip(box[0], label.shape, spacing, strict=True):
        margin = round(max(_MARGIN_MM / size, _MARGIN_SHARE * (edge.stop - edge.start)))
        edges.append(slice(max(0, edge.start - margin), min(length, edge.stop + margin)))
    return tuple(edges)


def shrunk_image(image: np.ndarray) -> np.ndarray:
    """Means of blocks as uint8; the 0.5th percentile becomes 0, the 99.5th 255.

    >>> shrunk_image(np.arange(256 * 4.0).reshape(256, 2, 2)).shape
    (128, 2, 2)
    """
    means = _sums(image, np.float32) / math.prod(_factors(image.shape))
    low, high = np.percentile(means, _WINDOW_PERCENTILES)
    share = (means - low) / (high - low if high > low else 1.0)
    return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)


def shrunk_labels(label: np.ndarray) -> np.ndarray:
    """The most frequent class of every block; of equally frequent ones the largest."""
    background = _sums(label == 0, np.int32)
    counts = {value: _sums(label == value, np.int32) for value in np.unique(label) if value}
    winner, most = np.zeros(background.shape, label.dtype), background
    for value, count in counts.items():
        winner[count >= most] = value
        most = np.maximum(most, count)
    return winner


def shrunk_affine(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of the coarse grid: a voxel lies at the centre of its block."""
    factors = np.array(_factors(shape), float)
    scale = np.diag([*factors, 1.0])
    scale[:3, 3] = (factors - 1) / 2
    return affine @ scale


def _factors(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-length // LONGEST) for length in shape)


def _sums(array: np.ndarray, dtype: type[np.number]) -> np.ndarray:
    """Sums of blocks; the last block repeats the last voxel where it is not full."""
    factors = _factors(array.shape)
    pads = [(0, -length % factor) for length, factor in zip(array.shape, factors, strict=True)]
    padded = np.pad(array, pads, mode="edge") if any(after for _, after in pads) else array
    shape = [length // factor for length, factor in zip(padded.shape, factors, strict=True)]
    total = np.zeros(shape, dtype)
    # a reshaped array would be summed as fast, but needs a copy of the whole volume
    for i, j, k in np.ndindex(*factors):
        total += padded[i :: factors[0], j :: factors[1], k :: factors[2]]
    return total
