"""`medseg train` as a user meets it: exit codes, messages, what lies on disk."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tests_support import arguments, the_run, train

from medseg.record import RunRecord, RunStatus, digest


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "medseg", "train", *arguments(folder, *overrides)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_run_leaves_everything_that_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(monkeypatch, tmp_path) == 0
    run = the_run(tmp_path)
    for name in (
        "config.yaml",
        ".hydra/overrides.yaml",
        "train.log",
        "metrics.csv",
        "split.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "model/weights.safetensors",
        "model/model.json",
    ):
        assert (run / name).stat().st_size > 0, name
    assert list(run.glob("events.out.tfevents.*"))
    assert list((run / "pictures").glob("*.png"))
    record = RunRecord.read(run / "record.json")
    assert record.status == "completed"
    assert record.choices["encoder.conv"] == "standard"
    assert record.blocks["decoder.upsample"].startswith("Transposed(")
    assert [row["epoch"] for row in record.history] == [0, 1]
    assert {case.case for case in record.cases} == set(record.split["validation"])
    assert {p.stem.removesuffix(".nii") for p in (run / "validation").iterdir()} == {
        case.case for case in record.cases
    }
    assert record.parameters
    assert record.macs
    assert record.peak_memory_bytes
    assert record.artifacts is not None
    assert len(record.artifacts.layers) == 1
    assert record.pictures[0].png
    assert record.predicted_memory_bytes
    assert record.memory_before_bytes
    assert record.digest == digest(record.config)
    assert (record.restarts, record.exit_code, record.levels) == (0, 0, {})
    assert all(Path(case.image).is_file() and Path(case.label).is_file() for case in record.cases)
    assert all((run / case.prediction).is_file() for case in record.cases)
    status = RunStatus.read(run)
    assert status is not None
    assert (status.status, status.share) == ("completed", 1.0)


def test_one_override_swaps_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swaps = [
        "conv@model.encoder.conv=dilated",
        "model.encoder.conv.dilation=3",
        "conv@model.decoder.conv=grouped",
        "model.decoder.conv.groups=2",
        "upsample@model.decoder.upsample=bilinear",
        "downsample@model.encoder.downsample=max_pool",
        "model.deep_supervision=true",
        "trainer.epochs=1",
    ]
    assert train(monkeypatch, tmp_path, *swaps) == 0
    record = RunRecord.read(the_run(tmp_path) / "record.json")
    assert record.blocks["encoder.conv"] == "Dilated(kernel_size=3, dilation=3)"
    assert record.blocks["decoder.conv"] == "Grouped(kernel_size=3, groups=2, shuffle=False)"
    assert record.choices["decoder.upsample"] == "bilinear"
    assert record.artifacts is not None
    assert record.artifacts.layers[0].values["dc_gain"] == 0
    assert record.constant_response == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["conv@model.encoder.conv=dilatd"], "dilated"),
        (["trainer.epoch=3"], "epoch"),
        (["trainer.epochs=0"], "trainer.epochs=0 must be a whole number of at least 1"),
        (["trainer.epochs=two"], "trainer.epochs='two' must be a whole number"),
        (["data.batch_size=two"], "data.batch_size='two' must be a whole number"),
        (["optimizer.lr=-1"], "-1"),
        (
            ["conv@model.encoder.conv=grouped", "model.encoder.conv.groups=3"],
            "groups=3 must divide",
        ),
        (["data.patch_size=[16,16]"], "patch_size"),
        (["data.patch_size=[1,1,1]"], "single voxel"),
        (["data.foreground_fraction=1.5"], "foreground_fraction=1.5"),
        (["loss._target_=os.system"], "os.system"),
        (["model._target_=os.system"], "os.system"),
        (["model=monai_unet", "+model.deep_supervision=true"], "deep_supervision"),
        (["data.spacing=[1,1]"], "spacing=[1, 1]"),
    ],
)
def test_an_impossible_run_stops_before_any_data_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    words: str,
) -> None:
    assert train(monkeypatch, tmp_path, *overrides) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_the_machine_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(monkeypatch, tmp_path, "trainer.device=cuda") == 4
    assert "trainer.device=cpu" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert train(monkeypatch, tmp_path, f"runs={tmp_path}/file/runs") == 4
    assert "file/runs" in capsys.readouterr().err


def test_a_dataset_without_files_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert train(monkeypatch, tmp_path, "data=hippocampus", f"data.root={tmp_path}/empty") == 3
    shown = capsys.readouterr().err
    assert f"{tmp_path}/empty" in shown
    assert "data.download=true" in shown


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_its_code_and_a_record(
    tmp_path: Path, signum: int, code: int
) -> None:
    process = start(tmp_path, "trainer.epochs=5000")
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signum)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == code, shown
    assert "Traceback" not in shown
    record = RunRecord.read(the_run(tmp_path) / "record.json")
    assert record.status == "interrupted"
    assert record.history
    assert not list(tmp_path.rglob("*.part"))


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(tmp_path, "trainer.epochs=5000")
    wait_for_checkpoint(tmp_path, process)
    process.kill()
    process.communicate()
    run = the_run(tmp_path)
    assert RunRecord.read(run / "record.json").status == "running"
    done = len(torch.load(run / "checkpoints/last.ckpt", weights_only=True)["callbacks"])
    assert done
    epochs = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] + 3
    monkeypatch.setattr(sys, "argv", ["medseg train", f"resume={run}", f"trainer.epochs={epochs}"])
    from medseg.cli.train import main

    assert main() == 0
    record = RunRecord.read(run / "record.json")
    assert (record.status, record.restarts) == ("completed", 1)
    assert [row["epoch"] for row in record.history] == list(range(epochs))
    assert record.seconds["train"] >= sum(row["seconds"] or 0 for row in record.history)
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["epochs"] == epochs


def test_a_continued_run_keeps_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(monkeypatch, tmp_path, "trainer.epochs=1") == 0
    from medseg.cli.train import main

    change = [f"resume={the_run(tmp_path)}", "conv@model.encoder.conv=dilated"]
    monkeypatch.setattr(sys, "argv", ["medseg train", *change])
    assert main() == 2
    assert "keeps its blocks" in capsys.readouterr().err


def test_a_run_that_is_not_there_cannot_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(monkeypatch, tmp_path, f"resume={tmp_path}/typo") == 2
    assert "typo" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


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


def test_the_one_command_knows_its_subcommands() -> None:
    medseg = [sys.executable, "-c", "from medseg.cli.main import main; main()"]
    shown = subprocess.run([*medseg, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("train", "predict", "report"))
    unknown = subprocess.run([*medseg, "trian"], capture_output=True, text=True)
    assert unknown.returncode == 2
    assert "train" in unknown.stderr


def wait_for_checkpoint(folder: Path, process: subprocess.Popen) -> None:
    """Until an epoch is done and the next has begun."""
    deadline = time.monotonic() + 120
    while not list(folder.rglob("last.ckpt")):
        if process.poll() is not None or time.monotonic() > deadline:
            _, shown = process.communicate()
            raise AssertionError(f"no checkpoint: {shown}")
        time.sleep(0.05)
    time.sleep(0.2)


def test_records_are_strict_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(monkeypatch, tmp_path, "trainer.epochs=1") == 0
    text = (the_run(tmp_path) / "record.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
