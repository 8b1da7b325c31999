"""One training on volumes that are cropped to what is not 0, down to the scores and the files."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tests_support import QUICK, the_run, train

from medseg.cli.predict import main as predict
from medseg.data.building import write_case, write_description
from medseg.metrics import score_case
from medseg.models.weights import load_model
from medseg.record import RunRecord
from medseg.volumes import read_image, read_labels

SPACING = (1.0, 1.2, 1.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels, each with its own zeros around; 12 voxels of foreground where both are 0."""
    root = tmp_path_factory.mktemp("crop")
    rng = np.random.default_rng(0)
    names = [f"c{number}" for number in range(5)]
    for number, name in enumerate(names):
        image = np.zeros((26, 24, 22, 2), np.float32)
        image[4:-3, 5 + number : -4, 3:-2, 0] = rng.normal(4, 1, (19, 15 - number, 17))
        image[5:-4, 6 + number : -5, 4:-1, 1] = rng.normal(4, 1, (17, 13 - number, 17))
        label = np.zeros(image.shape[:3], np.uint8)
        label[8:14, 12:17, 8:14] = 1
        label[:, -1, 0][:12] = 1
        volumes = (nib.Nifti1Image(a, np.diag([-1, 1.2, 1.5, 1])) for a in (image, label))
        write_case(root / "data", name, **dict(zip(("image", "label"), volumes, strict=True)))
    about = dict.fromkeys(("name", "description", "reference", "licence"), "x")
    write_description(
        root / "data", modalities=["T1", "T2"], classes=["cube"], case_ids=names, **about
    )
    own = ["data=folder", "plan=none", "data.in_channels=2", "data.num_classes=2"]
    assert train(root, *own, "data.crop=nonzero", "trainer.epochs=1", *QUICK) == 0
    return root


def test_the_record_and_the_model_say_that_volumes_are_cropped(folder: Path) -> None:
    record = RunRecord.read(the_run(folder) / "record.json")
    assert record.config["data"]["crop"] == "nonzero"
    assert load_model(the_run(folder)).card.preprocessing["crop"] == "nonzero"


def test_what_was_cropped_away_counts_as_missed(folder: Path) -> None:
    run = the_run(folder)
    record = RunRecord.read(run / "record.json")
    assert record.cases
    for case in record.cases:
        image = read_image(Path(case.image), channels=2)
        label = read_labels(Path(case.label), num_classes=2, like=image)
        predicted = read_labels(run / case.prediction, num_classes=2, like=image)
        assert np.count_nonzero(label.array[~image.array.any(0)]) == 12
        assert not predicted.array[:3].any()
        again = score_case(
            predicted.array,
            label.array,
            spacing=image.geometry.spacing,
            labelling=record.labelling,
            tolerance_mm=1.0,
        )
        assert again == case.metrics


def test_outputs_have_the_grid_of_the_whole_volume(folder: Path) -> None:
    scan, out = folder / "data/imagesTr/c0.nii.gz", folder / "out"
    words = ["-m", str(the_run(folder)), "-i", str(scan), "-o", str(out), "-d", "cpu"]
    assert predict([*words, "--probabilities", "--uncertainty", "--format", "nrrd"]) == 0
    labels = sitk.ReadImage(str(out / "c0.seg.nrrd"))
    own = sitk.ReadImage(str(scan))
    assert labels.GetSize() == own.GetSize()[:3]
    np.testing.assert_allclose(labels.GetSpacing(), SPACING, atol=1e-5)
    np.testing.assert_allclose(labels.GetOrigin(), own.GetOrigin()[:3], atol=1e-5)
    image, maps = nib.load(scan), nib.load(out / "c0_probabilities.nii.gz")
    np.testing.assert_allclose(maps.affine, image.affine, atol=1e-5)
    probabilities = maps.get_fdata()
    assert probabilities.shape == image.shape
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert (probabilities[:4, ..., 0] == 1).all()
    entropy = nib.load(out / "c0_uncertainty.nii.gz").get_fdata()
    assert not entropy[:4].any()
    assert entropy.any()
