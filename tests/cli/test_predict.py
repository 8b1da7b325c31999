"""`medseg predict` as a user meets it: exit codes, messages, what lies on disk."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import ResourceError
from medseg.inference import files as inference_files
from medseg.inference.ensemble import Ensemble
from medseg.inference.predictor import Predictor
from medseg.models.weights import load_model

from .user import User

SaveScan = Callable[..., Path]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF
    path.write_bytes(content)


def test_a_file_becomes_a_label_map_and_a_report(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan, "case.nii.gz")
    assert user.types(source) == 0
    assert user.written() == ["case.json", "case.nii.gz"]
    assert user.errors == []
    (line,) = user.out
    assert line.startswith(f"[1/1] {user.output / 'case.nii.gz'}  ")
    predictor = Predictor(load_model(user.model), device="cpu")
    stored = np.asanyarray(nib.load(user.output / "case.nii.gz").dataobj)
    assert stored.shape == scan.shape
    assert len(np.unique(stored)) > 1
    report = json.loads((user.output / "case.json").read_text())
    assert report["window"]["overlap"] == predictor.overlap == 0.5


def test_options_reach_the_prediction(user: User, scan: np.ndarray, tmp_path: Path) -> None:
    image = nib.Nifti1Image(scan, None)
    image.set_sform(np.diag([1.0, 1, 1, 1]), 1)
    image.set_qform(np.diag([1.0, 1, 2, 1]), 1)
    source = tmp_path / "case.nii"
    image.to_filename(source)
    assert user.types(source, options="--probabilities --overlap 0.25 --prefer qform") == 0
    assert user.written() == ["case.json", "case.nii.gz", "case_probabilities.nii.gz"]
    report = json.loads((user.output / "case.json").read_text())
    assert report["window"]["overlap"] == 0.25
    assert report["geometry"]["source"] == "qform"
    (warning,) = user.errors
    assert warning.startswith(f"warning: {source}: sform and qform disagree")


def test_files_and_folders_are_predicted_together_each_once(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    one, two = save_scan(scan, "in/one.nii.gz"), save_scan(scan, "in/two.nii")
    save_scan(scan, "in/.hidden.nii.gz")
    (one.parent / "notes.txt").write_text("no volume")
    three = save_scan(scan, "three.nii.gz")
    assert user.types(three, one.parent, two) == 0
    assert user.written() == [
        f"{n}{s}" for n in ("one", "three", "two") for s in (".json", ".nii.gz")
    ]
    assert [line.split()[0] for line in user.out] == ["[1/3]", "[2/3]", "[3/3]"]


NAMES = ["a b", "Größe-脳", "scan (1)", "x,y", "k=v", "it's", "[0]", "50%", "-dash", "a.b.c", "~"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_keeps_its_name(
    name: str, user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan, f"in {name}/{name}.nii.gz")
    assert user.types(source) == 0
    assert user.written() == sorted([f"{name}.json", f"{name}.nii.gz"])
    assert json.loads((user.output / f"{name}.json").read_text())["input"] == str(source)
    assert user.types(source.parent, options="--continue") == 0
    assert user.out == [f"[1/1] {source}: already done"]


def test_bad_files_are_listed_and_do_not_stop_the_good_one(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    bad = {
        "a_cut": (truncate, "cut off"),
        "b_checksum": (break_checksum, "damaged"),
        "c_empty": (lambda path: path.write_bytes(b""), "is empty"),
        "d_text": (lambda path: path.write_text("not a volume\n"), "is no NIfTI"),
        "e_pair": (lambda p: nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 2)), None), p), "channel"),
    }
    for name, (damage, _) in bad.items():
        damage(save_scan(scan, f"in/{name}.nii.gz"))
    folder = save_scan(scan, "in/good.nii.gz").parent
    assert user.types(folder) == 3
    assert user.written() == ["failures.json", "good.json", "good.nii.gz"]
    assert len(user.out) == 1
    failures = json.loads((user.output / "failures.json").read_text())
    assert list(failures) == [str(folder / f"{name}.nii.gz") for name in bad]
    *lines, last = user.errors
    assert last == f"error: 5 of 6 volumes failed; see {user.output / 'failures.json'}"
    for line, (path, message), (_, fault) in zip(
        lines, failures.items(), bad.values(), strict=True
    ):
        assert line == f"error: {message}"
        assert message.startswith(path)
        assert fault in message


def test_failures_are_forgotten_when_all_is_well(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan)
    content = source.read_bytes()
    truncate(source)
    assert user.types(source) == 3
    assert user.written() == ["failures.json"]
    source.write_bytes(content)
    assert user.types(source) == 0
    assert user.written() == ["scan.json", "scan.nii.gz"]


@pytest.mark.parametrize("existing", ["scan.nii.gz", "scan.json", "scan_probabilities.nii.gz"])
def test_what_exists_is_refused_unless_it_may_be_overwritten(
    existing: str, user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source, other = save_scan(scan), save_scan(scan, "other.nii.gz")
    user.output.mkdir()
    (user.output / existing).write_text("mine")
    assert user.types(source, other) == 3
    assert (user.output / existing).read_text() == "mine"
    assert user.errors[0] == (
        f"error: {user.output / existing} exists; use --overwrite or --continue"
    )
    assert (user.output / "other.nii.gz").exists()
    assert user.types(source, options="--overwrite --probabilities") == 0
    assert (user.output / existing).read_bytes() != b"mine"


def test_continue_skips_what_is_done_and_does_the_rest(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    sources = [save_scan(scan + n, f"{n}.nii.gz") for n in range(3)]
    assert user.types(*sources) == 0
    assert user.types(*sources) == 3  # nothing is skipped unless that is asked for
    whole = (user.output / "0.nii.gz").stat().st_mtime_ns
    (user.output / "1.nii.gz").unlink()
    save_scan(scan * 2, "2.nii.gz")  # the input has changed
    assert user.types(*sources, options="--continue") == 0
    assert user.out[0] == f"[1/3] {sources[0]}: already done"
    assert [line.count("already") for line in user.out] == [1, 0, 0]
    assert (user.output / "0.nii.gz").stat().st_mtime_ns == whole
    assert user.types(*sources, options="--continue") == 0
    assert all(line.endswith("already done") for line in user.out)
    assert user.types(sources[0], options="--continue --probabilities") == 0
    assert (user.output / "0_probabilities.nii.gz").exists()


def test_continue_replaces_no_file_of_the_user(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    drawn = save_scan((scan > 1).astype(np.uint8), "out/a.nii.gz")  # by hand
    foreign = {drawn: drawn.read_bytes()}
    for name in ("b.json", "c_probabilities.nii.gz", "failures.json"):
        foreign[user.output / name] = b"mine"
        (user.output / name).write_bytes(b"mine")
    sources = [save_scan(scan, f"in/{name}.nii.gz") for name in "abcd"]
    options = "--continue --probabilities"
    assert user.types(*sources, options=options) == 2  # the list of failures is the user's
    (user.output / "failures.json").rename(user.output / "others.json")
    foreign[user.output / "others.json"] = foreign.pop(user.output / "failures.json")
    assert user.types(*sources, options=options) == 3
    assert {path: path.read_bytes() for path in foreign} == foreign
    assert (user.output / "d.nii.gz").exists()
    assert user.types(*sources, options="--overwrite --probabilities") == 0
    assert (user.output / "b.json").read_bytes() != b"mine"


def test_one_input_is_not_overwritten_by_the_output_of_another(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    sources = [save_scan(scan, f"out/{name}.nii") for name in ("a", "b")]
    sources.append(save_scan(scan, "out/a_probabilities.nii.gz"))
    before = sources[2].read_bytes()
    assert user.types(*sources, options="--overwrite --probabilities") == 3
    assert sources[2].read_bytes() == before
    assert (user.output / "b.nii.gz").exists()


def test_an_input_in_the_output_folder_is_never_overwritten(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan, "out/scan.nii.gz")
    before = source.read_bytes()
    link = user.output.with_name("link")
    link.symlink_to(user.output)
    for options in ("", "--overwrite", "--continue"):
        for user.output in (source.parent, link):
            assert user.types(source, options=options) == 3
            assert len(user.errors) == 2
    assert source.read_bytes() == before


def test_an_output_that_cannot_be_written_is_an_error_of_the_machine(
    user: User, save_scan: SaveScan, scan: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        user.output = output
        assert user.types(save_scan(scan)) == 4
        (line,) = user.errors
        assert line.startswith(f"error: cannot write {output}: ")
    assert (tmp_path / "file").read_text() == "in the way"


def test_failures_are_listed_even_where_the_machine_gives_up(
    user: User, save_scan: SaveScan, scan: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ResourceError("cannot write: no space left")

    bad, good = save_scan(scan, "a.nii.gz"), save_scan(scan, "b.nii.gz")
    truncate(bad)
    monkeypatch.setattr(inference_files, "write_text", full)
    assert user.types(bad, good) == 4
    assert user.errors[-1] == "error: cannot write: no space left"
    assert user.written() == ["failures.json"]
    assert list(json.loads((user.output / "failures.json").read_text())) == [str(bad)]


def test_an_interruption_keeps_what_is_done(
    user: User, save_scan: SaveScan, scan: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [save_scan(scan, f"{name}.nii.gz") for name in "ab"]
    predict = Ensemble.predict

    def interrupted(self, volume, **options):
        if volume.path == sources[1]:
            raise KeyboardInterrupt
        return predict(self, volume, **options)

    monkeypatch.setattr(Ensemble, "predict", interrupted)
    assert user.types(*sources) == 130
    assert ["--continue" in line for line in user.errors] == [True]
    assert user.written() == ["a.json", "a.nii.gz"]
