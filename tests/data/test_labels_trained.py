"""One training on everything that labels may be, down to the scores and the files."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests_support import QUICK, the_run, train

from medseg.inference.predictor import Predictor
from medseg.metrics import score_case
from medseg.models.weights import load_model
from medseg.record import RunRecord
from medseg.volumes import on_grid_of, read_image, read_labels

SHAPE = (20, 18, 16)
VALUES = {7: 2, 300: "ignore"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnU-Net's form; images in LPS, labels in RAS and scaled, one of them a single slice.

    Label values 0, 1, 7 and 300, of which the last is ignored.
    """
    root = tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(0)
    for number in range(5):
        shape = (*SHAPE[:2], 1) if number == 4 else SHAPE
        label = np.zeros(shape)
        label[3:9, 4:12], label[11:16, 4:12], label[:, 14:] = 1, 7, 300
        image = np.where(label == 300, rng.normal(0, 9, shape), label) + rng.normal(0, 1, shape)
        _save(root / f"data/imagesTr/c{number}_0000.nii.gz", image[::-1, ::-1], (-1, -1), "f4")
        _save(root / f"data/labelsTr/c{number}.nii.gz", label, (1, 1), "i2")
    content = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "left": 1, "right": 7, "ignore": 300},
        "file_ending": ".nii.gz",
    }
    (root / "data/dataset.json").write_text(json.dumps(content))
    values = ", ".join(f"{value}: {to}" for value, to in VALUES.items())
    code = train(
        root,
        "data=folder",
        "plan=none",
        f"data.labels={{{values}}}",
        "data.folds=5",
        "data.fold=1",
        "loss.weight=[1,3]",
        "model.deep_supervision=true",
        "augmentation.side_pairs=[[left,right]]",
        *QUICK,
    )
    assert code == 0
    return root


def _save(path: Path, array: np.ndarray, directions: tuple[int, int], dtype: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    corner = [0 if step > 0 else n - 1 for step, n in zip(directions, array.shape, strict=False)]
    affine = np.diag([*directions, 1.5, 1.0])
    affine[:2, 3] = corner
    image = nib.Nifti1Image(array, affine)
    image.header.set_data_dtype(dtype)  # nibabel scales floats to fill an integer type
    nib.save(image, path)


def test_the_record_names_the_classes_and_not_what_is_ignored(folder: Path) -> None:
    record = RunRecord.read(the_run(folder) / "record.json")
    assert record.classes == ["left", "right"]
    assert all(set(case.metrics) == {"left", "right"} for case in record.cases)


def test_scores_are_those_of_the_voxels_that_count(folder: Path) -> None:
    run = the_run(folder)
    record = RunRecord.read(run / "record.json")
    assert record.cases
    for case in record.cases:
        image = read_image(Path(case.image))
        label = on_grid_of(image, read_labels(Path(case.label), num_classes=3, values=VALUES))
        predicted = read_labels(run / case.prediction, num_classes=3)
        assert predicted.array.shape == image.array.shape[1:]
        rng = np.random.default_rng(0)
        guessed = np.where(label.array == 3, rng.integers(0, 3, label.array.shape), predicted.array)
        again = score_case(
            guessed,
            label.array,
            spacing=image.geometry.spacing,
            labelling=record.labelling,
            tolerance_mm=1.0,
        )
        assert again == case.metrics


def test_the_model_knows_what_label_values_mean(folder: Path) -> None:
    values = Predictor(load_model(the_run(folder))).preprocessing.label_values
    path = folder / "data/labelsTr/c0.nii.gz"
    label = read_labels(path, num_classes=3, values=values)
    assert set(np.unique(label.array)) == {0, 1, 2, 3}
