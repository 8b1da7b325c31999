"""A run that is continued: what its folder may say, and what a refused command leaves as it was."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from tests_support import QUICK, arguments, resume, the_run, train

from medseg.cli.train import main
from medseg.errors import ConfigError, DataError
from medseg.experiment import run as experiment
from medseg.experiment.resume import changed_values, continued_config, stored_config
from medseg.record import RunRecord, leaves


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    # a run as short as this finds something only without it, and label maps are known by their Dice
    assert train(folder, *QUICK, "trainer.class_prior=false") == 0
    return the_run(folder)


def files(run: Path) -> dict[str, str]:
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("*")
        if path.is_file()
    }


@contextmanager
def unchanged(run: Path) -> Iterator[None]:
    before = files(run)
    yield
    assert files(run) == before


@contextmanager
def edited(run: Path, text: str | None = None, **values: Any) -> Iterator[None]:
    """Writes text, or sets dotted keys, as the run's configuration; undoes it afterwards."""
    path, record = run / "config.yaml", run / "record.json"
    before, former = path.read_text(), record.read_text()
    config = yaml.safe_load(before)
    for key, value in values.items():
        *parts, last = key.split(".")
        node = config
        for part in parts:
            node = node[part]
        node[last] = value
    path.write_text(yaml.safe_dump(config) if text is None else text)
    if text is None:
        record.write_text(json.dumps(json.loads(former) | {"config": config}))
    yield
    path.write_text(before)
    record.write_text(former)


REFUSED = [
    ("trainer.epochs=1", 2),  # fewer than are trained
    ("trainer.epochs=x", 2),
    ("trainer.device=nowhere", 2),
    ("model.encoder.nothing=1", 2),
    ("+new=1", 2),
    ("~trainer", 2),
    ("data.root=/proc/nowhere", 4),
    # what the checkpoint, the split or the record would contradict
    ("seed=1", 2),
    ("loss._target_=os.system", 2),
    ("scheduler=constant", 2),
    ("trainer.ema=0.5", 2),
    ("trainer.weights=best", 2),
    ("conv@model.encoder.conv=dilated", 2),
    ("data.folds=2", 2),
    ("data=folder", 2),  # also where the dataset cannot be read as is asked
    ("data.spatial_dims=2", 2),
    ("init=elsewhere", 2),
    # what says where it lies or how several are trained
    ("runs=elsewhere", 2),
    ("hydra/launcher=joblib", 2),
]
if not torch.cuda.is_available():
    REFUSED.append(("trainer.device=cuda", 4))


@pytest.mark.parametrize(("word", "code"), REFUSED)
def test_a_refused_command_changes_nothing(
    run: Path, capsys: pytest.CaptureFixture[str], word: str, code: int
) -> None:
    with unchanged(run):
        assert resume(run, word) == code
    shown = capsys.readouterr().err.splitlines()
    assert [line for line in shown if line.startswith("error: ")] == shown[-1:]


CLASSES = {
    "may change": [
        "ablation", "artifacts", "data.cache", "data.download", "data.num_workers", "data.root",
        "data.source.download", "data.source.root", "name", "pictures", "planned", "resume", "runs",
        "surface_tolerance_mm", "trainer.deterministic", "trainer.device", "trainer.devices",
        "trainer.epochs", "trainer.execution",
        "trainer.gradient_clip", "trainer.logger", "trainer.max_seconds", "trainer.nodes",
        "trainer.patience", "trainer.precision",
        "trainer.validate_every", "trainer.weights",
    ],
    "follows": ["scheduler"],
    "refused": [
        "augmentation", "continued", "data.batch_size", "data.batches_per_epoch", "data.crop",
        "data.files",
        "data.fold", "data.folds", "data.foreground_fraction", "data.form", "data.in_channels",
        "data.intensity", "data.interpolation", "data.labels", "data.name",
        "data.num_classes", "data.patch_size",
        "data.patient", "data.regions", "data.regions_class_order", "data.slice_axis",
        "data.source._target_", "data.source.cases",
        "data.source.channels", "data.source.classes", "data.source.noise", "data.source.seed",
        "data.source.shape", "data.source.spacing", "data.spacing", "data.spatial_dims",
        "data.split_file", "data.split_seed", "data.splits",
        "data.validation_fraction", "init", "init_sha256",
        "loss", "model", "optimizer", "seed", "trainer.class_prior", "trainer.ema",
    ],
}  # fmt: skip
"""What a key is when a run goes on: also for what is added to the configuration one day."""


def classes_of(key: str) -> list[str]:
    return [
        kind
        for kind, names in CLASSES.items()
        if any(f"{key}.".startswith(f"{name}.") for name in names)
    ]


def changed(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    other = copy.deepcopy(config)
    *parts, last = key.split(".")
    node: Any = other
    for part in parts:
        node = node[part]
    node[last] = value
    return other


def test_every_key_may_change_or_follows_or_is_refused(run: Path) -> None:
    config = stored_config(run)
    keys = [key for key, _ in leaves(config)]
    assert {key: kinds for key in keys if len(kinds := classes_of(key)) != 1} == {}
    for key in keys:
        (kind,) = classes_of(key)
        other = changed(config, key, "another")
        for asked in ({key: key}, {"trainer.epochs": "trainer.epochs=3"}):  # itself, or what it is
            if kind == "may change" or (kind == "follows" and key not in asked):  # composed of
                assert changed_values(config, config, other, asked) == {key: "another"}
            else:
                with pytest.raises(ConfigError, match=key):
                    changed_values(config, config, other, asked)


def test_it_neither_downloads_nor_chooses_where_prepared_cases_go(run: Path) -> None:
    with edited(run, **{"data.download": True, "data.cache": "/elsewhere"}):
        config = continued_config(stored_config(run), {}, cache="here")
        assert (config["data"]["download"], config["data"]["cache"]) == (False, "here")
        named = continued_config(stored_config(run), {"data.root": "mine"}, cache="here")
        assert named["data"]["source"]["root"] == named["data"]["root"] == "mine"


def test_it_builds_no_dataset_in_a_place_of_its_choice(run: Path, tmp_path: Path) -> None:
    with edited(run, **{"data.source.root": str(tmp_path), "data.root": str(tmp_path)}):
        assert resume(run) == 3
    assert not list(tmp_path.iterdir())


def test_a_link_that_leads_out_of_the_folder_is_refused(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "profile"
    outside.write_text("mine")
    link = run / "link.log"
    link.symlink_to(outside)
    try:
        assert resume(run) == 3
        assert outside.read_text() == "mine"
    finally:
        link.unlink()


@pytest.mark.parametrize("text", ["", "a: [1,", "- 1", "data: 3"])
def test_a_damaged_configuration_is_told_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with edited(run, text):
        assert resume(run) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_that_is_not_there_cannot_be_continued(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = run.with_name("typo")
    assert resume(missing) == 2
    assert "typo" in capsys.readouterr().err
    assert not missing.exists()


def test_two_processes_do_not_share_a_run(run: Path) -> None:
    with FileLock(run / ".lock"):
        assert resume(run, "trainer.epochs=3") == 4
    assert RunRecord.read(run / "record.json").status == "completed"


def test_a_checkpoint_of_another_network_is_refused(run: Path) -> None:
    last = run / "checkpoints/last.ckpt"
    whole = last.read_bytes()
    content = torch.load(last, weights_only=True)
    key = next(iter(content["state_dict"]))
    content["state_dict"][key] = content["state_dict"][key][:1]
    try:
        torch.save(content, last)
        assert resume(run) == 3
        last.write_bytes(whole[:-100])
        assert resume(run) == 3
    finally:
        last.write_bytes(whole)


def test_a_completed_record_is_replaced_by_a_completed_run_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise DataError("a case is gone")

    before = files(run)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "evaluate_cases", fails)
        assert resume(run, "trainer.epochs=3") == 3
    after = files(run)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed <= {f"checkpoints/{name}.ckpt" for name in ("best", "last")} | {
        "train.log",
        "metrics.csv",
    }
    former = RunRecord.read(run / "record.json")
    assert resume(run, "trainer.epochs=3") == 0
    record = RunRecord.read(run / "record.json")
    assert (record.status, len(record.history)) == ("completed", 3)
    assert record.choices == former.choices
    assert record.overrides == [*former.overrides, "trainer.epochs=3"]
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["epochs"] == 3


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = run / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def drawn(run: Path) -> None:
    path = min((run / "validation").glob("*.nii.gz"))
    found = nib.load(path)
    labels = np.asanyarray(found.dataobj).copy()
    labels[10, 10, 10] = 1 - labels[10, 10, 10]
    nib.save(nib.Nifti1Image(labels, found.affine, found.header), path)


def untold(run: Path) -> None:
    """A record that would take any label map for the run's."""
    record = json.loads((run / "record.json").read_text())
    for case in record["cases"]:
        case["metrics"] = {}
    (run / "record.json").write_text(json.dumps(record))


def of_before(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same in a run of a version that did not list what it wrote."""

    def unlisted(run: Path) -> None:
        for path in run.rglob(".medseg.json"):
            path.unlink()
        change(run)

    return unlisted


def swapped(run: Path) -> None:
    held_out = json.loads((run / "split.json").read_text())
    first = held_out["train"][0]
    sides = {"train": held_out["train"][1:], "validation": [*held_out["validation"], first]}
    (run / "split.json").write_text(json.dumps(sides))


BY_HAND = {
    "a label map": (drawn, 2),
    "a label map of before": (of_before(drawn), 2),
    "a label map of which nothing is told": (of_before(untold), 2),
    "the card of before": (of_before(replaced("model/model.json", "Phantom", "Mine")), 2),
    "the model's card": (replaced("model/model.json", "Phantom", "Mine"), 2),
    "the split": (swapped, 3),
    "the rate": (replaced("config.yaml", "weight_decay: 0.01", "weight_decay: 0.02"), 2),
    "the epochs": (replaced("config.yaml", "epochs: 2", "epochs: 3"), 2),
}


@pytest.mark.parametrize(("change", "code"), BY_HAND.values(), ids=BY_HAND)
def test_what_was_changed_by_hand_is_neither_replaced_nor_taken_for_the_run_s(
    run: Path, tmp_path: Path, change: Callable[[Path], None], code: int
) -> None:
    moved = Path(shutil.copytree(run, tmp_path / "x/y/run"))
    shutil.copytree(run.parents[2] / "cache", tmp_path / "cache")
    change(moved)
    with unchanged(moved):
        assert resume(moved, "trainer.patience=3", "trainer.epochs=3") == code


@pytest.mark.parametrize("name", ["config.yaml", "record.json", "model/notes.txt"])
def test_a_new_run_leaves_a_folder_that_is_in_use_alone(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "mine" / name
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    words = [word for word in arguments(tmp_path) if not word.startswith("runs=")]
    assert main([*words, f"hydra.run.dir={tmp_path}/mine"]) == 2
    assert "resume=" in capsys.readouterr().err
    assert kept.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]
