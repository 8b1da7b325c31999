import json
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from medseg.data import reading
from medseg.data.cache import PreparedCase, prepare_cases
from medseg.data.dataset import Case
from medseg.data.forms import read_dataset
from medseg.data.phantom import Phantom
from medseg.data.preprocess import Preprocessing, Window, ZScore
from medseg.data.reading import read_case
from medseg.errors import DataError, ResourceError
from medseg.volumes import read_image, read_labels

from ..pairwise import covering

PREPROCESSING = Preprocessing(intensity=ZScore(), spacing=(None, None, 2.0))
Prepare = Callable[..., list[PreparedCase]]


@pytest.fixture
def cases(phantom: Path, tmp_path: Path) -> list[Case]:
    """Three cases whose files may be damaged."""
    folder = shutil.copytree(phantom, tmp_path / "dataset")
    return list(read_dataset(folder).cases[:3])


@pytest.fixture
def prepare(cases: list[Case], tmp_path: Path) -> Prepare:
    def _prepare(**changes) -> list[PreparedCase]:
        options = {"preprocessing": PREPROCESSING, "in_channels": 1, "num_classes": 3}
        options |= {"cases": cases, "cache": tmp_path / "cache"} | changes
        return prepare_cases(options.pop("cases"), options.pop("preprocessing"), **options)

    return _prepare


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that were read from now on."""
    paths: list[Path] = []

    def spied(read):
        def _read(path, **options):
            paths.append(path)
            return read(path, **options)

        return _read

    monkeypatch.setattr(reading, "read_image", spied(read_image))
    monkeypatch.setattr(reading, "read_labels", spied(read_labels))
    return paths


def resave(path: Path, change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += shift
    array = change(np.asanyarray(image.dataobj).copy())
    nib.Nifti1Image(array, affine).to_filename(path)


def centres(case: PreparedCase) -> list[np.ndarray]:
    return np.split(case.arrays["centres"].read(), np.cumsum(case.counts)[:-1])


def everything(case: PreparedCase) -> list[bytes]:
    counts = enumerate(case.counts)
    drawn = [case.centre(value, n) for value, count in counts for n in range(0, count, 500)]
    return [case.image.numpy().tobytes(), case.label.numpy().tobytes(), bytes(str(drawn), "ascii")]


def test_tensors_are_those_of_the_preprocessing(prepare: Prepare, cases: list[Case]) -> None:
    prepared = prepare()
    assert [p.case_id for p in prepared] == [c.case_id for c in cases]
    for case, found in zip(cases, prepared, strict=True):
        image = read_image(case.image)
        labels = PREPROCESSING.labels(read_labels(case.label, num_classes=3))
        assert torch.equal(found.image, PREPROCESSING.image(image))
        assert torch.equal(found.label, labels[None])
        assert found.image.dtype == torch.float32
        assert found.label.dtype == torch.uint8
        assert found.spacing == PREPROCESSING.grid_spacing(image)
        assert found.notes == ()


def test_a_second_call_reads_nothing_and_gives_the_same(
    prepare: Prepare, reads: list[Path], cases: list[Case]
) -> None:
    first = prepare()
    assert sorted(reads) == sorted(p for c in cases for p in (c.image, c.label))
    reads.clear()
    second = prepare()
    assert reads == []
    assert second == first
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.label, other.label)


@pytest.mark.parametrize("part", ["image", "label"])
@pytest.mark.parametrize("change", ["content", "time"])
def test_a_changed_file_is_read_again_and_no_other(
    part: str, change: str, prepare: Prepare, reads: list[Path], cases: list[Case]
) -> None:
    before = prepare()
    reads.clear()
    path = getattr(cases[1], part)
    status = path.stat()
    if change == "content":
        resave(path, lambda array: np.minimum(array, 1))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    after = prepare()
    assert reads == [cases[1].image, cases[1].label]
    assert [b.folder == a.folder for b, a in zip(before, after, strict=True)] == [True, False, True]
    same = torch.equal(getattr(after[1], part), getattr(before[1], part))
    assert same == (change == "time")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 4},
        {"preprocessing": Preprocessing(intensity=ZScore())},
        {"preprocessing": replace(PREPROCESSING, crop="nonzero")},
        {"preprocessing": Preprocessing(intensity=ZScore(nonzero=True), spacing=(None, None, 2))},
        {"preprocessing": Preprocessing(intensity=Window(low=0, high=1), spacing=(None, None, 2))},
        {
            "preprocessing": Preprocessing(
                intensity=ZScore(), spacing=(None, None, 2), spatial_dims=2
            )
        },
    ],
)
def test_another_preprocessing_has_its_own_place(changes: dict, prepare: Prepare) -> None:
    first, second = prepare(), prepare(**changes)
    assert not {p.folder for p in first} & {p.folder for p in second}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def alter_a_byte(path: Path) -> None:
    content, time = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@covering(
    name=["case.json", "image.chunks", "label.chunks", "centres.chunks"],
    damage=[cut_short, alter_a_byte, empty, Path.unlink],
)
def test_a_damaged_file_is_noticed_when_read_said_and_made_again(
    name: str,
    damage: Callable[[Path], None],
    prepare: Prepare,
    cases: list[Case],
    reads: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = prepare()
    files = {path.name: path.read_bytes() for path in whole[1].folder.iterdir()}
    content = everything(whole[1])
    damage(whole[1].folder / name)
    reads.clear()
    caplog.clear()
    assert prepare() == whole
    assert everything(whole[1]) == content
    assert reads == [cases[1].image, cases[1].label]
    assert {path.name: path.read_bytes() for path in whole[1].folder.iterdir()} == files
    said = [message for message in caplog.messages if cases[1].case_id in message]
    assert len(said) == len(caplog.messages) == (damage is not Path.unlink or name != "case.json")
    reads.clear()
    prepare()
    assert not reads


def test_damage_during_training_is_put_right_unless_the_files_were_changed(
    prepare: Prepare, cases: list[Case], reads: list[Path]
) -> None:
    first, second, _ = prepare()
    right = everything(first), everything(second)
    for case in (first, second):
        alter_a_byte(case.folder / "image.chunks")
        (case.folder / "label.chunks").unlink()
    reads.clear()
    assert everything(first) == right[0]
    assert reads == [cases[0].image, cases[0].label]
    resave(cases[1].image, lambda array: array + 1)
    with pytest.raises(DataError, match=rf"{second.case_id}.*start again"):
        _ = second.image


def test_a_cache_that_cannot_be_written_is_refused_by_its_option(
    prepare: Prepare, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(ResourceError, match=r"data\.cache="):
        prepare(cache=file)
    assert file.read_text() == "not a folder"


def test_two_that_prepare_the_same_cases_do_the_work_once(
    prepare: Prepare, cases: list[Case], reads: list[Path]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        one, *others = (future.result() for future in [pool.submit(prepare) for _ in range(3)])
    assert others == [one, one]
    assert sorted(reads) == sorted(p for c in cases for p in (c.image, c.label))


def test_threads_of_torch_are_as_many_after_as_before(prepare: Prepare) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        prepare()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("part", ["image", "label"])
@pytest.mark.parametrize("suffix", [".hdr", ".mhd"])
def test_both_files_of_a_pair_are_watched(
    suffix: str, part: str, prepare: Prepare, cases: list[Case], tmp_path: Path
) -> None:
    files = {}
    for name in ("image", "label"):
        volume = sitk.ReadImage(getattr(cases[0], name))
        files[name] = tmp_path / f"{name}{suffix}"
        sitk.WriteImage(volume, files[name])
    case = Case(case_id="pair", images=(files["image"],), label=files["label"])
    (before,) = prepare(cases=[case])
    voxels = next(p for p in tmp_path.glob(f"{part}.*") if p.suffix in (".img", ".raw"))
    content = voxels.read_bytes()
    voxels.write_bytes(bytes(len(content)))
    (after,) = prepare(cases=[case])
    assert not getattr(after, part).any() or part == "image"
    assert after.folder != before.folder
    assert after.sha256 != before.sha256


def test_the_same_case_in_other_files_and_orientations_is_known_by_its_content(
    prepare: Prepare, cases: list[Case]
) -> None:
    for part in ("image", "label"):
        volume = nib.load(getattr(cases[0], part))
        turn = ornt_transform(io_orientation(volume.affine), axcodes2ornt("SAL"))
        nib.save(volume.as_reoriented(turn), getattr(cases[1], part))
    one, two, other = prepare()
    assert one.image_sha256 == two.image_sha256 != other.image_sha256
    assert one.sha256 == two.sha256 != other.sha256


@pytest.mark.parametrize("spacing", [None, (2.0, 2.0, 2.0)])
def test_classes_beyond_255_are_kept(
    spacing: tuple | None, prepare: Prepare, cases: list[Case]
) -> None:
    resave(cases[0].label, lambda array: array.astype(np.uint16) * 150)
    preprocessing = Preprocessing(intensity=ZScore(), spacing=spacing)
    for case in prepare(num_classes=301, preprocessing=preprocessing):
        assert case.label.dtype == torch.int32
    assert prepare(num_classes=301, preprocessing=preprocessing)[0].classes == (150, 300)


def test_ignored_voxels_are_of_no_class(prepare: Prepare, cases: list[Case]) -> None:
    preprocessing = Preprocessing(intensity=ZScore(), label_values={2: "ignore"})
    case = prepare(num_classes=2, preprocessing=preprocessing)[0]
    ignored = case.label.flatten().numpy() == 2
    assert ignored.any()
    assert not ignored[np.concatenate(centres(case))].any()
    resave(cases[1].label, lambda array: np.full_like(array, 2))
    with pytest.raises(DataError, match="ignored"):
        prepare(num_classes=2, preprocessing=preprocessing)


def test_cropped_cases_are_cut_alike_and_lost_foreground_is_said(
    prepare: Prepare, cases: list[Case], caplog: pytest.LogCaptureFixture
) -> None:
    inside = np.s_[2:-3, 1:-1, 4:-2]

    def cropped(array: np.ndarray) -> np.ndarray:
        found = np.zeros_like(array)
        found[inside] = array[inside] + 3  # nowhere 0
        return found

    def far(array: np.ndarray) -> np.ndarray:
        found = np.zeros_like(array)
        found[inside] = array[inside]
        found[0, 0, :2] = 1
        return found

    resave(cases[0].image, cropped)
    resave(cases[0].label, far)
    preprocessing = replace(PREPROCESSING, crop="nonzero")
    for _ in range(2):  # the second time out of the cache
        caplog.clear()
        case, *others = prepare(preprocessing=preprocessing)
        assert (case.outside, [other.outside for other in others]) == (2, [0, 0])
        (said,) = (r.message for r in caplog.records if "data.crop" in r.message)
        assert case.case_id in said
        assert "2 voxels" in said
    image, label = read_case(cases[0], None, in_channels=1, num_classes=3)
    inner = {"array": image.array[(slice(None), *inside)]}, {"array": label.array[inside]}
    image, label = (replace(v, **own) for v, own in zip((image, label), inner, strict=True))
    assert torch.equal(case.image, PREPROCESSING.image(image))
    assert torch.equal(case.label[0], PREPROCESSING.labels(label))
    assert case.image_sha256 == prepare()[0].image_sha256  # the content of the files
    ignored = replace(preprocessing, label_values={0: "ignore", 1: 0, 2: "ignore"})
    resave(cases[0].label, lambda array: np.uint8(np.indices(array.shape)[0] == 0))
    with pytest.raises(DataError, match="ignored"):
        prepare(cases=cases[:1], preprocessing=ignored, num_classes=2)


def test_every_bad_case_is_listed_in_one_error_and_the_good_ones_are_kept(
    phantom: Path, tmp_path: Path, prepare: Prepare, reads: list[Path]
) -> None:
    cases = list(read_dataset(shutil.copytree(phantom, tmp_path / "bad")).cases)
    good = cases.pop()
    content = cases[0].image.read_bytes()
    cases[0].image.write_bytes(content[: len(content) // 2])
    resave(cases[1].label, lambda array: array, shift=4.0)
    resave(cases[2].label, lambda array: array + 1)
    resave(cases[3].image, lambda array: np.where(array > 0.5, np.nan, array))
    resave(cases[4].image, lambda array: np.stack([array] * 3, -1))
    with pytest.raises(DataError) as refusal:
        prepare(cases=[*cases, good])
    first, *lines = str(refusal.value).splitlines()
    assert first == "5 of 6 cases are unusable:"
    faults = ["cut off", "grid lies", "labels outside 0..2: 3", "NaN", "must be 1 channel"]
    for line, case, fault in zip(lines, cases, faults, strict=True):
        assert fault in line
        assert case.case_id in line
    reads.clear()
    assert prepare(cases=[good])[0].case_id == good.case_id
    assert reads == []


def test_a_file_that_has_gone_is_refused_by_name(prepare: Prepare, cases: list[Case]) -> None:
    cases[2].label.unlink()
    with pytest.raises(DataError, match=rf"1 of 3 .*\n{cases[2].label}: .*restore it"):
        prepare()


def test_what_is_done_to_a_tensor_never_reaches_the_cache(prepare: Prepare) -> None:
    case = prepare()[0]
    before = case.image.clone()
    case.image.zero_()
    assert torch.equal(case.image, before)


def test_centres_are_the_voxels_of_their_class(prepare: Prepare) -> None:
    for case in prepare():
        labels = case.label.flatten().numpy()
        for value, flat in enumerate(centres(case)):
            assert [case.centre(value, number) for number in range(3)] == flat[:3].tolist()
            np.testing.assert_array_equal(flat, np.flatnonzero(labels == value))


def test_a_case_without_foreground_is_kept_and_mentioned(
    prepare: Prepare, cases: list[Case], caplog: pytest.LogCaptureFixture
) -> None:
    resave(cases[0].label, np.zeros_like)
    for _ in range(2):  # the second time out of the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="medseg"):
            prepared = prepare()
        notes = [case.notes for case in prepared]
        assert notes == [("no foreground: patches are drawn from the background",), (), ()]
        assert caplog.messages == [f"{cases[0].case_id}: {notes[0][0]}"]
    assert prepared[0].counts == (prepared[0].label.numel(), 0, 0)


def test_the_cache_may_lie_at_home(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    prepared = prepare(cache=Path("~/kept"))
    assert prepared[0].folder.parent == tmp_path / "kept"
    content = json.loads((prepared[0].folder / "case.json").read_text())
    assert content["spacing"] == list(prepared[0].spacing)
    assert not (tmp_path / "~").exists()


def test_centres_of_a_large_class_are_a_sample_of_it(tmp_path: Path, prepare: Prepare) -> None:
    folder = Phantom(root=tmp_path / "large", cases=2, shape=(40, 40, 40), spacing=(1, 1, 2))
    for case in prepare(cases=read_dataset(folder.prepare()).cases):
        background, *_ = centres(case)
        assert (case.label == 0).sum() > 20_000
        assert len(np.unique(background)) == len(background) == 20_000
        assert not case.label.flatten().numpy()[background].any()
