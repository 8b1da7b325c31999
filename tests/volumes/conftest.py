from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.array([[1.5, 0, 0, -10], [0, 2, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1.0]])


@pytest.fixture
def affine() -> np.ndarray:
    return AFFINE.copy()


@pytest.fixture
def voxels() -> np.ndarray:
    """(7, 6, 5), every voxel different."""
    return np.random.default_rng(0).permutation(210).reshape(7, 6, 5).astype(np.int16)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Saves an array with nibabel, so that the reader is tested on another writer's files."""

    def _save(
        array: np.ndarray,
        name: str = "scan.nii.gz",
        affine: np.ndarray = AFFINE,
        kind: type[nib.Nifti1Image] = nib.Nifti1Image,
        header: nib.Nifti1Header | None = None,
    ) -> Path:
        path = tmp_path / name
        kind(array, affine, header, dtype=array.dtype).to_filename(path)
        return path

    return _save


@pytest.fixture
def save_edited(tmp_path: Path) -> Callable[..., Path]:
    """Writes an uncompressed NIfTI-1 file byte by byte, with header fields set at will."""

    def _save(array: np.ndarray, name: str = "scan.nii", **fields: object) -> Path:
        header = nib.Nifti1Header()
        header.set_data_shape(array.shape)
        header.set_data_dtype(array.dtype)
        header.set_sform(AFFINE, code=1)
        header.set_qform(AFFINE, code=1)
        header["vox_offset"] = 352
        for field, value in fields.items():
            header[field] = value
        path = tmp_path / name
        path.write_bytes(header.binaryblock + bytes(4) + array.tobytes(order="F"))
        return path

    return _save
