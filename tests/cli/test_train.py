"""`medseg train` as a user meets it: exit codes, messages, what lies on disk."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tests_support import resume, the_run, train, when

from medseg.record import RunRecord, RunStatus, digest


def test_a_run_leaves_everything_that_is_promised(finished: Path) -> None:
    for name in (
        "config.yaml",
        ".hydra/overrides.yaml",
        "train.log",
        "metrics.csv",
        "split.json",
        "checkpoints/last.ckpt",
        "model/weights.safetensors",
        "model/model.json",
    ):
        assert (finished / name).stat().st_size > 0, name
    assert list(finished.glob("events.out.tfevents.*"))
    assert list((finished / "pictures").glob("*.png"))
    text = (finished / "record.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    record = RunRecord.read(finished / "record.json")
    assert record.status == "completed"
    assert [row["epoch"] for row in record.history] == [1, 2]
    assert {case.case for case in record.cases} == set(record.split["validation"])
    assert {p.name.split(".")[0] for p in (finished / "validation").glob("*.nii.gz")} == {
        case.case for case in record.cases
    }
    assert record.parameters
    assert record.macs
    assert record.peak_memory_bytes
    assert record.artifacts is not None
    assert record.pictures[0].png
    assert record.predicted_memory_bytes
    assert record.memory_before_bytes
    assert record.weights == {"kept": "last", "epoch": 2, "ema": None, "chosen_by": None}
    assert not (finished / "checkpoints/best.ckpt").exists()  # nobody asked for it
    assert record.digest == digest(record.config)
    assert (record.restarts, record.exit_code, record.levels) == (0, 0, {})
    assert all(Path(case.image).is_file() and Path(case.label).is_file() for case in record.cases)
    assert all((finished / case.prediction).is_file() for case in record.cases)
    status = RunStatus.read(finished)
    assert status is not None
    assert (status.status, status.share) == ("completed", 1.0)


def test_one_override_swaps_one_block(finished: Path) -> None:
    record = RunRecord.read(finished / "record.json")
    assert record.blocks["encoder.conv"] == "Dilated(kernel_size=3, dilation=3)"
    assert record.blocks["decoder.conv"] == "Grouped(kernel_size=3, groups=2, shuffle=False)"
    assert record.choices["encoder.conv"] == "dilated"
    assert record.choices["decoder.upsample"] == "bilinear"
    assert record.artifacts is not None
    assert [layer.values["dc_gain"] for layer in record.artifacts.layers] == [0]
    assert record.constant_response == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["conv@model.encoder.conv=grouped", "model.encoder.conv.groups=3"],
            "groups=3 must divide",
        ),
        (["data.patch_size=[1,1,1]"], "single voxel"),
        (["loss._target_=os.system"], "os.system"),
        (["model=monai_unet", "+model.deep_supervision=true"], "deep_supervision"),
        (["optimizer.lr=0.1,0.2"], "with -m"),
    ],
)
def test_an_impossible_run_stops_before_any_data_is_read(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    words: str,
) -> None:
    assert train(tmp_path, *overrides) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_the_machine_s_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "trainer.device=cuda") == 4
    assert "trainer.device=cpu" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert train(tmp_path, f"runs={tmp_path}/file/runs") == 4
    assert "file/runs" in capsys.readouterr().err


def test_a_dataset_without_files_names_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert train(tmp_path, "data=hippocampus", f"data.root={tmp_path}/empty") == 3
    shown = capsys.readouterr().err
    assert f"{tmp_path}/empty" in shown
    assert "data.download=true" in shown


def test_a_run_that_was_stopped_and_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    when(lambda: list(tmp_path.rglob("last.ckpt")), lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(tmp_path, "trainer.epochs=5000", "artifacts.follow=false") == 143
    run = the_run(tmp_path)
    record = RunRecord.read(run / "record.json")
    assert record.status == "interrupted"
    assert record.history
    assert not list(tmp_path.rglob("*.part"))
    former = (run / "checkpoints/last.ckpt").stat().st_mtime_ns
    command = [sys.executable, "-m", "medseg", "train", f"resume={run}"]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    last = run / "checkpoints/last.ckpt"
    when(lambda: last.stat().st_mtime_ns > former, killed.kill).join()
    killed.wait()
    assert RunRecord.read(run / "record.json").status == "running"
    epochs = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] + 2
    assert resume(run, f"trainer.epochs={epochs}") == 0
    record = RunRecord.read(run / "record.json")
    assert (record.status, record.restarts) == ("completed", 2)
    assert [row["epoch"] for row in record.history] == list(range(1, epochs + 1))
    assert record.seconds["train"] >= sum(row["seconds"] or 0 for row in record.history)


def test_help_and_configuration_are_shown_without_torch(tmp_path: Path) -> None:
    code = "import sys; sys.argv=['t', '--cfg', 'job']; from medseg.cli.train import main; main(); "
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'monai', 'pytorch_lightning')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert yaml.safe_load(shown.stdout)["data"]["name"] == "mni152"


def test_help_lists_every_group_and_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conv").mkdir()
    (tmp_path / "conv" / "mine.yaml").write_text("kernel_size: 3\n", encoding="utf-8")
    from medseg.cli.train import main

    assert main(["--help", "--config-dir", str(tmp_path)]) == 0
    shown = dict(
        line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line
    )
    assert {"data", "model", "unit", "upsample", "trainer"} <= shown.keys()
    assert {"mine", "dilated", "standard"} <= set(shown["conv"].split(", "))
