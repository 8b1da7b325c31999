"""`medseg predict`: every input is in the output, in the list of failures, or named as skipped."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.inference import files as inference_files
from medseg.inference.ensemble import Ensemble
from medseg.models.weights import load_model, save_model

from .user import User

SaveScan = Callable[..., Path]


def failures(user: User) -> dict[str, str]:
    path = user.output / "failures.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_every_entry_of_a_folder_is_accounted_for(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    folder = save_scan(scan, "in/good.nii.gz").parent
    save_scan(scan, "in/twin.nii")
    save_scan(scan, "in/twin.nii.gz")
    os.mkfifo(folder / "pipe.nii")
    links = [("loop1", "loop2.nii"), ("loop2", "loop1.nii"), ("gone", "nothing.nii")]
    for name, target in [*links, ("again", "good.nii.gz")]:
        (folder / f"{name}.nii").symlink_to(target)
    long = save_scan(scan, f"in/{'l' * 251}.nii")
    for name in ("notes.txt", "scan.dcm", "._good.nii.gz", "sub/x.nii"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert user.types(folder) == 3
    said = "\n".join(user.errors)
    failed = {Path(path).name for path in failures(user)}
    bad = {"twin.nii", "twin.nii.gz", "pipe.nii", "loop1.nii", "loop2.nii", "gone.nii"}
    assert failed == bad | {long.name}
    reports = [user.output / n for n in user.written() if n.endswith(".json") and n[0] != "f"]
    done = {json.loads(report.read_text())["input"] for report in reports}
    for entry in folder.iterdir():
        assert entry.name in failed or str(entry) in done or entry.name in said, entry
    assert (user.output / "good.nii.gz").exists() or (user.output / "again.nii.gz").exists()


@pytest.mark.parametrize("bytes_of_name", [234, 235, 248])
def test_a_long_name_fails_alone_or_not_at_all(
    bytes_of_name: int, user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    long, good = save_scan(scan, "é" * (bytes_of_name // 2) + ".nii.gz"), save_scan(scan)
    assert user.types(long, good) == 0
    assert user.types(long, good, options="--overwrite --probabilities") in (0, 3)
    assert list(failures(user)) in ([], [str(long)])
    assert (user.output / "scan_probabilities.nii.gz").exists()


def test_outputs_of_two_volumes_that_have_one_name_are_told_beforehand(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    sources = [save_scan(scan, f"{name}.nii") for name in ("a", "a_probabilities", "failures", "b")]
    assert user.types(*sources, options="--probabilities --overwrite") == 3
    assert set(failures(user)) == {str(sources[1]), str(sources[2])}
    assert nib.load(user.output / "a_probabilities.nii.gz").ndim == 4
    assert user.types(*sources[:2], options="--overwrite") == 0


@pytest.mark.parametrize(
    "error",
    [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), MemoryError(),
     IndexError("boom"), AssertionError(), RecursionError("deep"), ZeroDivisionError("\n")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_nobody_foresaw_is_one_volumes_failure(
    error: Exception,
    user: User,
    save_scan: SaveScan,
    scan: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, good = save_scan(scan, "a.nii.gz"), save_scan(scan, "b.nii.gz")
    predict = Ensemble.predict

    def fails(self, volume, **options):
        if volume.path == bad:
            raise error
        return predict(self, volume, **options)

    monkeypatch.setattr(Ensemble, "predict", fails)
    assert user.types(bad, good) == 3
    assert list(failures(user)) == [str(bad)]
    assert (user.output / "b.nii.gz").exists()
    traces = user.output / "failures.log"
    is_short_of_memory = "memory" in failures(user)[str(bad)]
    assert traces.exists() != is_short_of_memory
    assert is_short_of_memory or "Traceback" in traces.read_text()
    monkeypatch.undo()
    assert user.types(bad, good, options="--continue") == 0
    assert user.written() == ["a.json", "a.nii.gz", "b.json", "b.nii.gz"]


def test_probabilities_of_an_older_result_do_not_stay_beside_a_new_one(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan)
    assert user.types(source, options="--probabilities") == 0
    assert user.types(source, options="--overwrite --overlap 0.25") == 0
    assert user.written() == ["scan.json", "scan.nii.gz"]
    assert "scan_probabilities.nii.gz" in user.errors[0]


@pytest.mark.parametrize("options", ["--overlap 0.25", "--prefer qform", "--probabilities"])
def test_other_options_are_another_result(
    options: str, user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan)
    assert user.types(source) == 0
    assert user.types(source, options=f"--continue {options}") == 0
    assert "already done" not in user.out[0]
    assert user.types(source, options=f"--continue {options}") == 0
    assert "already done" in user.out[0]


def other_weights(user: User) -> None:
    model = load_model(user.model)
    user.model = user.output.with_name("other")
    with torch.no_grad():
        next(model.network.parameters()).add_(1)
    save_model(user.model, model.network, model.card)


def broken(name: str, end: int | None, text: bytes = b"") -> Callable[[User], None]:
    def damage(user: User) -> None:
        path = user.output / name
        path.write_bytes(path.read_bytes()[:end] + text)

    return damage


CHANGES = {
    "other weights": other_weights,
    "a cut label map": broken("scan.nii.gz", -9),
    "an empty label map": broken("scan.nii.gz", 0),
    "a cut report": broken("scan.json", -9),
    "another report": broken("scan.json", 0, b"[]"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_broken_or_of_other_weights_is_not_taken_for_done(
    change: Callable[[User], None], user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan)
    assert user.types(source) == 0
    change(user)
    user.types(source, options="--continue")
    assert not any("already done" in line for line in user.out)


@pytest.mark.parametrize("changed", [".hdr", ".img"])
def test_both_files_of_a_pair_are_watched(
    changed: str, user: User, scan: np.ndarray, tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Pair(scan, np.eye(4)), tmp_path / "scan.img")
    source = tmp_path / "scan.hdr"
    assert user.types(source) == 0
    other = tmp_path / "other" / "scan.img"
    other.parent.mkdir()
    nib.save(nib.Nifti1Pair(scan[::-1], np.diag([2.0, 1, 1, 1])), other)
    (tmp_path / f"scan{changed}").write_bytes(other.with_suffix(changed).read_bytes())
    assert user.types(source, options="--continue") == 0
    assert "already done" not in user.out[0]


def test_a_kill_between_the_files_of_a_case_is_made_good(
    user: User, save_scan: SaveScan, scan: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, replace = save_scan(scan), Path.replace

    def killed(part: Path, target: Path) -> Path:
        if target.name == "scan.json":
            raise KeyboardInterrupt
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", killed)
    assert user.types(source) == 130
    monkeypatch.undo()
    assert user.types(source, options="--continue") == 0
    assert user.written() == ["scan.json", "scan.nii.gz"]


def test_a_full_disk_ends_the_row_and_leaves_no_half_a_case(
    user: User, save_scan: SaveScan, scan: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(inference_files, "write_text", full)
    assert user.types(save_scan(scan), options="--probabilities") in (3, 4)
    assert not [name for name in user.written() if name.startswith("scan")]


@pytest.mark.parametrize("name", ["seg.json", "seg.mha", "a.b/seg.CSV"])
def test_a_folder_for_results_is_not_named_like_a_file(
    name: str, user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    user.output = user.output / name
    assert user.types(save_scan(scan)) == 2
    assert not user.output.exists()
    user.output.mkdir(parents=True)
    assert user.types(save_scan(scan)) == 0
