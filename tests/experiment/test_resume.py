"""A run that is continued: what its folder may say, and what a refused command leaves as it was."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests_support import resume, the_run, train

from medseg.errors import DataError
from medseg.experiment import run as experiment
from medseg.experiment.resume import continued_config
from medseg.record import RunRecord

Files = dict[str, str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a completed run of two epochs, below the folder of its data and cache."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        assert train(patch, folder, "artifacts.follow=false") == 0
    return the_run(folder)


def home(run: Path) -> Path:
    return run.parents[2]


def files(run: Path) -> Files:
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("*")
        if path.is_file()
    }


def edited(run: Path, **values: Any) -> Callable[[], None]:
    """Sets dotted keys of the run's configuration; returns what undoes it."""
    path = run / "config.yaml"
    before = path.read_text()
    config = yaml.safe_load(before)
    for key, value in values.items():
        *parts, last = key.split(".")
        node = config
        for part in parts:
            node = node[part]
        node[last] = value
    path.write_text(yaml.safe_dump(config))
    return lambda: (path.write_text(before), None)[1]


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("trainer.epochs=1", 2),  # fewer than are trained
        ("trainer.epochs=x", 2),
        ("trainer.device=nowhere", 2),
        ("seed=-1", 2),
        ("pictures.cases=x", 2),
        ("surface_tolerance_mm=0", 2),
        ("optimizer=sgd", 2),
        ("conv@model.encoder.conv=dilated", 2),
        ("model.encoder.nothing=1", 2),
        ("+new=1", 2),
        ("data.root=/proc/nowhere", 4),
        ("loss._target_=os.system", 2),
        ("data.patch_size=[16,16]", 2),
    ],
)
def test_a_refused_command_changes_nothing(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    code: int,
) -> None:
    before = files(finished)
    assert resume(monkeypatch, home(finished), f"resume={finished}", word) == code
    shown = capsys.readouterr().err.splitlines()
    assert [line for line in shown if line.startswith("error: ")] == shown[-1:]
    assert files(finished) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_so_does_one_for_a_device_that_is_not_there(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(finished)
    code = resume(monkeypatch, home(finished), f"resume={finished}", "trainer.device=cuda")
    assert code == 4
    assert files(finished) == before


@pytest.mark.parametrize(
    "changes",
    [
        {
            "loss": {
                "_target_": "monai.losses.PerceptualLoss",
                "network_type": "medicalnet_resnet10_23datasets",
                "spatial_dims": 3,
                "cache_dir": "hub",
            }
        },
        {"optimizer": {"_target_": "os.system", "command": "touch ran"}},
        {"data.source": {"_target_": "subprocess.run", "args": ["touch", "ran"]}},
        {"model": {"_target_": "monai.networks.nets.Transchex", "path_or_repo_id": "."}},
        {"name": "${oc.env:HOME}", "trainer.epochs": "${oc.decode:'3'}"},
    ],
    ids=["loss", "optimizer", "source", "network", "interpolation"],
)
def test_a_configuration_from_elsewhere_runs_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    undo = edited(finished, **changes)
    try:
        before = files(finished)
        assert resume(monkeypatch, home(finished), f"resume={finished}") == 2
        assert files(finished) == before
    finally:
        undo()


def test_it_neither_downloads_nor_chooses_where_prepared_cases_go(finished: Path) -> None:
    undo = edited(finished, **{"data.download": True, "data.cache": "/elsewhere"})
    try:
        config = continued_config(finished, {}, cache="here")
        assert (config["data"]["download"], config["data"]["cache"]) == (False, "here")
        named = continued_config(finished, {"data.root": "mine"}, cache="here")
        assert named["data"]["source"]["root"] == named["data"]["root"] == "mine"
    finally:
        undo()


def test_it_builds_no_dataset_in_a_place_of_its_choice(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    undo = edited(finished, **{"data.source.root": str(tmp_path), "data.root": str(tmp_path)})
    try:
        assert resume(monkeypatch, home(finished), f"resume={finished}") == 3
        assert not list(tmp_path.iterdir())
    finally:
        undo()


def test_a_link_that_leads_out_of_the_folder_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outside = tmp_path / "profile"
    outside.write_text("mine")
    link = finished / "link.log"
    link.symlink_to(outside)
    try:
        assert resume(monkeypatch, home(finished), f"resume={finished}") == 3
        assert outside.read_text() == "mine"
    finally:
        link.unlink()


@pytest.mark.parametrize("text", ["", "a: [1,", "- 1", "data: 3"])
def test_a_damaged_configuration_is_told_in_one_line(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
) -> None:
    undo = edited(finished)
    try:
        (finished / "config.yaml").write_text(text)
        assert resume(monkeypatch, home(finished), f"resume={finished}") == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    finally:
        undo()


def test_a_checkpoint_of_another_network_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = finished / "checkpoints/last.ckpt"
    whole = last.read_bytes()
    content = torch.load(last, weights_only=True)
    key = next(iter(content["state_dict"]))
    content["state_dict"][key] = content["state_dict"][key][:1]
    try:
        torch.save(content, last)
        assert resume(monkeypatch, home(finished), f"resume={finished}") == 3
        last.write_bytes(whole[:-100])
        assert resume(monkeypatch, home(finished), f"resume={finished}") == 3
    finally:
        last.write_bytes(whole)


def test_a_completed_record_is_replaced_by_a_completed_run_alone(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise DataError("a case is gone")

    longer = [f"resume={finished}", "trainer.epochs=3"]
    before = files(finished)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "evaluate_cases", fails)
        assert resume(patch, home(finished), *longer) == 3
    after = files(finished)
    assert all(after[name] == before[name] for name in ("record.json", "config.yaml"))
    former = RunRecord.read(finished / "record.json")
    assert resume(monkeypatch, home(finished), *longer) == 0
    record = RunRecord.read(finished / "record.json")
    assert (record.status, len(record.history)) == ("completed", 3)
    assert record.choices == former.choices
    assert record.overrides == [*former.overrides, "trainer.epochs=3"]
    assert yaml.safe_load((finished / "config.yaml").read_text())["trainer"]["epochs"] == 3


@pytest.mark.parametrize("name", ["config.yaml", "record.json", "model/notes.txt"])
def test_a_new_run_leaves_a_folder_that_is_in_use_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "mine" / name
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    assert train(monkeypatch, tmp_path, f"hydra.run.dir={tmp_path}/mine") == 2
    assert "resume=" in capsys.readouterr().err
    assert kept.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]
