import copy
from functools import cache
from pathlib import Path

import pytest
from hydra import compose
from monai.apps.datasets import DecathlonDataset
from monai.apps.tcia import TCIA_LABEL_DICT
from omegaconf import OmegaConf

from medseg.cli.compose import hydra_session
from medseg.data.config import DataConfig
from medseg.data.forms import read_dataset
from medseg.data.phantom import Phantom

CONFIGS = {path.stem: path for path in (Path(__file__).parents[2] / "configs/data").glob("*.yaml")}
DECATHLON = {
    # training cases, channels, classes with background
    "Task01_BrainTumour": ("brain_tumour", 484, 4, 4),
    "Task02_Heart": ("heart", 20, 1, 2),
    "Task03_Liver": ("liver", 131, 1, 3),
    "Task04_Hippocampus": ("hippocampus", 260, 1, 3),
    "Task05_Prostate": ("prostate", 32, 2, 3),
    "Task06_Lung": ("lung", 63, 1, 2),
    "Task07_Pancreas": ("pancreas", 281, 1, 3),
    "Task08_HepaticVessel": ("hepatic_vessel", 303, 1, 3),
    "Task09_Spleen": ("spleen", 41, 1, 2),
    "Task10_Colon": ("colon", 126, 1, 2),
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("MEDSEG_DATA", raising=False)
    monkeypatch.delenv("MEDSEG_CACHE", raising=False)


@cache
def composed(name):
    with hydra_session():
        return compose("train", overrides=[f"data={name}"])


def load(name, **changes):
    """The group as Hydra mounts it, resolved."""
    config = copy.deepcopy(composed(name))
    config.data.merge_with(changes)
    return OmegaConf.to_container(config.data, resolve=True, throw_on_missing=True)


def a_dataset(tmp_path):
    return str(Phantom(root=tmp_path, cases=2, shape=(16, 16, 16), channels=3).prepare())


def resolved(name, tmp_path):
    return load(name, **({"root": a_dataset(tmp_path)} if name == "folder" else {}))


def test_every_dataset_has_its_file():
    files = {name for name, *_ in DECATHLON.values()} | {"mni152", "phantom", "folder"}
    collections = {name.lower().replace("-", "_"): name for name in TCIA_LABEL_DICT}
    assert set(CONFIGS) == files | set(collections)
    for name, collection in collections.items():
        data = load(name)
        assert data["source"]["collection"] == collection
        assert data["labels"] == {c: n + 1 for c, n in TCIA_LABEL_DICT[collection].items()}
        assert data["num_classes"] == len(data["labels"]) + 1
    assert set(DECATHLON) == set(DecathlonDataset.resource)


@pytest.mark.parametrize("name", CONFIGS)
def test_values_fit_each_other(name, tmp_path):
    data = resolved(name, tmp_path)
    DataConfig.of(data)  # has every key and no other
    assert data["name"] == name
    assert len(data["patch_size"]) == data["spatial_dims"]
    assert all(size % 8 == 0 for size in data["patch_size"])
    assert data["spacing"] is None or len(data["spacing"]) == 3
    assert data["cache"] == "~/.cache/medseg"  # a dataset's own folder may be read-only
    assert data["source"]["root"] == data["root"]
    assert data["download"] is False
    intensity = data["intensity"]
    if intensity["_target_"] == "medseg.data.Window":
        assert intensity["low"] < intensity["high"]
    else:
        assert intensity["_target_"] == "medseg.data.ZScore"


@pytest.mark.parametrize("task", DECATHLON)
def test_facts_of_the_decathlon(task):
    name, cases, channels, classes = DECATHLON[task]
    data = load(name)
    assert (data["in_channels"], data["num_classes"]) == (channels, classes)
    assert data["source"]["task"] == task
    header = CONFIGS[name].read_text().split("defaults:")[0]
    assert f"# Cases       {cases} with labels" in header
    for fact in ("CC-BY-SA 4.0", "10.1038/s41467-022-30695-9", f"{task}.tar, about", "Modality"):
        assert fact in header
    assert header.split("# Labels")[1].split("# Licence")[0].count(",") == classes - 1
    is_ct = "# Modality    CT" in header
    assert is_ct == (data["intensity"]["_target_"] == "medseg.data.Window")


@pytest.mark.parametrize("name", ["mni152", "phantom"])
def test_built_datasets_are_what_their_files_say(name, tmp_path):
    data = load(name, root=str(tmp_path))
    dataset = read_dataset(DataConfig.of(data).source.prepare())
    assert (data["in_channels"], data["num_classes"]) == (dataset.in_channels, dataset.num_classes)
    assert f"# Cases       {len(dataset.cases)}" in CONFIGS[name].read_text()


def test_channels_and_classes_of_a_folder_come_from_its_description(tmp_path):
    data = load("folder", root=a_dataset(tmp_path))
    assert (data["in_channels"], data["num_classes"]) == (3, 3)


def test_places_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MEDSEG_DATA", "/scratch/my data")
    monkeypatch.setenv("MEDSEG_CACHE", "/fast")
    data = load("spleen", download=True)
    assert (data["root"], data["cache"]) == ("/scratch/my data", "/fast")
    assert data["source"]["root"] == "/scratch/my data"
    assert data["source"]["download"] is True
