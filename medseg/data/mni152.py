"""The MNI152 brain that comes with nilearn, as a dataset of axial blocks.

One averaged brain: good for trying the program without a download, and evidence of nothing. Its
tissue labels come from maps made from the same images, and all its cases are the same head.

Reference: Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies,
doi 10.1016/j.neuroimage.2010.07.033; Fonov et al. 2009, doi 10.1016/S1053-8119(09)70884-5.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from medseg.data.building import build_folder, write_case, write_description
from medseg.errors import DataError
from medseg.files import sha256

CLASSES = ("grey", "white")
FIRST, LAST = 20, 151  # slices with at least 50 voxels of either tissue
THICKNESS, GAP = 12, 3  # slices; nine blocks fill the range exactly
_RULE = 1  # raise it whenever other files would be written
_MNI_152 = 4  # NIfTI's code of this coordinate system
_MAPS = ("t1", "gm", "wm")


@dataclass(frozen=True, kw_only=True)
class Mni152:
    """Grey and white matter on the ICBM 152 template, cut into blocks of axial slices.

    Each case is `THICKNESS` consecutive slices; `GAP` slices between two cases are dropped, so that
    no slice of one case has its neighbour in another. The brain is left-right symmetric to the
    voxel: it must never be split by hemisphere, or each validation case has its mirror image among
    the training cases.

    Attributes:
        root: receives the folder MNI152.
    """

    root: Path | str

    def prepare(self, *, may_write: bool = True) -> Path:
        """The folder MNI152 under `root`, written in seconds the first time.

        Args:
            may_write: whether a folder that is not there may be made.

        Raises:
            DataError: nilearn's template is not installed.
            ResourceError: `root` cannot be written.
        """
        maps = template_files()
        stamp = json.dumps({"rule": _RULE, **{k: sha256(path) for k, path in maps.items()}})
        target = Path(self.root).expanduser() / "MNI152"
        return build_folder(
            target, stamp=stamp, build=lambda part: _build(part), may_write=may_write
        )


def template_files() -> dict[str, Path]:
    """The T1 template and tissue maps ("t1", "gm", "wm") of nilearn, which is not imported.

    Raises:
        DataError: nilearn or one of its files is missing.
    """
    spec = find_spec("nilearn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        data = Path(place) / "datasets" / "data"
        names = {k: f"mni_icbm152_{k}_tal_nlin_sym_09a_converted.nii.gz" for k in _MAPS}
        files = {key: data / name for key, name in names.items()}
        if all(path.is_file() for path in files.values()):
            return files
    raise DataError("nilearn's MNI152 template was not found; pip install 'nilearn>=0.12'")


def tissue_labels(grey: np.ndarray, white: np.ndarray) -> np.ndarray:
    """The most probable of rest (0), grey (1) and white (2); a tie goes to the lower value.

    Args:
        grey: probability in 1/255.
        white: probability in 1/255.

    Returns:
        uint8, of the maps' shape.
    """
    grey, white = grey.astype(np.int16), white.astype(np.int16)
    return np.argmax(np.stack([255 - grey - white, grey, white]), axis=0).astype(np.uint8)


def blocks() -> tuple[range, ...]:
    """The axial slices of each case, as indices into the template's third axis."""
    starts = range(FIRST, LAST + 2 - THICKNESS, THICKNESS + GAP)
    return tuple(range(start, start + THICKNESS) for start in starts)


def _build(folder: Path) -> None:
    t1, grey, white = (nib.Nifti1Image.from_filename(template_files()[key]) for key in _MAPS)
    image, affine = np.asanyarray(t1.dataobj), np.asarray(t1.affine)
    label = tissue_labels(np.asanyarray(grey.dataobj), np.asanyarray(white.dataobj))
    case_ids = []
    for block in blocks():
        case_ids.append(f"mni152_z{block[0]:03d}-{block[-1]:03d}")
        write_case(
            folder,
            case_ids[-1],
            image=_cut(image, affine, block),
            label=_cut(label, affine, block),
        )
    write_description(
        folder,
        name="MNI152",
        description="Blocks of axial slices of one averaged brain: a demonstration, not evidence",
        reference="ICBM 152 nonlinear symmetric 2009a template, as shipped in nilearn; "
        "Fonov et al. 2009, 2011",
        licence="Copyright McConnell Brain Imaging Centre, Montreal Neurological Institute, "
        "McGill University; keep this notice with copies",
        modalities=("T1",),
        classes=CLASSES,
        case_ids=case_ids,
    )


def _cut(volume: np.ndarray, affine: np.ndarray, block: range) -> nib.Nifti1Image:
    """The block where it belongs in MNI space."""
    corner = affine.copy()
    corner[:3, 3] = apply_affine(affine, (0, 0, block[0]))
    image = nib.Nifti1Image(volume[:, :, block[0] : block[-1] + 1], corner)
    image.set_sform(corner, _MNI_152)
    image.set_qform(corner, _MNI_152)
    image.header.set_xyzt_units("mm")
    return image
