"""What a person at a terminal sees: bars, the end of a run, how to go on, odd terminals."""

import io
import os
import re
import shlex
import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from tests_support import QUICK, the_run, train, when

from medseg.cli.command import run_to_exit_code
from medseg.errors import MedsegError
from medseg.inference import predictor
from medseg.models.weights import TrainedModel, load_model
from medseg.progress import bar
from medseg.record import METRICS, RunRecord


class Terminal(io.StringIO):
    """One screen for standard output and standard error."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_a_training_shows_how_far_it_is_and_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        patch.setattr(sys, "stderr", screen)
        assert train(tmp_path, *QUICK, "trainer.epochs=3") == 0
    text = screen.getvalue()
    bars = [part for part in re.split("[\r\n]", text) if "%|" in part]
    assert any("epoch 3/3" in part and "loss" in part and "Dice" in part for part in bars)
    assert any("held-out cases" in part for part in bars)
    assert any("artifacts: " in part for part in bars)  # minutes, for a large network
    for line in re.finditer(r"\d\d:\d\d:\d\d (INFO|WARNING) ", text):
        assert text[: line.start()][-1:] in ("", "\r", "\n"), "a line is glued to a bar"
    record = RunRecord.read(the_run(tmp_path) / "record.json")
    for name in record.classes:
        values = [case.metrics[name]["dice"] for case in record.cases]
        mean = sum(v for v in values if v is not None) / len(values)
        assert re.search(rf"{name}.*{mean:.3f}", text)
    assert all(metric.title in text for metric in METRICS.values())


def test_where_no_terminal_is_nothing_moves(capsys: pytest.CaptureFixture[str]) -> None:
    with bar(3, "cases") as step:
        step(what="one", note="two")
    assert capsys.readouterr() == ("", "")


def test_what_is_printed_after_ctrl_c_continues_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "läufe (1), alt"
    when(lambda: list(folder.rglob("last.ckpt")), lambda: os.kill(os.getpid(), signal.SIGINT))
    assert train(folder, *QUICK, "trainer.epochs=5000") == 130
    (line,) = [s for s in capsys.readouterr().err.splitlines() if "medseg train" in s]
    words = shlex.split(line[line.index("medseg train") :])
    status = (the_run(folder) / "status.json").read_text(encoding="utf-8")
    assert re.search(r'"share": 0\.\d', status), "an interrupted run is not done"
    monkeypatch.setenv("MEDSEG_CACHE", str(folder / "cache"))
    monkeypatch.chdir(tmp_path)
    done = RunRecord.read(the_run(folder) / "record.json").history
    assert (
        import_module("medseg.cli.train").main([*words[2:], f"trainer.epochs={len(done) + 1}"]) == 0
    )
    assert RunRecord.read(the_run(folder) / "record.json").status == "completed"


@pytest.mark.parametrize(
    ("encoding", "word"),
    [("latin-1", "no such slot: 数据"), ("ascii", "downsample"), ("cp1252", "downsample")],
)
def test_a_terminal_that_is_not_utf_8(
    encoding: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert import_module("medseg.cli.operators").main([word]) == (0 if word == "downsample" else 2)
    sys.stdout.flush()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_behind_standard_output_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert run_to_exit_code(lambda: print("done")) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_closed_standard_output_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert import_module("medseg.cli.operators").main(["downsample"]) == 0


WRONG = {
    "a command": ("main", ["trian"], "train"),
    "an operator": ("explain", ["transpose"], "transposed"),
    "an operator for a slot": ("operators", ["transpose"], "upsample"),
    "a slot": ("operators", ["upsampling"], "upsample"),
    "a flag that is an override": ("train", ["--epochs", "3"], "trainer.epochs="),
    "a flag of another tool": ("train", ["--learning-rate=0.1"], "optimizer.lr="),
    "a flag": ("predict", ["--probabilites", "-o", "c"], "--probabilities"),
    "a page for a folder": ("audit", ["-o", "audit.md"], "folder"),
    "replacing nothing": ("audit", ["--overwrite"], "-o"),
    "a choice": ("match", ["--equal", "paramters"], "parameters"),
}


@pytest.mark.parametrize(("command", "words", "meant"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_word_is_answered(
    command: str,
    words: list[str],
    meant: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["medseg", *words])
    required = ["-m", "a", "-i", "b"] if command == "predict" else []
    module = import_module(f"medseg.cli.{command}")
    try:
        code = module.main() if command == "main" else module.main([*words, *required])
    except SystemExit as leaving:
        code = leaving.code
    assert code == 2
    assert meant in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("audit", ["data=phantom", "--patch-size", "64"]),
        ("audit", ["data=mni152", "--patch-size", "64", "64", "64"]),
        ("match", ["data=phantom", "--patch-size", "64", "64"]),
        ("reach", ["60", "data=phantom", "--spacing", "1", "--patch-size", "64"]),
        ("match", ["data=phantom", "--device", "cpu"]),
    ],
)
def test_numbers_for_each_axis_and_options_of_other_modes(
    command: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_module(f"medseg.cli.{command}").main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ("--device" if "--device" in words else "data.patch_size") in line


def test_a_long_prediction_shows_its_windows_and_a_short_one_nothing(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.zeros(1, 40, 40, 40)
    for seconds, wanted in ((0.0, True), (60.0, False)):
        screen = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", screen)
            patch.setattr(predictor, "SECONDS_SILENT", seconds)
            predictor.Predictor(model, device="cpu").logits(image)
        assert ("/64 " in screen.getvalue()) == wanted


@pytest.mark.parametrize(("runs", "code"), [(["a"], 0), (["a", "b"], 3), ([], 3)])
def test_the_only_model_below_a_folder_is_taken_several_are_listed(
    runs: list[str], code: int, model_folder: Path, tmp_path: Path
) -> None:
    for run in runs:
        shutil.copytree(model_folder, tmp_path / "runs/x" / run / "model")
    (tmp_path / "runs/x").mkdir(parents=True, exist_ok=True)
    for folder in ("runs/x", "runs"):
        if code == 0:
            assert load_model(tmp_path / folder).source.is_file()
            continue
        with pytest.raises(MedsegError) as caught:
            load_model(tmp_path / folder)
        assert caught.value.exit_code == code
        assert all(str(tmp_path / "runs/x" / run) in str(caught.value) for run in runs)
