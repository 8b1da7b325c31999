import contextlib
import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Pair
from nibabel.nifti2 import Nifti2Pair

from medseg.errors import DataError
from medseg.volumes import read_image

from ..pairwise import covering

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
Save = Callable[..., Path]


@covering(
    dtype=DTYPES,
    order=["<", ">"],
    kind=[nib.Nifti1Image, nib.Nifti2Image, Nifti1Pair, Nifti2Pair],
    suffix=["", ".gz"],
)
def test_reader_equals_nibabel(
    dtype: str,
    order: str,
    kind: type[nib.Nifti1Image],
    suffix: str,
    voxels: np.ndarray,
    save: Save,
) -> None:
    name = ("a.img" if kind in (Nifti1Pair, Nifti2Pair) else "a.nii") + suffix
    array = (voxels / 2 if dtype.startswith("f") else voxels).astype(dtype)
    header = kind.header_class(endianness=order)
    path = save(array, name, kind=kind, header=header)
    reference = nib.load(path)
    assert reference.header.endianness == order
    volume = read_image(path)
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert volume.notes == ()
    assert type(volume.header) is type(reference.header)
    np.testing.assert_array_equal(volume.array[0], reference.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(volume.geometry.affine, reference.affine)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_either_file_of_a_pair_will_do(suffix: str, voxels: np.ndarray, save: Save) -> None:
    image = save(voxels, "a.img" + suffix, kind=Nifti1Pair)
    header = image.with_name("a.hdr" + suffix)
    np.testing.assert_array_equal(read_image(image).array[0], voxels)
    np.testing.assert_array_equal(read_image(header).array[0], voxels)


def test_voxels_of_a_pair_that_begin_like_gzip_are_read(save: Save) -> None:
    array = np.full((2, 3, 4), 0x8B1F, np.uint16)
    array[0, 0, 1] = 8
    path = save(array, "a.img", kind=Nifti1Pair)
    np.testing.assert_array_equal(read_image(path).array[0], array)


def test_short_half_of_a_pair_is_refused_by_its_own_name(voxels: np.ndarray, save: Save) -> None:
    image = save(voxels, "a.img", kind=Nifti1Pair)
    image.write_bytes(image.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"a\.img: its header states 420 bytes, it holds 419"):
        read_image(image.with_name("a.hdr"))


@pytest.mark.parametrize("field", ["header", "voxels"])
def test_missing_half_of_a_pair_is_refused(field: str, voxels: np.ndarray, save: Save) -> None:
    image = save(voxels, "a.img", kind=Nifti1Pair)
    gone, left = image, image.with_name("a.hdr")
    if field == "header":
        gone, left = left, gone
    gone.unlink()
    with pytest.raises(DataError, match=f"{gone.name} is not beside it"):
        read_image(left)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_scaling_is_applied_as_nibabel_does(dtype: str, save_edited: Save) -> None:
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    path = save_edited(voxels, scl_slope=0.37, scl_inter=-1024)
    expected = nib.load(path).get_fdata().astype(np.float32)
    np.testing.assert_array_equal(read_image(path).array[0], expected)


@pytest.mark.parametrize("slope", [0, np.nan, np.inf])
def test_slope_without_meaning_is_no_scaling(
    slope: float, voxels: np.ndarray, save_edited: Save
) -> None:
    path = save_edited(voxels, scl_slope=slope, scl_inter=5)
    np.testing.assert_array_equal(read_image(path).array[0], voxels)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((4, 5), 1),
        ((4, 5, 1), 1),
        ((4, 5, 6), 1),
        ((4, 5, 6, 1), 1),
        ((4, 5, 6, 1, 1), 1),
        ((4, 5, 6, 3), 3),
        ((4, 5, 6, 1, 3), 3),
        ((4, 5, 1, 1, 2), 2),
    ],
)
def test_channels_come_first(shape: tuple[int, ...], channels: int, save: Save) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    volume = read_image(save(array), channels=channels)
    spatial = (*shape, 1)[:3]
    assert volume.array.shape == (channels, *spatial)
    for channel in range(channels):
        expected = array.reshape((*spatial, channels))[..., channel]
        np.testing.assert_array_equal(volume.array[channel], expected)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((4,), 1),
        ((4, 5, 6), 2),
        ((4, 5, 6, 3), 1),
        ((4, 5, 6, 3), 2),
        ((4, 5, 6, 3, 2), 6),
        ((4, 5, 6, 1, 3), 1),
    ],
)
def test_other_shapes_are_refused_with_the_expected_channels(
    shape: tuple[int, ...], channels: int, save_edited: Save
) -> None:
    path = save_edited(np.ones(shape, np.float32))
    with pytest.raises(DataError) as caught:
        read_image(path, channels=channels)
    assert f"shape {shape} must be {channels} channel(s)" in str(caught.value)
    assert ("stack" in str(caught.value)) == (channels > 1 and len(shape) < 5)


def test_nonfinite_voxels_are_refused_with_their_number(save: Save) -> None:
    array = np.ones((3, 4, 5), np.float32)
    array[0, 0, :3] = (np.nan, np.inf, -np.inf)
    with pytest.raises(DataError, match="3 of 60 voxels are NaN or infinite"):
        read_image(save(array))


def test_nonfinite_voxels_become_the_smallest_of_their_channel(save: Save) -> None:
    array = np.arange(120, dtype=np.float32).reshape(3, 4, 5, 2)
    array[1, 1, 1] = np.nan
    array[2, 2, 2, 1] = -np.inf
    volume = read_image(save(array), channels=2, nonfinite="replace")
    expected = np.moveaxis(array, -1, 0).copy()
    expected[0][~np.isfinite(expected[0])] = 0
    expected[1][~np.isfinite(expected[1])] = 1
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.notes == (
        "channel 0: 1 of 60 voxels were NaN or infinite; replaced by 0",
        "channel 1: 2 of 60 voxels were NaN or infinite; replaced by 1",
    )


@pytest.mark.parametrize("nonfinite", ["refuse", "replace"])
def test_volume_without_any_finite_voxel_is_refused(nonfinite: str, save: Save) -> None:
    path = save(np.full((2, 3, 4), np.nan, np.float32))
    with pytest.raises(DataError, match="all 24 voxels are NaN or infinite"):
        read_image(path, nonfinite=nonfinite)


def test_constant_image_is_noted(save: Save) -> None:
    assert "every voxel has the same value, 7" in read_image(save(np.full((2, 3, 4), 7.0))).notes


def test_geometry_fault_names_the_file(voxels: np.ndarray, save_edited: Save) -> None:
    path = save_edited(voxels, srow_x=np.nan, qform_code=0)
    with pytest.raises(DataError, match=r"scan\.nii: its sform affine holds NaN"):
        read_image(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.dictionaries(st.integers(0, 351), st.integers(0, 255), min_size=1, max_size=6),
    packed=st.booleans(),
)
def test_any_damaged_header_is_read_or_refused(
    edits: dict[int, int], packed: bool, tmp_path: Path
) -> None:
    content = bytearray(nib.Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4)).to_bytes())
    for position, value in edits.items():
        content[position] = value
    path = tmp_path / "a.nii"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    with contextlib.suppress(DataError):
        volume = read_image(path, nonfinite="replace")
        assert volume.array.ndim == 4
        assert np.isfinite(volume.array).all()
        assert np.isfinite(volume.geometry.affine).all()


def test_memory_stays_near_file_and_result(tmp_path: Path) -> None:
    shape = (128, 128, 100)
    array = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    path = tmp_path / "ct.nii.gz"
    image = nib.Nifti1Image(array, np.eye(4))
    path.write_bytes(gzip.compress(image.to_bytes(), 1))
    del image
    tracemalloc.start()
    read_image(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    file_bytes, result_bytes = array.nbytes, array.size * 4
    assert peak < 1.3 * file_bytes + result_bytes
