"""What SimpleITK converts from NIfTI is read back as it was."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.volumes import read_image


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_volume_converted_from_nifti_is_the_same(
    tmp_path: Path, suffix: str, compressed: bool
) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    affine = np.array([[-1.5, 0, 0, 10], [0, 2, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "a.nii.gz")
    target = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.ReadImage(tmp_path / "a.nii.gz"), target, useCompression=compressed)
    volume = read_image(target)
    np.testing.assert_array_equal(volume.array[0], voxels)
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-5)
