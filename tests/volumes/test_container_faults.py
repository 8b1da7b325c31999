"""Every broken container is refused on one line that names the file; none is read as zeros."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import DataError
from medseg.volumes import read_image, read_labels


def healthy(dtype: type = np.int16) -> bytes:
    voxels = np.random.default_rng(1).integers(0, 99, (12, 11, 10)).astype(dtype)
    return nib.Nifti1Image(voxels, np.eye(4)).to_bytes()


def header_with(**fields: object) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_shape((12, 11, 10))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"] = 352
    for field, value in fields.items():
        header[field] = value
    return header.binaryblock + bytes(4)


def flip(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 0x10
    return bytes(changed)


PACKED = gzip.compress(healthy())
VOXEL_BYTES = bytes(12 * 11 * 10 * 2)

FAULTS = {
    "gz cut at half": ("a.nii.gz", PACKED[: len(PACKED) // 2], "cut off"),
    "gz cut in its header": ("a.nii.gz", PACKED[:7], "cut off"),
    "gz without trailer": ("a.nii.gz", PACKED[:-8], "cut off"),
    "gz with half a trailer": ("a.nii.gz", PACKED[:-4], "cut off"),
    "gz with wrong checksum": ("a.nii.gz", flip(PACKED, -6), "damaged"),
    "gz with wrong length": ("a.nii.gz", flip(PACKED, -2), "damaged"),
    "gz with a flipped bit": ("a.nii.gz", flip(PACKED, len(PACKED) // 2), "damaged"),
    "garbage after gz": ("a.nii.gz", PACKED + b"garbage" * 9, "damaged"),
    "little garbage after gz": ("a.nii.gz", PACKED + b"garbage", "cut off or followed"),
    "header only": ("a.nii", header_with(), "states 2992 bytes, it holds 352"),
    "header only, gz": ("a.nii.gz", gzip.compress(header_with()), "2992 bytes, it holds 352"),
    "short data": ("a.nii", healthy()[:-100], "states 2992 bytes, it holds 2892"),
    "short data, gz": ("a.nii.gz", gzip.compress(healthy()[:-100]), "it holds 2892"),
    "within the header": ("a.nii", healthy()[:200], "200 of 348 bytes"),
    "zero bytes": ("a.nii.gz", b"", "empty"),
    "git-lfs pointer": ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\n", "git lfs"),
    "git-annex pointer": ("a.nii.gz", b"/annex/objects/MD5E-s1--0.nii.gz\n", "git annex"),
    "html page": ("a.nii.gz", b"<!DOCTYPE html><html></html>", "no NIfTI"),
    "bad magic": ("a.nii", header_with(magic=b"nix") + VOXEL_BYTES, "no NIfTI signature"),
    "dim[0] of 0": ("a.nii", header_with(dim=[0] * 8) + VOXEL_BYTES, "dim[0]=0"),
    "axis of 0": ("a.nii", header_with(dim=[3, 12, 0, 10, 1, 1, 1, 1]) + VOXEL_BYTES, "without"),
    "axis below 0": ("a.nii", header_with(dim=[3, 12, -11, 10, 1, 1, 1, 1]), "without voxels"),
    "bomb": ("a.nii", header_with(dim=[3, *[32767] * 3, 1, 1, 1, 1]), str(32767**3 * 2 + 352)),
    "bomb, gz": (
        "a.nii.gz",
        gzip.compress(header_with(dim=[3, *[2000] * 3, 1, 1, 1, 1])),
        "states 16000000352 bytes, it holds at most",
    ),
    "offset beyond the end": ("a.nii", header_with(vox_offset=1e9) + VOXEL_BYTES, "states"),
    "offset NaN": ("a.nii", header_with(vox_offset=np.nan) + VOXEL_BYTES, "vox_offset=nan"),
    "offset in the header": ("a.nii", header_with(vox_offset=100) + VOXEL_BYTES, "vox_offset=100"),
    "slope 2 and inter NaN": (
        "a.nii",
        header_with(scl_slope=2, scl_inter=np.nan) + VOXEL_BYTES,
        "scl_inter=nan",
    ),
    "rgb": ("a.nii", header_with(datatype=128) + VOXEL_BYTES * 2, "convert to scalar"),
    "complex": ("a.nii", header_with(datatype=32) + VOXEL_BYTES * 4, "convert to scalar"),
    "one bit per voxel": ("a.nii", header_with(datatype=1) + VOXEL_BYTES, "convert to scalar"),
    "unknown type": ("a.nii", header_with(datatype=7) + VOXEL_BYTES, "datatype=7"),
    "pair without its half": ("a.nii", header_with(magic=b"ni1"), "not beside it"),
}


def read_as_image(path: Path) -> None:
    read_image(path)


def read_as_labels(path: Path) -> None:
    read_labels(path, num_classes=None)


@pytest.fixture(params=[read_as_image, read_as_labels])
def read(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    return request.param


def refused(read: Callable[[Path], None], path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "; " in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_file_is_refused_by_name(
    fault: str, read: Callable[[Path], None], tmp_path: Path
) -> None:
    name, content, expected = FAULTS[fault]
    path = tmp_path / name
    path.write_bytes(content)
    assert expected in refused(read, path)


@pytest.mark.parametrize("kind", ["missing", "folder", "loop", "pipe", "x" * 300])
def test_what_is_no_file_is_refused_and_does_not_hang(
    kind: str, read: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / f"{kind}.nii"
    match kind:
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "pipe":
            os.mkfifo(path)
    refused(read, path)


def test_file_without_permission(
    read: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(healthy())

    def deny(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", deny)  # root may read a file of mode 0
    assert "may not be read" in refused(read, path)


def test_newline_in_a_name_stays_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.nii"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"two\\nlines.nii: is empty") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_volume_larger_than_the_memory_is_refused_with_numbers(
    read: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(PACKED)
    monkeypatch.setattr("medseg.volumes.container.available_memory_bytes", lambda: 1000)
    assert "GiB of memory" in refused(read, path)


@pytest.mark.parametrize("content", [healthy(), PACKED])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.dat"])
def test_content_decides_and_a_wrong_name_is_noted(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    volume = read_image(path)
    assert volume.array.shape == (1, 12, 11, 10)
    right = name == ("a.nii.gz" if content is PACKED else "a.nii")
    assert any("although its name" in note for note in volume.notes) != right


def test_gzip_of_several_members_is_read(tmp_path: Path) -> None:
    content, path = healthy(), tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content[:999]) + gzip.compress(content[999:]))
    expected = nib.Nifti1Image.from_bytes(content).get_fdata()
    np.testing.assert_array_equal(read_image(path).array[0], expected)


def test_bytes_after_the_last_voxel_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(healthy() + b"tail")
    assert "holds 4 bytes after its last voxel; they are ignored" in read_image(path).notes


def test_corrupt_extension_does_not_matter(tmp_path: Path) -> None:
    header = bytearray(header_with(vox_offset=368))
    header[348] = 1
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(header) + b"\xff" * 16 + VOXEL_BYTES)
    assert not read_image(path).array.any()


@pytest.mark.parametrize("name", ["scán ünd 心.nii.gz", "a 'b' \"c\".nii.gz", "-x.nii.gz"])
def test_unusual_names_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(PACKED)
    assert read_image(path).array.shape == (1, 12, 11, 10)


def test_signature_of_the_other_version_is_refused(tmp_path: Path) -> None:
    content = bytearray(nib.Nifti2Image(np.ones((2, 3, 4), np.int16), np.eye(4)).to_bytes())
    content[4:7] = b"n+1"
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    with pytest.raises(DataError, match="no NIfTI signature"):
        read_image(path)
