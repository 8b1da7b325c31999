"""Where the voxels lie in the patient: decided once, from the header, with notes on its faults.

Libraries disagree when a header contradicts itself: nibabel follows the sform, SimpleITK the
qform, MONAI whichever matches pixdim. Here one rule holds, and every doubt becomes a note.
"""

from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from nibabel.spatialimages import HeaderDataError

from medseg.errors import DataError
from medseg.volumes.container import Doubt

Form = Literal["sform", "qform"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the axes of DICOM and ITK (left, posterior, superior) to those of NIfTI, and back."""

_TOLERANCE = 1e-3
_RAS = np.array([[0, 1], [1, 1], [2, 1]])
_MILLIMETRE_OR_UNKNOWN = (0, 2)
_SPATIAL_UNIT_BITS = 0b111
_UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}  # by code; in mm


@dataclass(frozen=True, eq=False)
class Geometry:
    """The map from voxel indices to the patient, and which part of the header it came from.

    Attributes:
        affine: 4 x 4, voxel index (i, j, k, 1) to millimetres (right, anterior, superior, 1).
        source: the header entry that was used.
    """

    affine: np.ndarray
    source: Literal["sform", "qform", "pixdim"]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along each array axis."""
        i, j, k = _column_norms(self.affine)
        return float(i), float(j), float(k)

    @property
    def ras_spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along each axis of the re-oriented array; see `to_ras`."""
        ras_axis = io_orientation(self.affine)[:, 0].astype(int)
        right, anterior, superior = (self.spacing[a] for a in np.argsort(ras_axis))
        return right, anterior, superior

    @property
    def axcodes(self) -> tuple[str, str, str]:
        """The direction in which each array axis runs, such as `("R", "A", "S")`."""
        i, j, k = nib.aff2axcodes(self.affine)
        return i, j, k


def decide_geometry(header: nib.Nifti1Header, prefer: Form = "sform") -> tuple[Geometry, list[str]]:
    """Reads the geometry from a header: the preferred form, else the other, else pixdim.

    Lengths that the header declares in metres or micrometres are converted to mm.

    Returns:
        The geometry, and notes on everything in the header that was ambiguous or odd.

    Raises:
        DataError: the affine is not finite or not invertible, or a voxel size is zero or NaN.
    """
    millimetres, unit_notes = _unit(header)
    pixdim, notes = _voxel_sizes(header)
    to_mm = np.array([[millimetres]] * 3 + [[1.0]])
    forms: dict[Form, np.ndarray] = {
        form: to_mm * affine for form, affine in _coded_forms(header, pixdim).items()
    }
    pixdim *= millimetres
    other: Form = "qform" if prefer == "sform" else "sform"
    sound: dict[Form, np.ndarray] = {
        form: affine for form, affine in forms.items() if not _fault(affine)
    }
    if sound and len(sound) < len(forms):
        notes += [
            f"its {b} affine {_fault(forms[b])}; the other form is used"
            for b in forms.keys() - sound
        ]
        forms = sound
    if prefer in forms:
        geometry = Geometry(forms[prefer], prefer)
    elif other in forms:
        geometry = Geometry(forms[other], other)
    else:
        geometry = Geometry(np.diag([*pixdim, 1.0]), "pixdim")
        notes.append(
            Doubt(
                "states no orientation (sform_code=0 and qform_code=0); assuming that its axes run "
                "to the right, anterior and superior from a corner at 0 mm"
            )
        )
    if fault := _fault(geometry.affine):
        raise DataError(f"its {geometry.source} affine {fault}; repair the header")
    if len(forms) == 2:
        notes += _disagreement_of_forms(forms, used=prefer, other=other)
    return geometry, notes + unit_notes + _oddities(header, geometry, pixdim)


def drop_broken_forms(header: nib.Nifti1Header) -> None:
    """Takes its code from a form that is no map from voxels to mm: no program shall follow it."""
    for form, affine in _coded_forms(header, np.abs(header["pixdim"][1:4])).items():
        if _fault(affine):
            header[f"{form}_code"] = 0


def to_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Permutes and flips the last three axes so that they run right, anterior, superior.

    Nothing is interpolated: an oblique grid stays oblique, its axes are merely renamed.

    Args:
        array: shape (..., i, j, k); leading axes, such as channels, are left alone.
        affine: of `array`, 4 x 4, voxel index to RAS mm.

    Returns:
        A view of `array`; its affine is `ras_affine(affine, array.shape[-3:])`.
    """
    return _reorient(array, io_orientation(affine))


def from_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Undoes `to_ras`.

    Args:
        array: shape (..., right, anterior, superior).
        affine: of the grid to return to, the one that `to_ras` was given.

    Returns:
        A view of `array` with shape (..., i, j, k).
    """
    return _reorient(array, ornt_transform(_RAS, io_orientation(affine)))


def ras_affine(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The affine of `to_ras(array, affine)` for an array whose last three axes are `shape`."""
    return affine @ inv_ornt_aff(io_orientation(affine), shape)


def in_axes_of(
    array: np.ndarray, affine: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Permutes and flips the axes of an array so that they run as those of another grid.

    Args:
        array: Shape (..., i, j, k).
        affine: Of `array`, 4 x 4, voxel index to RAS mm.
        other: Affine of the other grid.

    Returns:
        A view of `array`, and its affine.
    """
    orientation = io_orientation(np.linalg.solve(other, affine))
    moved = affine @ inv_ornt_aff(orientation, array.shape[-3:])
    return _reorient(array, orientation), moved


def _reorient(array: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    # an axis of one voxel stays as it is: reversed, its stride would be negative, which torch
    # refuses, and numpy would not copy it
    is_thin = np.equal(array.shape[-3:], 1)
    orientation = np.column_stack([orientation[:, 0], np.where(is_thin, 1, orientation[:, 1])])
    spatial_first = np.moveaxis(array, (-3, -2, -1), (0, 1, 2))
    return np.moveaxis(apply_orientation(spatial_first, orientation), (0, 1, 2), (-3, -2, -1))


def _unit(header: nib.Nifti1Header) -> tuple[float, list[str]]:
    """Millimetres per unit of length of the header."""
    code = int(header["xyzt_units"]) & _SPATIAL_UNIT_BITS
    if code in _MILLIMETRE_OR_UNKNOWN:
        return 1.0, []
    if code not in _UNITS:
        return 1.0, [Doubt(f"declares a unit of length that NIfTI lacks (code {code}); read as mm")]
    name, millimetres = _UNITS[code]
    return millimetres, [f"declares its lengths in {name}; they are converted to mm"]


def _voxel_sizes(header: nib.Nifti1Header) -> tuple[np.ndarray, list[str]]:
    """Sizes of three axes in the header's unit; an axis that a 2-D file lacks has size 1."""
    axes = min(int(header["dim"][0]), 3)
    found = np.array(header["pixdim"][1:4], dtype=np.float64)
    found[axes:] = 1.0
    if not np.isfinite(found).all() or (found == 0).any():
        raise DataError(
            f"pixdim={_numbers(found)} holds a voxel size that is zero, NaN or infinite; "
            "write the true voxel size into the header"
        )
    if (found < 0).any():
        return np.abs(found), [f"pixdim={_numbers(found)} is negative; its absolute value is used"]
    return found, []


def _coded_forms(header: nib.Nifti1Header, pixdim: np.ndarray) -> dict[Form, np.ndarray]:
    """Affines of the forms that the header declares valid (code > 0)."""
    forms: dict[Form, np.ndarray] = {}
    if int(header["sform_code"]) > 0:
        forms["sform"] = np.asarray(header.get_sform(), dtype=np.float64)
    if int(header["qform_code"]) > 0:
        forms["qform"] = _qform(header, pixdim)
    return forms


def _qform(header: nib.Nifti1Header, pixdim: np.ndarray) -> np.ndarray:
    readable = header.copy()
    readable["pixdim"][1:4] = pixdim
    if readable["pixdim"][0] != -1:
        readable["pixdim"][0] = 1  # NIfTI-1 standard: any qfac but -1 is read as 1
    try:
        return np.asarray(readable.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError):
        return np.full((4, 4), np.nan)


def _fault(affine: np.ndarray) -> str:
    """Why an affine is no map from voxels to mm; empty if it is one."""
    spacing = _column_norms(affine)
    if not np.isfinite(affine).all() or not np.isfinite(spacing).all():
        return "holds NaN or infinite numbers"
    if (spacing == 0).any():
        return f"gives a voxel size of zero (spacing {_numbers(spacing)} mm)"
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-6:
        return "is singular: two array axes run in the same direction"
    return ""


def _disagreement_of_forms(forms: dict[Form, np.ndarray], *, used: Form, other: Form) -> list[str]:
    furthest = np.abs(forms["sform"] - forms["qform"]).max()
    if furthest <= _TOLERANCE * _column_norms(forms[used]).min():
        return []
    sizes = " and ".join(f"{form} {_numbers(_column_norms(forms[form]))}" for form in forms)
    return [
        Doubt(
            f"sform and qform disagree (voxel sizes in mm: {sizes}); the {used} is used; "
            f"to use the other, set prefer={other}"
        )
    ]


def _oddities(header: nib.Nifti1Header, geometry: Geometry, pixdim: np.ndarray) -> list[str]:
    notes = []
    axes = min(int(header["dim"][0]), 3)
    spacing = np.array(geometry.spacing)
    if not np.allclose(spacing[:axes], pixdim[:axes], rtol=_TOLERANCE, atol=0):
        notes.append(
            Doubt(
                f"pixdim {_numbers(pixdim)} mm disagrees with the voxel size {_numbers(spacing)} "
                f"mm of the {geometry.source}; the {geometry.source} is used"
            )
        )
    directions = geometry.affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > _TOLERANCE:
        notes.append(
            Doubt(
                "its axes are sheared (not at right angles); the voxel grid is used as it is, "
                "distances in mm are those along the axes"
            )
        )
    return notes


def _column_norms(affine: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity is refused in words
        return np.linalg.norm(affine[:3, :3], axis=0)


def _numbers(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
