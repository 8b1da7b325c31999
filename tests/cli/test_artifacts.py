"""`medseg artifacts` as a user meets it: exit codes, messages, what lies on disk."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import written_dicom as dicom

from medseg.cli.artifacts import main
from medseg.models.description import build_network
from medseg.models.weights import load_model, save_model
from medseg.record import ArtifactRecord, from_plain

undrawn = pytest.mark.usefixtures("without_figures")


def volumes(phantom: Path, kind: str, folder: Path, count: int) -> Path:
    """The first volumes of the phantom in a folder whose name has a space."""
    target = folder / f"some {kind}"
    target.mkdir()
    for path in sorted((phantom / kind).iterdir())[:count]:
        shutil.copy(path, target)
    return target


@pytest.fixture
def images(phantom, tmp_path) -> Path:
    return volumes(phantom, "imagesTr", tmp_path, 2)


@pytest.fixture
def labels(phantom, tmp_path) -> Path:
    return volumes(phantom, "labelsTr", tmp_path, 2)


def test_a_network_and_volumes_become_page_tables_figures_and_maps(
    model_folder, images, labels, tmp_path, capsys
) -> None:
    out = tmp_path / "an output"
    arguments = [str(model_folder), str(images), "--labels", str(labels), "-o", str(out)]
    assert main([*arguments, "--spin", "--shifts", "3"]) == 0
    assert {p.name for p in out.glob("[!.]*")} == {
        "artifacts.csv", "artifacts.html", "artifacts.json", "artifacts.md", "figures", "maps",
    }  # fmt: skip
    record = from_plain(ArtifactRecord, json.loads((out / "artifacts.json").read_text()))
    assert record.period == [2, 2, 2]
    assert [layer.values["dc_gain"] for layer in record.layers] == [0.0]  # trilinear
    assert len(record.cases) == 2
    for case in record.cases:
        assert case.values["cycle_spin"]["cycle_spin_self_test"] < 1e-9
        assert {"dice", "dice_spun", "dice_control"} <= set(case.values["decision"])
        assert case.get("labels", "boundary_distance") is not None
        assert case.get("truth", "gain") is not None
        source = next(p for p in images.iterdir() if p.name.startswith(case.case))
        found = nib.load(out / "maps" / f"{case.case}_cycle_spin.nii.gz")
        assert found.shape[:3] == nib.load(source).shape[:3]
        assert np.isfinite(found.get_fdata()).all()
    assert record.prediction.p_value is None  # two cases are too few to claim anything
    names = {p.stem for p in (out / "figures").iterdir()}
    assert {"phases", "spectrum", "constant", "cycle_spin"} <= names
    page = (out / "artifacts.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    shown = capsys.readouterr().out
    assert "measuring its windows" in shown
    assert shown.splitlines()[-1] == str(out / "artifacts.html")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shifts", "1"], "shifts=1 leaves nothing to compare"),
        (["--overlap", "1"], "overlap=1.0 must lie in [0, 1)"),
        (["--device", "tpu"], "device='tpu' must be one of"),
    ],
)
def test_impossible_options_are_refused(
    model_folder, images, tmp_path, capsys, options, words
) -> None:
    out = tmp_path / "out"
    assert main([str(model_folder), str(images), "-o", str(out), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (out / "artifacts.json").exists()


def test_labels_of_other_cases_are_refused(model_folder, images, labels, tmp_path, capsys) -> None:
    for path in labels.iterdir():
        path.rename(path.with_name("other_" + path.name))
    out = tmp_path / "out"
    assert main([str(model_folder), str(images), "--labels", str(labels), "-o", str(out)]) == 3
    assert "name them alike" in capsys.readouterr().err


@undrawn
def test_a_damaged_volume_does_not_stop_the_others_nor_replace_results_unasked(
    model_folder, images, tmp_path, capsys
) -> None:
    first, _ = sorted(images.iterdir())
    first.write_bytes(b"not a volume")
    out = tmp_path / "out"
    words = [str(model_folder), str(images), "-o", str(out), "--shifts", "2"]
    assert main(words) == 3
    assert str(first) in capsys.readouterr().err
    (case,) = json.loads((out / "artifacts.json").read_text())["cases"]
    assert {"truth", "decision"}.isdisjoint(case["values"])  # there are no labels
    assert not (out / "maps").exists()
    assert "Decision" not in (out / "artifacts.md").read_text()
    before = (out / "artifacts.json").read_bytes()
    assert main(words) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert (out / "artifacts.json").read_bytes() == before
    assert main([*words, "--overwrite"]) == 3


def test_a_network_without_strides_has_nothing_to_measure(model, images, tmp_path, capsys) -> None:
    description = json.loads(json.dumps(model.card.network))
    for part in ("encoder", "decoder"):
        description[part]["strides"] = [1, 1]
    save_model(tmp_path / "flat", build_network(description), model.card)
    card = json.loads((tmp_path / "flat" / "model.json").read_text())
    card["network"] = description
    del card["card_sha256"]
    (tmp_path / "flat" / "model.json").write_text(json.dumps(card))
    assert main([str(tmp_path / "flat"), str(images), "-o", str(tmp_path / "out")]) == 2
    assert "stride 1 everywhere" in capsys.readouterr().err


@undrawn
def test_a_diverged_network_is_said_to_have_no_numbers(
    model_folder, images, tmp_path, capsys
) -> None:
    trained = load_model(model_folder)
    with torch.no_grad():
        for weight in trained.network.parameters():
            weight.fill_(torch.nan)
    save_model(tmp_path / "nan", trained.network, trained.card)
    assert main([str(tmp_path / "nan"), str(images), "-o", str(tmp_path / "out")]) == 0
    assert "the logits are not finite" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "artifacts.json").read_text())
    assert record["means"] == {}
    assert record["prediction"] is None


@undrawn
def test_every_label_map_and_volume_is_accounted_for(
    model_folder, images, labels, tmp_path, capsys
) -> None:
    first, second = sorted(labels.iterdir())
    shutil.copy(first, labels / "other.nii.gz")
    shutil.copy(second, labels / second.name.removesuffix(".gz"))  # two maps of one case
    (images / "notes.txt").touch()
    words = [str(model_folder), str(images), "--shifts", "2", "-o", str(tmp_path / "out")]
    assert main([*words, "--labels", *map(str, labels.iterdir())]) == 3
    said = capsys.readouterr().err
    for path in (labels / "other.nii.gz", images / "notes.txt", images / second.name):
        assert str(path) in said
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert set(failures) == {str(second), str(second).removesuffix(".gz")}


@undrawn
@pytest.mark.parametrize("form", ["channels", "patients", "dicom"])
def test_images_and_labels_lie_as_in_datasets(form, make_model, tmp_path, capsys) -> None:
    rng, data = np.random.default_rng(0), tmp_path / "data"
    truth = np.zeros((20, 20, 20), np.uint8)
    truth[3:9, 3:15, 2:16], truth[9:15, 3:15, 2:16] = 1, 2
    for case in ("p1", "p2"):
        image = rng.integers(0, 2000, (2, *truth.shape)).astype(np.int16)
        if form == "dicom":
            slices = dicom.ct_series(image[0].T)
            masks = {name: value == truth.T for value, name in enumerate(("one", "two"), 1)}
            dicom.save(slices, data / case / "series")
            dicom.save([dicom.segmentation(slices, masks)], data / case / "label")
            continue
        files = {"_0000": image[0], "_0001": image[1], "": truth}
        names = {"_0000": f"imagesTr/{case}_0000", "_0001": f"imagesTr/{case}_0001"}
        names[""] = f"labelsTr/{case}"
        if form == "patients":
            names = {"_0000": f"{case}/flair", "_0001": f"{case}/t1", "": f"{case}/seg"}
        for key, array in files.items():
            path = data / f"{names[key]}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    images = data / "imagesTr" if form == "channels" else data
    labels = data / "labelsTr" if form == "channels" else data
    known = {"label_values": {"one": 1, "two": 2}} if form == "dicom" else {}
    model = load_model(make_model(3, in_channels=1 if form == "dicom" else 2, **known))
    names = ["flair", "t1"][: model.card.in_channels]
    save_model(tmp_path / "m", model.network, replace(model.card, channels=names))
    words = [str(tmp_path / "m"), str(images), "--labels", str(labels), "--shifts", "2"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "artifacts.json").read_text())["cases"]
    assert [case["case"] for case in found] == ["p1", "p2"]
    assert all("truth" in case["values"] for case in found)


@undrawn
def test_a_map_never_replaces_an_input(model_folder, images, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    (out / "maps").mkdir(parents=True)
    first = sorted(images.iterdir())[0]
    mine = first.rename(out / "maps" / f"{first.name.removesuffix('.nii.gz')}_cycle_spin.nii.gz")
    shutil.copy(mine, first)
    before = mine.read_bytes()
    words = [str(model_folder), str(first), str(mine), "--spin", "--overwrite", "-o", str(out)]
    assert main(words) == 2
    assert mine.read_bytes() == before
    assert "is an input" in capsys.readouterr().err
