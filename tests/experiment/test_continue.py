"""A run that goes on stays the run that it was: its schedule, split, data, places and logs."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests_support import QUICK, resume, the_run, train

from medseg.record import RunRecord, digest

EPOCHS = 2
STILL = ["optimizer.lr=1e-30", "optimizer.weight_decay=0"]


@pytest.fixture(scope="module")
def dataset(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user's own in Decathlon form."""
    folder = tmp_path_factory.mktemp("own") / "dataset"
    shutil.copytree(phantom, folder)
    return folder


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run of two epochs on it, whose rate falls to nothing."""
    folder = tmp_path_factory.mktemp("trained")
    best = ["trainer.patience=9", "trainer.weights=best"]
    assert train(folder, *mine(dataset), *best) == 0
    return the_run(folder)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """That run in another place."""
    place = tmp_path / "another/place/run"
    shutil.copytree(trained, place)
    return place


@pytest.fixture
def own(dataset: Path, tmp_path: Path) -> Path:
    """That dataset in another place, to be changed."""
    return Path(shutil.copytree(dataset, tmp_path / "moved"))


def mine(dataset: Path) -> list[str]:
    return [
        "data=folder",
        "plan=none",
        f"data.root={dataset}",
        "data.patch_size=[16,16,16]",
        *QUICK,
    ]


def record(run: Path) -> RunRecord:
    return RunRecord.read(run / "record.json")


def rates(run: Path) -> list[float]:
    return [row["lr"] or 0.0 for row in record(run).history]


def stored(run: Path, key: str) -> object:
    value = yaml.safe_load((run / "config.yaml").read_text())
    for part in key.split("."):
        value = value[part]
    return value


def test_a_run_that_is_trained_longer_has_the_rates_of_the_new_length(run: Path) -> None:
    before, table = rates(run), (run / "metrics.csv").read_text()
    assert resume(run, "trainer.epochs=5") == 0
    lr = before[0]
    expected = [lr * (1 - epoch / 5) ** 0.9 for epoch in range(EPOCHS, 5)]
    assert rates(run) == pytest.approx([*before, *expected])
    assert stored(run, "scheduler.total_iters") == 5  # what depends on a value follows
    # it is known as another run than one that was asked for at once
    config = record(run).config
    assert config["continued"] == [{"trainer.epochs": EPOCHS, "scheduler.total_iters": EPOCHS}]
    assert record(run).digest == digest(config) != digest(config | {"continued": []})
    assert (run / "metrics.csv").read_text().startswith(table)
    assert (run / "train.log").read_text().count("INFO epoch ") == 5
    # and is the same run when it is stopped and continued once more
    again = (run / "metrics.csv").read_text()
    assert resume(run) == 0
    assert (run / "metrics.csv").read_text() == again
    assert len(record(run).history) == 5


@pytest.mark.parametrize(
    "word",
    ["data.form=csv", "data.files={image: a, label: b}", "data.labels={1: 0}", "data=hippocampus"],
)
def test_data_that_are_read_in_another_way_are_another_run(run: Path, word: str) -> None:
    assert resume(run, word) == 2


@pytest.mark.parametrize("cut", [5, -3, -60], ids=["the head", "a number", "a row"])
def test_a_row_that_a_kill_has_cut_is_not_taken_for_numbers(run: Path, cut: int) -> None:
    table = run / "metrics.csv"
    whole = table.read_text()
    table.write_text(whole[:cut])
    assert resume(run, "trainer.epochs=3") == 0
    head, *rows = list(csv.reader(table.read_text().splitlines()))
    assert {len(row) for row in rows} == {len(head)}
    assert rows[-1][head.index("epoch")] == "2"
    kept = whole[:cut].splitlines()[:-1]
    assert table.read_text().splitlines()[: len(kept)] == kept


def test_a_run_from_before_goes_on_as_it_began(run: Path) -> None:
    """Its gamma was called contrast, the best epoch was kept, and no file was listed."""
    for path in run.rglob(".medseg.json"):
        path.unlink()
    former = {"_target_": "medseg.data.patches.Augmentation", "flip": 0.0, "contrast": 0.4}
    for name, read, write in (
        ("config.yaml", yaml.safe_load, yaml.safe_dump),
        ("record.json", json.loads, json.dumps),
    ):
        content = read((run / name).read_text())
        config = content if name == "config.yaml" else content["config"]
        config["augmentation"] = former
        for section, keys in (("data", ("form", "files")), ("trainer", ("weights", "ema"))):
            for key in keys:
                del config[section][key]
        (run / name).write_text(write(content))
    assert resume(run, "trainer.epochs=3") == 0
    kept = record(run).config["augmentation"]
    assert (kept["gamma"], kept["contrast"], kept["flip"]) == (0.4, 0.0, 0.0)
    assert "drew patches otherwise" in (run / "train.log").read_text(encoding="utf-8")
    assert stored(run, "trainer.weights") == "best"
    assert record(run).weights["kept"] == "best"
    (changed,) = record(run).config["continued"]
    assert {key for key in changed if key.startswith("trainer.")} == {"trainer.epochs"}


def test_what_does_not_make_it_another_run_may_change(run: Path) -> None:
    changes = {
        "trainer.epochs": 3,
        "trainer.patience": 8,
        "trainer.validate_every": 2,
        "trainer.gradient_clip": None,
        "surface_tolerance_mm": 2,
        "pictures.cases": 1,
        "name": "other",
        "data.num_workers": 1,
        "seed": 0,  # as it was
    }
    words = [f"{key}={'null' if value is None else value}" for key, value in changes.items()]
    assert resume(run, *words) == 0
    assert {key: stored(run, key) for key in changes} == changes
    assert len(record(run).history) == 3


@pytest.mark.parametrize("word", ["patience=1", "gradient_clip=1", "validate_every=2"])
def test_what_has_no_effect_is_not_recorded(run: Path, word: str) -> None:
    assert resume(run, f"trainer.{word}") == 2
    assert record(run).config["continued"] == []


def test_patience_is_that_of_now(run: Path) -> None:
    assert resume(run, "trainer.epochs=40", "trainer.patience=1") == 0  # 9 in the checkpoint
    done = len(record(run).history)
    assert done < 40
    assert resume(run) == 0
    assert len(record(run).history) == done  # it has stopped, and stays so


def test_a_run_that_time_has_ended_stays_so_until_it_is_given_more(
    dataset: Path, tmp_path: Path
) -> None:
    assert train(tmp_path, *mine(dataset), "trainer.max_seconds=0.001", "trainer.epochs=3") == 0
    run = the_run(tmp_path)
    (row,) = record(run).history
    assert resume(run) == 0
    assert record(run).history == [row]
    assert resume(run, "trainer.patience=5") == 2  # nothing is left for it to act on
    assert resume(run, "trainer.epochs=9") == 2
    assert resume(run, "trainer.max_seconds=0.0001") == 2
    states = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    passed = sum(states["History"]["step_seconds"])
    assert resume(run, f"trainer.max_seconds={1.6 * passed}") == 0
    first, second = record(run).history
    assert first == row
    assert second["val_dice"] is not None
    assert second["lr"] < first["lr"]  # by the time that has passed


def test_following_of_artifacts_begins_and_ends_where_it_is_switched(run: Path) -> None:
    assert resume(run, "trainer.epochs=3", "artifacts.follow=true") == 0
    (measured,) = record(run).artifact_history
    assert measured["epoch"] == 3
    head, *rows = list(csv.reader((run / "metrics.csv").read_text().splitlines()))
    assert {len(row) for row in rows} == {len(head)}
    assert sum(row[head.index("artifacts/dc_gain")] != "" for row in rows) == 1
    assert resume(run, "trainer.epochs=4", "artifacts.follow=false") == 0
    assert record(run).artifact_history == [measured]
    assert len(record(run).history) == 4


def test_the_split_is_the_run_s_own_when_cases_are_added(
    run: Path, own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads((own / "dataset.json").read_text())
    for number in range(3):
        entry = dict(content["training"][number])
        for part, path in entry.items():
            entry[part] = f"{Path(path).parent}/added{number}.nii.gz"
            shutil.copy(own / path, own / entry[part])
        content["training"].append(entry)
    (own / "dataset.json").write_text(json.dumps(content))
    split = (run / "split.json").read_text()
    assert resume(run, "trainer.epochs=3", f"data.root={own}") == 0
    assert (run / "split.json").read_text() == split
    assert "added0" in caplog.text


def repaired(folder: Path) -> None:
    path = sorted((folder / "labelsTr").iterdir())[0]
    image = nib.load(path)
    voxels = np.asanyarray(image.dataobj).copy()
    voxels[voxels == 2] = 1
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)


def shifted(folder: Path) -> None:
    path = sorted((folder / "imagesTr").iterdir())[0]
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata() + 1, image.affine), path)


def removed(folder: Path) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    content["training"] = content["training"][1:]
    (folder / "dataset.json").write_text(json.dumps(content))


def renamed(folder: Path) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "other", "2": "names"}
    (folder / "dataset.json").write_text(json.dumps(content))


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("change", [repaired, shifted, removed, renamed, gone])
def test_data_that_changed_are_refused(
    run: Path, own: Path, change: Callable[[Path], None]
) -> None:
    change(own)
    before = (run / "record.json").read_bytes()
    assert resume(run, "trainer.epochs=3", f"data.root={own}") == 3
    assert (run / "record.json").read_bytes() == before


def compressed_otherwise(folder: Path) -> None:
    for path in folder.rglob("*.nii.gz"):
        image = nib.load(path)
        voxels = np.asanyarray(image.dataobj)
        path.unlink()
        nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)


def test_neither_the_place_nor_the_storage_of_the_data_matters(run: Path, own: Path) -> None:
    compressed_otherwise(own)
    assert resume(run, "trainer.epochs=3", f"data.root={own}") == 0
    assert stored(run, "data.source.root") == str(own)


def test_it_goes_on_from_any_working_directory(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    assert train(tmp_path, *mine(Path(own.name))) == 0
    monkeypatch.chdir("/")
    assert resume(the_run(tmp_path), "trainer.epochs=3") == 0


def test_a_moved_run_keeps_its_best_network(run: Path) -> None:
    last, best = run / "checkpoints/last.ckpt", run / "checkpoints/best.ckpt"
    content = torch.load(last, weights_only=True)
    (state,) = (s for s in content["callbacks"].values() if s.get("monitor") == "val/dice")
    assert state["dirpath"] != str(run / "checkpoints")
    for key in ("best_model_score", "kth_value"):
        state[key] = torch.tensor(2.0)
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(2.0))
    torch.save(content, last)
    kept = best.read_bytes()
    assert resume(run, "trainer.epochs=3") == 0
    assert best.read_bytes() == kept
    assert record(run).weights["chosen_by"] == "validation Dice"
    assert resume(run, "trainer.weights=last") == 0
    told = record(run).weights
    assert (told["kept"], told["epoch"], told["chosen_by"]) == ("last", 3, None)


def test_paths_in_a_checkpoint_are_nobody_s_to_remove(run: Path, tmp_path: Path) -> None:
    last, victim = run / "checkpoints/last.ckpt", run / "checkpoints/mine.ckpt"
    victim.write_text("mine")
    content = torch.load(last, weights_only=True)
    for state in content["callbacks"].values():
        if "best_model_path" in state:
            state |= {"best_model_path": str(victim), "dirpath": str(victim.parent)}
            state |= {"kth_best_model_path": str(victim)}
            state["best_k_models"] = {str(victim): torch.tensor(-1.0)}
    torch.save(content, last)
    assert resume(run, "trainer.epochs=3") == 0
    assert victim.read_text() == "mine"


def begins(folder: Path, source: Path, dataset: Path, *words: str) -> int:
    return train(folder, *mine(dataset), f"init={source}", "trainer.epochs=1", *words)


def test_a_new_run_begins_with_trained_weights(
    trained: Path, dataset: Path, tmp_path: Path
) -> None:
    assert begins(tmp_path, trained, dataset, *STILL, "seed=3") == 0
    weights, source = (
        load_file(run / "model/weights.safetensors") for run in (the_run(tmp_path), trained)
    )
    assert all(torch.allclose(weights[key], source[key], rtol=0, atol=1e-20) for key in source)
    found = record(the_run(tmp_path))
    assert found.init["sha256"] == found.config["init_sha256"]
    assert found.init["new"] == []
    assert found.digest != record(trained).digest
    # the weights are what it is known by, wherever they lie
    copied = Path(shutil.copytree(trained / "model", tmp_path / "model"))
    assert begins(tmp_path / "copy", copied, dataset, *STILL, "seed=3") == 0
    assert record(the_run(tmp_path / "copy")).digest == found.digest
    assert resume(the_run(tmp_path), "trainer.epochs=2") == 0
    assert record(the_run(tmp_path)).init == found.init


def one_class(folder: Path) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "all"}
    (folder / "dataset.json").write_text(json.dumps(content))
    for path in (folder / "labelsTr").iterdir():
        image = nib.load(path)
        voxels = (np.asanyarray(image.dataobj) > 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(voxels, image.affine), path)


def two_channels(folder: Path) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    content["modality"] = {"0": "T1", "1": "T2"}
    (folder / "dataset.json").write_text(json.dumps(content))
    for path in (folder / "imagesTr").iterdir():
        image = nib.load(path)
        voxels = np.repeat(image.get_fdata()[..., None], 2, axis=3)
        nib.save(nib.Nifti1Image(voxels, image.affine), path)


@pytest.mark.parametrize(("change", "part"), [(one_class, "heads"), (two_channels, "encoder")])
def test_the_head_or_the_stem_is_made_anew_for_other_classes_or_channels(
    trained: Path, own: Path, tmp_path: Path, change: Callable[[Path], None], part: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    change(own)
    assert begins(tmp_path, trained, own) == 0
    new = record(the_run(tmp_path)).init["new"]
    assert new
    assert all(name.startswith(part) for name in new)
    assert new[0] in caplog.text
    assert new[0] in (the_run(tmp_path) / "train.log").read_text()  # said before it was opened


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["model.encoder.channels=[4,6]"], 2),
        (["model.encoder.depths=2"], 2),
        (["unit@model.encoder.unit=residual"], 2),
        (["init=/nowhere"], 3),
    ],
    ids=["width", "depth", "unit", "no model"],
)
def test_weights_of_another_network_are_refused(
    trained: Path, dataset: Path, tmp_path: Path, words: list[str], code: int
) -> None:
    assert begins(tmp_path, trained, dataset, *words) == code
    assert not (tmp_path / "runs").exists()
