"""One training on regions that overlap, as in BraTS, down to label maps, masks and scores."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from tests_support import QUICK, resume, the_run, train

from medseg.cli.check import main as check
from medseg.cli.predict import main as predict
from medseg.data.forms import read_dataset
from medseg.evaluation.scores import evaluate
from medseg.export import segment
from medseg.export.bundle import write_bundle
from medseg.inference.ensemble import Ensemble, Member
from medseg.inference.predictor import Predictor
from medseg.models.members import load_members
from medseg.models.weights import TrainedModel, load_model, save_model
from medseg.record import RunRecord
from medseg.volumes import read_image

REGIONS = {"whole": [1, 2, 3], "core": [1, 3], "enhancing": [3]}
ORDER = [2, 1, 3]  # what is whole alone has a value above that of the core
IGNORED = 4
RADII = {2: 7.0, 1: 5.0, 3: 3.0}
SHAPE = (16, 18, 17)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("regions")
    rng = np.random.default_rng(0)
    for number in range(4):
        centre = [n / 2 + rng.uniform(-1, 1) for n in SHAPE]
        distance = np.sqrt(
            sum((g - c) ** 2 for g, c in zip(np.indices(SHAPE), centre, strict=True))
        )
        label = np.zeros(SHAPE, np.uint8)
        for value, radius in RADII.items():
            label[distance < radius] = value
        image = np.choose(label, (0, 200, 100, 300)) + rng.normal(0, 20, SHAPE)
        label[:2] = IGNORED
        _save(root / f"data/imagesTr/c{number}_0000.nii.gz", image.astype(np.int16))
        _save(root / f"data/labelsTr/c{number}.nii.gz", label)
    content = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, **REGIONS, "ignore": IGNORED},
        "regions_class_order": ORDER,
        "file_ending": ".nii.gz",
    }
    (root / "data/dataset.json").write_text(json.dumps(content))
    options = ["optimizer.lr=0.02", "data.batches_per_epoch=8", "model.deep_supervision=true"]
    assert train(root, "data=folder", "plan=none", *options, *QUICK) == 0
    return root


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    return load_model(the_run(folder))


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 1.5, 1.0])), path)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def written(probabilities: np.ndarray) -> np.ndarray:
    """nnU-Net's rule, given the regions as first axis."""
    labels = np.zeros(probabilities.shape[1:], int)
    for region, value in enumerate(ORDER):
        labels[probabilities[region] > 0.5] = value
    return labels


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_regions_are_scored_as_what_they_consist_of(folder: Path) -> None:
    run = the_run(folder)
    record = RunRecord.read(run / "record.json")
    assert (record.classes, record.regions) == ([*REGIONS], [*REGIONS.values()])
    assert record.regions_class_order == ORDER
    for case in record.cases:
        truth, found = voxels(Path(case.label)), voxels(run / case.prediction)
        assert {*np.unique(found)} <= {0, *ORDER}
        found = np.where(truth == IGNORED, 0, found)
        for name, values in REGIONS.items():
            expected = dice(np.isin(found, values), np.isin(truth, values))
            assert case.metrics[name]["dice"] == pytest.approx(expected)
    assert {f"val_dice_{name}" for name in REGIONS} <= {*record.history[-1]}
    again = evaluate((run / record.cases[0].prediction).parent, folder / "data").table.set_index(
        ["case", "class"]
    )
    for case in record.cases:
        for name in REGIONS:
            assert again.loc[case.case, name]["dice"] == case.metrics[name]["dice"]


def test_prediction_writes_the_map_by_the_order_and_masks_that_overlap(
    folder: Path, tmp_path: Path
) -> None:
    image = folder / "data/imagesTr/c0_0000.nii.gz"
    words = ["-m", str(the_run(folder)), "-i", str(image), "-o", str(tmp_path), "--precision=fp32"]
    assert predict([*words, "--probabilities", "--split-classes", "--label-names"]) == 0
    labels = voxels(tmp_path / "c0.nii.gz")
    probabilities = np.moveaxis(voxels(tmp_path / "c0_probabilities.nii.gz"), -1, 0)
    assert probabilities.shape == (3, *SHAPE)
    np.testing.assert_array_equal(labels, written(probabilities))
    masks = {name: voxels(tmp_path / f"c0/{name}.nii.gz") for name in REGIONS}
    report = json.loads((tmp_path / "c0.json").read_text())
    for name, values in REGIONS.items():
        np.testing.assert_array_equal(masks[name], np.isin(labels, values))
        assert report["classes"][name]["label"] == values
        assert report["classes"][name]["voxels"] == masks[name].sum()
    assert all((masks[a] >= masks[b]).all() for a, b in pairwise(REGIONS))
    assert probabilities.sum(0).max() > 1  # no softmax


def test_networks_are_averaged_region_by_region(folder: Path, model: TrainedModel) -> None:
    volume = read_image(folder / "data/imagesTr/c1_0000.nii.gz", channels=1)
    coarse = model.card.preprocessing | {"spacing": [1.4, 1.0, 1.5]}
    other = replace(model, card=replace(model.card, preprocessing=coarse))
    members = [Member(predictor=Predictor(each, device="cpu")) for each in (model, other)]
    alone = [each.predictor.predict(volume, probabilities=True) for each in members]
    mean = np.mean([each.probabilities for each in alone if each.probabilities is not None], 0)
    for shown, some in ((members, mean), (members[:1], alone[0].probabilities)):
        found = Ensemble(shown).predict(volume, probabilities=[0, 1, 2], uncertainty=True)
        assert found.probabilities is not None
        np.testing.assert_allclose(found.probabilities, some, atol=1e-5)
        certain = (np.abs(some - 0.5) > 1e-5).all(0)
        np.testing.assert_array_equal(found.labels[certain], written(some)[certain])
        entropy = -sum(p * np.log2(np.clip(p, 1e-30, 1)) for p in (some, 1 - some)).sum(0)
        np.testing.assert_allclose(found.uncertainty, entropy, atol=1e-3)


def test_a_network_of_classes_does_not_predict_with_one_of_regions(
    model: TrainedModel, tmp_path: Path
) -> None:
    turned = replace(model.card, regions=[[1], [1, 3], [1, 2, 3]], regions_class_order=[1, 3, 2])
    plain: dict[str, Any] = {"regions": [], "regions_class_order": []}
    for name, card in (("turned", turned), ("classes", replace(model.card, **plain))):
        save_model(tmp_path / name, model.network, card)
    save_model(tmp_path / "own", model.network, model.card)
    for name in ("turned", "classes"):
        with pytest.raises(Exception, match="regions"):
            load_members([tmp_path / "own", tmp_path / name])


def test_the_script_beside_an_onnx_file_writes_the_same_map(
    folder: Path, model: TrainedModel, tmp_path: Path
) -> None:
    def network(windows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.network(torch.from_numpy(windows)).numpy()

    volume = read_image(folder / "data/imagesTr/c2_0000.nii.gz", channels=1)
    coarse = replace(
        model.card, preprocessing=model.card.preprocessing | {"spacing": [1.3, 0.8, 1.5]}
    )
    predictor = Predictor(replace(model, card=coarse), device="cpu")
    card = coarse.plain() | {"overlap": predictor.overlap, "multiple": [2, 2, 2]}
    found = segment.segment(network, card, volume.array.copy(), volume.geometry.affine)
    wanted = predictor.predict(volume).labels
    assert (found == wanted).mean() > 0.999  # where rounding does not decide
    assert {*np.unique(found)} <= {0, *ORDER}
    with pytest.raises(Exception, match="onnx"):
        write_bundle(model, tmp_path)


def test_the_dataset_is_read_alike_however_its_regions_are_said(folder: Path) -> None:
    stated = read_dataset(folder / "data")
    given = read_dataset(folder / "data", regions=REGIONS, order=ORDER)
    assert stated.labelling == given.labelling
    fewer = read_dataset(
        folder / "data", regions={"whole": [1, 2, 3], "core": [1, 3]}, order=[2, 1]
    )
    assert fewer.num_classes == 2
    with pytest.raises(Exception, match="label values"):
        read_dataset(folder / "data", regions={"whole": [1, 2], "core": [1]}, order=[2, 1])


def test_a_repaired_copy_keeps_the_regions(folder: Path, tmp_path: Path) -> None:
    assert check([str(folder / "data"), "--fix", "-o", str(tmp_path / "copy")]) == 0
    copy, own = read_dataset(tmp_path / "copy"), read_dataset(folder / "data")
    assert (copy.labelling, copy.label_values) == (own.labelling, own.label_values)


def test_a_run_on_regions_goes_on(folder: Path) -> None:
    run = the_run(folder)
    assert resume(run, "trainer.epochs=3") == 0
    record = RunRecord.read(run / "record.json")
    assert (len(record.history), record.classes) == (3, [*REGIONS])
