"""What comes from elsewhere is data: it runs nothing, asks no network, writes into the output only.

Every command meets folders of a stranger under an audit hook.
"""

import itertools
import json
import os
import pickle
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from medseg.record import digest

from ..audited import audited

CODE = "import pathlib\npathlib.Path({mark!r}).touch()\ndef f(*a, **k):\n    return None\n"
MODULES = (
    "conftest", "sitecustomize", "usercustomize", "hubconf", "__init__", "setup", "torch", "monai",
    "medseg", "yaml", "numpy", "evil",
)  # fmt: skip


class Evil:
    """Leaves its mark when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


class Stranger:
    """A run's folder that came from elsewhere, full of code."""

    def __init__(self, run: Path, folder: Path):
        self.mark = folder / "ran"
        self.run = Path(shutil.copytree(run, folder / "hostile" / "run"))
        self.scan = self.run.parent / "scans" / "scan.nii.gz"
        self.scan.parent.mkdir()
        image = np.random.default_rng(0).normal(size=(20, 22, 18)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), self.scan)
        for name in MODULES:
            for place in (
                self.run,
                self.run / "model",
                self.run / "hydra_plugins",
                self.run.parent,
            ):
                place.mkdir(exist_ok=True)
                (place / f"{name}.py").write_text(CODE.format(mark=str(self.mark)))
        (self.run / "cached.pt").write_bytes(pickle.dumps(Evil(self.mark)))

    def config(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes the configuration, and the record with it, which would tell."""
        path = self.run / "config.yaml"
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))
        own = {"config": content, "digest": digest(content)}
        self.json("record.json", lambda record: record.update(own))
        self.json("record.json", lambda record: record.update(config=content))

    def json(self, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
        path = self.run / name
        content = json.loads(path.read_text())
        content.pop("card_sha256", None)
        change(content)
        path.write_text(json.dumps(content))

    def checkpoint(self, name: str) -> Path:
        path = self.run / "checkpoints" / name
        torch.save({"state_dict": {"network.a": Evil(self.mark)}}, path)
        return path


# Lightning says that a run has moved
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


@pytest.fixture
def stranger(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    found = Stranger(finished, tmp_path)
    monkeypatch.setenv("MEDSEG_CACHE", str(finished.parents[2] / "cache"))
    monkeypatch.chdir(found.run)
    return found


def types(stranger: Stranger, command: str, *words: object, writes: tuple[Path, ...] = ()) -> int:
    """Runs a command; nothing that it does may be the stranger's doing."""
    main = import_module(f"medseg.cli.{command}").main
    out = stranger.mark.parent / "out"
    out.mkdir(exist_ok=True)
    with audited(stranger.run.parent, out, Path(os.environ["MEDSEG_CACHE"]), *writes) as events:
        code = main([str(word).replace("OUT", str(out)) for word in words])
    assert not events
    assert not stranger.mark.exists()
    return code


NETWORKS = {
    "a function": {"name": "torch.hub.load"},
    "of the system": {"name": "os.system"},
    "a module of the folder": {"name": "evil.f"},
    "weights from the network": {
        "name": "monai.FlexibleUNet", "in_channels": 1, "out_channels": 3,
        "backbone": "resnet18", "pretrained": True,
    },
    "a class that loads": {"name": "monai.PerceptualNet"},
    "nested": {"name": "models.unet.UNet", "num_classes": 3, "encoder": {"name": "os.system"}},
}  # fmt: skip


COMMANDS = {
    "predict": ("-m", "RUN", "-i", "SCAN", "-o", "OUT/a"),
    "artifacts": ("RUN", "SCAN", "-o", "OUT/b"),
    "audit": ("--model", "RUN"),
    "convert": ("RUN", "--upsample", "pixel_shuffle", "-o", "OUT/c"),
}


@pytest.mark.parametrize(
    ("network", "command"), [*zip(NETWORKS, itertools.cycle(COMMANDS), strict=False)]
)
def test_a_card_names_no_code(network: str, command: str, stranger: Stranger) -> None:
    stranger.json("model/model.json", lambda card: card.update(network=NETWORKS[network]))
    places = {"RUN": stranger.run, "SCAN": stranger.scan}
    words = [places.get(word, word) for word in COMMANDS[command]]
    assert types(stranger, command, *words) in (2, 3)


@pytest.mark.parametrize("name", ["os.system", "medseg.files.write_text", "__class__", "evil.f"])
def test_a_card_names_no_preprocessing_of_its_own(name: str, stranger: Stranger) -> None:
    intensity = {"intensity": {"name": name, "command": "true"}}
    stranger.json("model/model.json", lambda card: card["preprocessing"].update(intensity))
    words = ("-m", stranger.run, "-i", stranger.scan, "-o", "OUT/a")
    assert types(stranger, "predict", *words) in (2, 3)


@pytest.mark.usefixtures("without_figures")
def test_a_whole_run_of_a_stranger_is_used_without_its_code(stranger: Stranger) -> None:
    run, scans = stranger.run, stranger.scan.parent
    assert types(stranger, "predict", "-m", "model", "-i", scans, "-o", "OUT/b") == 0
    assert types(stranger, "artifacts", ".", scans, "--shifts", "2", "-o", "OUT/c") == 0
    assert types(stranger, "audit", "--model", ".", "-o", "OUT/d") == 0
    assert types(stranger, "report", ".", "-o", "OUT/e/report.html") == 0
    assert types(stranger, "convert", run, "--conv", "standard", "-o", "OUT/f") in (0, 2)


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt", "model.ckpt"])
def test_a_checkpoint_with_code_is_refused(name: str, stranger: Stranger) -> None:
    path = stranger.checkpoint(name)
    words = ("-i", stranger.scan, "-o", "OUT/a")
    assert types(stranger, "predict", "-m", path, *words) == 3
    if name == "best.ckpt":
        assert types(stranger, "artifacts", path, *words[1:]) == 3
        assert types(stranger, "audit", "--model", path) == 3
    if name == "last.ckpt":
        code = types(stranger, "train", f"resume={stranger.run}", "trainer.epochs=3")
        assert code in (2, 3)


TARGETS: dict[str, dict[str, Any]] = {
    "a loss that loads": {
        "loss": {
            "_target_": "monai.losses.PerceptualLoss", "spatial_dims": 3, "is_fake_3d": False,
            "network_type": "medicalnet_resnet10_23datasets", "cache_dir": "hub",
        }
    },
    "an optimizer": {"optimizer": {"_target_": "os.system", "command": "touch x"}},
    "a schedule": {"scheduler": {"_target_": "torch.hub.load", "repo_or_dir": "."}},
    "an argument": {
        "loss": {"_target_": "monai.losses.DiceLoss", "other_act": {"_target_": "evil.f"}}
    },
    "augmentation": {"augmentation": {"_target_": "evil.f"}},
    "a network that loads": {
        "model": {"_target_": "monai.networks.nets.Transchex", "path_or_repo_id": "."}
    },
    "an interpolation": {"seed": "${oc.decode:0}"},
    "hydra": {"hydra": {"callbacks": {"a": {"_target_": "evil.f"}}}},
    "a key of python": {"loss": {"_target_": "monai.losses.DiceLoss", "__class__": "evil.f"}},
}  # fmt: skip


@pytest.mark.parametrize("part", TARGETS.values(), ids=TARGETS)
def test_a_run_that_is_continued_names_no_code(part: dict[str, Any], stranger: Stranger) -> None:
    stranger.config(lambda config: config.update(part))
    before = (stranger.run / "record.json").read_bytes()
    words = (f"resume={stranger.run}", "trainer.epochs=3")
    assert types(stranger, "train", *words, writes=(stranger.run,)) == 2
    assert (stranger.run / "record.json").read_bytes() == before


SOURCES = (
    "http://127.0.0.1:9/scan.nii.gz", "\\\\host\\share\\scan.nii.gz", "|touch x", "/dev/stdin",
    "../../../../etc/passwd", "\0",
)  # fmt: skip


@pytest.mark.usefixtures("without_figures")
def test_a_record_names_files_and_no_more(stranger: Stranger) -> None:
    def change(record: dict[str, Any]) -> None:
        record["pictures"] = [{"case": "a", "caption": "a", "png": png} for png in SOURCES]
        (case, *_), parts = record["cases"], ("image", "label", "prediction")
        record["cases"] = [
            case | {"case": f"{turn}"} | {part: SOURCES[turn - at] for at, part in enumerate(parts)}
            for turn in range(len(SOURCES))
        ]

    stranger.json("record.json", change)
    assert types(stranger, "report", stranger.run, "-o", "OUT/report.html") == 0


DATASETS: dict[str, dict[str, Any]] = {
    "a link": {"image": "http://127.0.0.1:9/a.nii.gz", "label": "ftp://127.0.0.1/a.nii.gz"},
    "outside": {"image": "../../../../etc/passwd", "label": "/etc/hostname"},
    "a device": {"image": "/dev/zero", "label": "/dev/stdin"},
    "a pipe": {"image": "|touch x", "label": "`touch x`"},
    "a numpy file with code": {"image": "cached.npy", "label": "cached.npy"},
    "no text": {"image": {"_target_": "evil.f"}, "label": ["x"]},
}


@pytest.mark.parametrize("entry", DATASETS.values(), ids=DATASETS)
def test_a_dataset_names_files_and_no_more(
    entry: dict[str, Any], stranger: Stranger, tmp_path: Path
) -> None:
    (stranger.run / "cached.npy").write_bytes(pickle.dumps(Evil(stranger.mark)))
    content = {
        "name": "theirs", "modality": {"0": "MR"}, "labels": {"0": "background", "1": "a"},
        "training": [entry, entry],
    }  # fmt: skip
    (stranger.run / "dataset.json").write_text(json.dumps(content))
    words = ("data=folder", "plan=none", f"data.root={stranger.run}", f"runs={tmp_path}/out/runs")
    assert types(stranger, "train", *words, "data.patch_size=[16,16,16]") in (2, 3)


READERS = {
    "check": ("RUN", "-o", "OUT/a"),
    "check ": ("RUN", "--fix", "-o", "OUT/a"),
    "plan": ("RUN", "--memory", "8", "--step-seconds", "inf", "-o", "OUT/plan.yaml"),
    "evaluate": ("RUN/validation", "RUN", "-o", "OUT/a"),
}


@pytest.mark.parametrize(
    ("entry", "command"), [*zip(DATASETS, itertools.cycle(READERS), strict=False)]
)
def test_a_dataset_that_is_looked_at_names_files_and_no_more(
    entry: str, command: str, stranger: Stranger
) -> None:
    (stranger.run / "cached.npy").write_bytes(pickle.dumps(Evil(stranger.mark)))
    content = {
        "name": "\x1b[2J", "modality": {"0": "MR"}, "labels": {"0": "background", "1": "\x1b[2J"},
        "training": [DATASETS[entry]] * 2,
    }  # fmt: skip
    (stranger.run / "dataset.json").write_text(json.dumps(content))
    words = [word.replace("RUN", str(stranger.run)) for word in READERS[command]]
    assert types(stranger, command.strip(), *words) in (2, 3)


PLANS = {
    "a tag of python": '!!python/object/apply:os.system ["touch x"]',
    "a class": "data: {source: {_target_: evil.f}}",
    "a network": "model: {_target_: evil.f}",
    "a callback": "hydra: {callbacks: {x: {_target_: evil.f}}}",
    "a variable": "name: ${oc.env:HOME}",
    "another folder": "runs: ../../../etc",
    "a download": "data: {download: true, source: {download: true}}",
}


@pytest.mark.parametrize(
    ("kind", "command"), [*zip(PLANS, itertools.cycle(["train", "audit"]), strict=False)]
)
def test_a_plan_in_a_file_names_no_code(
    kind: str, command: str, stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(stranger.run))
    path = stranger.run / "plan.yaml"
    path.write_text(PLANS[kind])
    own = (f"data.root={stranger.run}", *([f"runs={tmp_path}/out/runs"] * (command == "train")))
    assert types(stranger, command, "data=folder", f"plan={path}", *own) in (2, 3)


def test_a_plan_of_a_stranger_is_shown(
    stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = {
        "digest": "\x1b[2J",
        "folder": "../../../etc",
        "overrides": ["+hydra.x=1"],
        "levels": {},
    }
    content = {"schema": 1, "name": "\x1b[2J", "cells": [evil], "command": ["touch", "x"]}
    (stranger.run / "ablation.json").write_text(json.dumps(content))
    assert types(stranger, "ablate", "status", stranger.run) in (0, 2, 3)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err


YAML = {
    "a tag of python": '!!python/object/apply:os.system ["touch x"]',
    "a module": "name: evil.f",
    "weights": "{name: monai.FlexibleUNet, in_channels: 1, out_channels: 3, backbone: resnet18,"
    " pretrained: true}",
    "an include": "name: !include /etc/passwd",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_a_network_in_a_file_names_no_code(text: str, stranger: Stranger) -> None:
    path = stranger.run / "net.yaml"
    path.write_text(text)
    words = ("--network", path, "--patch-size", "32", "32", "32", "-o", "OUT/a")
    assert types(stranger, "audit", *words) == 2


LOGGING = {"handlers": {"x": {"()": "evil.f"}}, "root": {"handlers": ["x"]}}
SETTINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "the job's log": ({"job_logging": LOGGING}, ["data=theirs"]),
    "Hydra's log, in its help": ({"hydra_logging": LOGGING}, ["data=theirs", "--hydra-help"]),
    "Hydra's log, of an ablation": ({"hydra_logging": LOGGING}, ["ablation=theirs"]),
    "a callback": ({"callbacks": {"x": {"_target_": "evil.f"}}}, ["data=theirs"]),
    "the launcher": ({"launcher": {"_target_": "evil.f"}}, ["ablation=theirs"]),
    "the sweeper": ({"sweeper": {"_target_": "evil.f"}}, ["data=theirs", "seed=0,1", "-m"]),
    "a variable": ({"job": {"env_set": {"PYTHONPATH": "."}}}, ["data=theirs"]),
    "another folder": ({"output_subdir": "../../../out"}, ["data=theirs"]),
}


@pytest.mark.parametrize(("setting", "words"), SETTINGS.values(), ids=SETTINGS)
def test_configurations_of_a_stranger_do_not_change_how_hydra_runs(
    setting: dict[str, Any],
    words: list[str],
    stranger: Stranger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = stranger.run / "conf"
    monkeypatch.syspath_prepend(str(stranger.run))  # as if the stranger's module could be found
    files = {
        "data/theirs": "defaults: [phantom, _self_, settings@_global_]\n",
        "data/settings": yaml.safe_dump({"hydra": setting}),
        "ablation/theirs": "# @package _global_\n"
        + yaml.safe_dump({"hydra": {"mode": "MULTIRUN"} | setting}),
    }
    for name, text in files.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / f"{name}.yaml").write_text(text)
    common = (f"--config-dir={own}", "trainer.epochs=1", f"runs={tmp_path}/out/runs")
    assert types(stranger, "train", *common, *words) == 2
    assert "hydra." in capsys.readouterr().err


@pytest.mark.parametrize("key", ["download", "source"])
def test_configurations_of_a_stranger_fetch_nothing(
    key: str, stranger: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = stranger.run / "conf" / "data"
    own.mkdir(parents=True)
    content = {"download": True} if key == "download" else {"source": {"download": True}}
    head = "defaults:\n  - hippocampus\n  - _self_\n"
    (own / "theirs.yaml").write_text(head + yaml.safe_dump(content))
    words = (f"--config-dir={own.parent}", "data=theirs", f"data.root={tmp_path}/out/data")
    assert types(stranger, "train", *words, f"runs={tmp_path}/out/runs") == 2
    assert "data.download" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("+hydra.callbacks.x._target_=evil.f", "hydra.callbacks"),
        ("data.download=true", "data.download"),
        ("trainer.logger=wandb", "trainer.logger"),
    ],
)
@pytest.mark.parametrize("way", ["level", "sweep"])
def test_an_ablation_of_a_stranger_varies_the_run_and_nothing_else(
    way: str,
    override: str,
    named: str,
    stranger: Stranger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = stranger.run / "conf" / "ablation"
    monkeypatch.syspath_prepend(str(stranger.run))
    own.mkdir(parents=True)
    settings: dict[str, Any] = {"mode": "MULTIRUN"}
    levels = {"evil": [override], "good": []}
    if way == "sweep":
        key, value = override.split("=")
        settings |= {"sweeper": {"params": {key: value}}}
        levels = {"one": ["seed=1"], "good": []}
    content = {"hydra": settings, "ablation": {"factors": {"log": levels}}}
    (own / "theirs.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(content)}")
    words = (f"--config-dir={own.parent}", "ablation=theirs", "data=hippocampus")
    own_folders = (f"runs={tmp_path}/out/runs", f"data.root={tmp_path}/out/data")
    assert types(stranger, "train", *words, *own_folders) == 2
    assert named in capsys.readouterr().err


def test_configurations_of_a_stranger_send_nothing(
    stranger: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = stranger.run / "conf" / "trainer"
    own.mkdir(parents=True)
    (own / "theirs.yaml").write_text("defaults:\n  - default\n  - _self_\nlogger: wandb\n")
    words = (f"--config-dir={own.parent}", "trainer=theirs", f"runs={tmp_path}/out/runs")
    assert types(stranger, "train", *words) == 2
    assert "trainer.logger" in capsys.readouterr().err
