"""`medseg predict`: what the shell sees, and what is given to it as a model."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.main import main as medseg
from medseg.cli.predict import main
from medseg.resources import limit_memory

from .user import User

SaveScan = Callable[..., Path]
MakeModel = Callable[..., Path]


def command(source: Path, model: Path, *options: str) -> list[str]:
    return ["-m", str(model), "-i", str(source), "-o", str(source.parent / "out"), *options]


def test_the_command_of_the_shell_predicts_and_refuses_whatever_the_terminal_can_show(
    model_folder: Path, save_scan: SaveScan, scan: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = save_scan(scan, "my 脳.nii.gz"), save_scan(scan, "bad.nii.gz")
    bad.write_bytes(bad.read_bytes()[:-20])
    words = ["-i", str(good), str(bad), "-m", str(model_folder), "-o", str(good.parent / "out")]
    monkeypatch.setattr(sys, "argv", ["medseg", "predict", *words])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit) as end:
        medseg()
    assert end.value.code == 3
    out, err = (shown.detach().getvalue().decode() for shown in (sys.stdout, sys.stderr))
    assert out.startswith(f"[1/2] {good.parent}/out/my \\u8133.nii.gz")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(err.splitlines()) == 2
    assert str(bad) in errors[0]
    assert nib.load(good.parent / "out" / good.name).shape == scan.shape


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--overlap", "1.0"], 2, "overlap=1.0 must lie in [0, 1)"),
        (["--overlap", "-0.1"], 2, "overlap=-0.1 must lie in [0, 1)"),
        (["--overlap", "nan"], 2, "overlap=nan must lie in [0, 1)"),
        (["--device", "tpu"], 2, "device='tpu' must be one of auto, cpu, cuda, cuda:N"),
        (["--device", "cuda:99"], 4, "device=cuda:99, but torch sees"),
        (["--window", "16", "16"], 2, "--window=16 16 must hold 3 numbers"),
        (["--window", "1", "1", "1"], 2, "patch_size=[1, 1, 1] shrinks"),
        (["--max-memory", "1MB"], 4, "a limit of 1 MiB of memory"),
    ],
)
def test_impossible_values_are_refused_in_one_line_before_anything_is_read(
    options: list[str],
    code: int,
    message: str,
    model_folder: Path,
    save_scan: SaveScan,
    scan: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = save_scan(scan)
    source.write_bytes(b"never read")
    assert main(command(source, model_folder, *options)) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_inputs_that_are_missing_or_hold_nothing_are_refused(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, fault in (
        (empty, "is a folder without volumes"),
        (tmp_path / "no", "does not exist"),
    ):
        assert main(command(source, make_model())) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {source}: ")
        assert fault in line
    assert not (tmp_path / "out").exists()


def no_model(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("weights?")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("missing", lambda _: None, "there is no such folder"),
        ("folder", no_model, "holds no model"),
        ("readme.txt", text, "not a model"),
        ("weights.safetensors", text, "damaged"),
        ("last.ckpt", text, "not a checkpoint"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(
    name: str,
    make: Callable,
    message: str,
    user: User,
    save_scan: SaveScan,
    scan: np.ndarray,
    tmp_path: Path,
) -> None:
    path = tmp_path / "models" / name
    path.parent.mkdir()
    make(path)
    assert user.types(save_scan(scan), model=path) == 3
    (line,) = user.errors
    assert line.startswith(f"error: {path}: ")
    assert message in line
    assert user.written() == []


@pytest.mark.parametrize("word", ["potato", "-1GB", "0", "0.0001B", "8XB"])
def test_what_is_no_amount_of_memory_is_wrong_usage(word: str, model_folder: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["-m", str(model_folder), "-i", "x", "-o", "out", f"--max-memory={word}"])
    assert end.value.code == 2


def test_a_limit_of_memory_changes_no_label_and_says_how_it_is_kept(
    model_folder: Path, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan)
    out = source.parent / "out" / source.name
    assert main(command(source, model_folder)) == 0
    plain = np.asarray(nib.load(out).dataobj)
    try:
        limited = command(source, model_folder, "--max-memory", "64GB", "--overwrite")
        assert main(limited) == 0
    finally:
        limit_memory(0)
    np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj), plain)
    report = json.loads(out.with_name("scan.json").read_text())
    assert report["precision"] == "fp32"  # the card tells nothing of bf16
