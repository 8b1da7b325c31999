"""Slices of a DICOM series as one volume: the checks of 3D Slicer, and no stretched spacing.

A frame of a multi-frame file is a slice like any other. Positions are compared along the normal
of the slices (DICOM PS3.3 C.7.6.2): missing, double, uneven, tilted and foreign ones are named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from medseg.formatting import first_of
from medseg.volumes.container import Doubt, refusal
from medseg.volumes.dicom_files import is_section_image

SAME_PLACE_MM = 0.01  # as in 3D Slicer
_SAME_DIRECTION = 1e-3
_ROUNDING_MM = 1e-6
_TOLERATED_VOXELS = 0.1
_TOLERATED_DRIFT = 0.5
_EXPORT = "export the series again, with its positions"


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice: a file, or a frame of one.

    Attributes:
        path: of its file.
        frame: index in the file.
        shape: rows, columns.
        position: centre of its first pixel in mm (left, posterior, superior); None if not stated.
        directions: (2, 3), unit vectors along a row and down a column; None if not stated.
        spacing: mm between rows and between columns; None if not stated.
        thickness: mm to the next slice, as the header has it; None if not stated.
        slope: value = slope * pixel + intercept.
        intercept: see `slope`.
    """

    path: Path
    frame: int
    shape: tuple[int, int]
    position: np.ndarray | None
    directions: np.ndarray | None
    spacing: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float

    @property
    def name(self) -> str:
        """The file's name, with the frame's number where there are several."""
        return f"{self.path.name} frame {self.frame + 1}" if self.frame else self.path.name


def slices_of(path: Path, dataset: Dataset) -> list[Slice]:
    """The slices that a file holds.

    Raises:
        DataError: it does not say of each frame where it lies.
    """
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    placed = len(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    if count > 1 and count != placed:
        fault = f"holds {count} frames and the positions of {placed}"
        raise refusal(path, fault, _EXPORT)
    return [_slice_of(path, dataset, frame) for frame in range(count)]


def is_projection(slices: Sequence[Slice], dataset: Dataset) -> bool:
    """Whether it is a single picture, such as a radiograph, which has no place in the patient."""
    return len(slices) == 1 and slices[0].position is None and not is_section_image(dataset)


def stack(
    slices: Sequence[Slice], where: Path, pixels: Callable[[Slice], np.ndarray]
) -> tuple[list[Slice], np.ndarray, list[str]]:
    """Puts slices in the order of their positions along the normal.

    Args:
        slices: Of one series.
        where: What a message names.
        pixels: Reads a slice; used where two have one position.

    Returns:
        The slices of the volume, its affine (voxel index (column, row, slice) to mm (left,
        posterior, superior)), and notes on slices that were left out.

    Raises:
        DataError: the slices are no volume: which are missing, double, foreign, uneven or tilted.
    """
    if unplaced := [s.name for s in slices if s.position is None or s.directions is None]:
        fault = (
            f"{len(unplaced)} of {len(slices)} slices have no ImagePositionPatient ({unplaced[0]})"
        )
        raise refusal(where, f"{fault}, so that their order cannot be known", _EXPORT)
    kept, notes = _without_foreign(slices, where)
    kept, double_notes = _without_doubles(_sorted(kept), where, pixels)
    step, step_notes = _step(kept, where)
    spacing_notes = [] if kept[0].spacing else [Doubt("states no PixelSpacing; 1 mm is assumed")]
    return kept, plane(kept[0], step), [*notes, *double_notes, *step_notes, *spacing_notes]


def plane(one: Slice, step: np.ndarray) -> np.ndarray:
    """Affine of a slice: (column, row, slice) to mm (left, posterior, superior)."""
    rows, columns = one.spacing or (1.0, 1.0)
    directions = np.asarray(one.directions)
    affine = np.eye(4)
    affine[:3, 0] = directions[0] * columns
    affine[:3, 1] = directions[1] * rows
    affine[:3, 2] = step
    affine[:3, 3] = np.asarray(one.position)
    return affine


def attribute(dataset: Dataset, frame: int, group: str, keyword: str) -> Any:
    """An attribute of a frame: from its own functional groups, the shared ones, or the file."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for groups in (*own[frame : frame + 1], *shared[:1]):
        items = groups.get(group) or ()
        if items and items[0].get(keyword) is not None:
            return items[0].get(keyword)
    return dataset.get(keyword)


def _slice_of(path: Path, dataset: Dataset, frame: int) -> Slice:
    def numbers(group: str, keyword: str, count: int) -> np.ndarray | None:
        found = attribute(dataset, frame, group, keyword)
        values = [] if found is None else np.atleast_1d(np.asarray(found, np.float64))
        if len(values) != count:
            return None
        if not np.isfinite(values).all():
            raise refusal(path, f"{keyword}={found} is not finite", _EXPORT)
        return np.asarray(values)

    position = numbers("PlanePositionSequence", "ImagePositionPatient", 3)
    cosines = numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = numbers("PixelMeasuresSequence", "PixelSpacing", 2)
    if spacing is None and position is None:
        spacing = numbers("", "ImagerPixelSpacing", 2)
    if spacing is not None and not (spacing > 0).all():
        raise refusal(path, f"PixelSpacing={spacing.tolist()} must be positive", _EXPORT)
    thickness = numbers("PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    if thickness is None:
        thickness = numbers("PixelMeasuresSequence", "SliceThickness", 1)
    slope = numbers("PixelValueTransformationSequence", "RescaleSlope", 1)
    intercept = numbers("PixelValueTransformationSequence", "RescaleIntercept", 1)
    directions = None if cosines is None else _unit_vectors(path, cosines.reshape(2, 3))
    return Slice(
        path=path,
        frame=frame,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position=position,
        directions=directions,
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        thickness=float(thickness[0]) if thickness is not None and thickness[0] > 0 else None,
        slope=1.0 if slope is None else float(slope[0]),
        intercept=0.0 if intercept is None else float(intercept[0]),
    )


def _unit_vectors(path: Path, directions: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(directions[0] @ directions[1]) > 0.01:
        fault = f"ImageOrientationPatient={directions.ravel().tolist()} holds no two directions"
        raise refusal(path, fault, _EXPORT)
    return directions / lengths[:, None]


def _sorted(slices: Sequence[Slice]) -> list[Slice]:
    places = _along(slices)
    return [slices[index] for index in np.argsort(places, kind="stable")]


def _along(slices: Sequence[Slice]) -> np.ndarray:
    """Positions in mm along the normal of the first slice."""
    directions = np.asarray(slices[0].directions)
    return _positions(slices) @ np.cross(directions[0], directions[1])


def _positions(slices: Sequence[Slice]) -> np.ndarray:
    return np.array([one.position for one in slices])


def _without_foreign(slices: Sequence[Slice], where: Path) -> tuple[list[Slice], list[str]]:
    """The slices of one size and direction; a localizer in the series is left out with a note."""
    groups: list[list[Slice]] = []
    for one in slices:
        group = next((group for group in groups if _are_alike(group[0], one)), None)
        groups.append([one]) if group is None else group.append(one)
    groups.sort(key=len, reverse=True)
    others = [one for group in groups[1:] for one in group]
    if len(others) >= len(groups[0]):
        sizes = ", ".join(f"{len(group)} like {group[0].name}" for group in groups[:4])
        fault = f"its slices have {len(groups)} directions or sizes ({sizes})"
        raise refusal(where, fault, "put each volume into a folder or series of its own")
    if not others:
        return groups[0], []
    names = first_of([one.name for one in others])
    return groups[0], [f"{names} of another direction or size than the slices: left out"]


def _are_alike(one: Slice, other: Slice) -> bool:
    directions = np.abs(np.asarray(one.directions) - np.asarray(other.directions)).max()
    spacing = np.subtract(one.spacing or (1, 1), other.spacing or (1, 1))
    is_near = directions <= _SAME_DIRECTION and np.abs(spacing).max() <= SAME_PLACE_MM
    return one.shape == other.shape and bool(is_near)


def _without_doubles(
    slices: list[Slice], where: Path, pixels: Callable[[Slice], np.ndarray]
) -> tuple[list[Slice], list[str]]:
    gaps = np.diff(_along(slices))
    apart = gaps[gaps > _ROUNDING_MM]
    same = min(SAME_PLACE_MM, _TOLERATED_VOXELS * np.median(apart)) if len(apart) else SAME_PLACE_MM
    groups: list[list[Slice]] = [[slices[0]]]
    for one, gap in zip(slices[1:], gaps, strict=True):
        groups.append([one]) if gap > same else groups[-1].append(one)
    notes = []
    for group in groups:
        first = pixels(group[0]) if len(group) > 1 else None
        for other in group[1:]:
            place = f"{_along([slices[0], other])[1]:.6g} mm"
            if not np.array_equal(np.asarray(first), pixels(other)):
                several = sum(len(g) > 1 for g in groups)
                fault = (
                    f"has different images at one position ({group[0].name} and {other.name} at "
                    f"{place}; {several} positions in all): times, echoes, or a slice too many"
                )
                raise refusal(where, fault, "keep one image for each position in a series")
            notes.append(f"{other.name} is {group[0].name} once more, at {place}: left out")
    return [group[0] for group in groups], notes


def _step(slices: list[Slice], where: Path) -> tuple[np.ndarray, list[str]]:
    """The vector from a slice to the next, and a note if they are not quite even.

    Raises:
        DataError: there is no one such vector along the normal.
    """
    directions = np.asarray(slices[0].directions)
    normal = np.cross(directions[0], directions[1])
    if len(slices) == 1:
        return normal * (slices[0].thickness or 1.0), []
    positions, places = _positions(slices), _along(slices)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    gap = float(step @ normal)
    off = np.abs(places - (places[0] + gap * np.arange(len(slices)))).max()
    if off > SAME_PLACE_MM and off > _TOLERATED_VOXELS * gap:
        _refuse_gaps(slices, places, where)
    sideways = positions - positions[0]
    sideways -= np.outer(sideways @ normal, normal)
    drift = np.linalg.norm(sideways, axis=1).max()
    if drift > _TOLERATED_DRIFT * min(slices[0].spacing or (1.0, 1.0)):
        degrees = np.degrees(np.arctan2(drift, abs(places[-1] - places[0])))
        raise refusal(
            where,
            f"its slices are shifted sideways by up to {drift:.3g} mm, as by a gantry tilted "
            f"{degrees:.3g} degrees",
            "correct the tilt, for example with dcm2niix",
        )
    if off > SAME_PLACE_MM:
        return step, [f"its slices lie up to {off:.3g} mm beside even places; taken as even"]
    return step, []


def _refuse_gaps(slices: list[Slice], places: np.ndarray, where: Path) -> None:
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    steps = gaps / usual
    if np.abs(steps - np.rint(steps)).max() <= _TOLERATED_VOXELS and steps.max() > 1.5:
        missing = [
            f"{places[index] + usual * n:.6g}"
            for index, count in enumerate(np.rint(steps).astype(int))
            for n in range(1, count)
        ]
        fault = f"lacks {len(missing)} slices of {usual:.6g} mm, at {first_of(missing)} mm"
        raise refusal(where, fault, "transfer the series again; no slice is made up")
    worst = int(np.argmax(np.abs(gaps - usual)))
    fault = (
        f"its slices are unevenly spaced: {gaps[worst]:.6g} mm between {slices[worst].name} and "
        f"{slices[worst + 1].name}, {usual:.6g} mm mostly"
    )
    raise refusal(where, fault, "resample it, for example in 3D Slicer, and save it as NRRD")
