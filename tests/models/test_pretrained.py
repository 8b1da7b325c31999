"""The trained networks that come with medseg."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.models import main as list_models
from medseg.cli.predict import main as predict
from medseg.errors import DataError
from medseg.models import pretrained
from medseg.models.weights import load_model

NAMES = pretrained.names()


def test_there_is_a_hippocampus_and_all_together_are_small() -> None:
    assert "hippocampus" in NAMES
    here = Path(pretrained.__file__).parent
    files = [path for path in here.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 10e6
    assert {path.suffix for path in files} == {".py", ".json", ".safetensors"}


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_loaded_by_its_name_from_any_folder(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = load_model(Path(name))
    assert model.card.trained_on is not None
    assert set(pretrained.about(name).dice) == set(model.card.classes)


def test_a_folder_of_that_name_goes_before(tmp_path, monkeypatch, model_folder: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAMES[0]).mkdir()
    with pytest.raises(DataError, match="holds no model"):
        load_model(Path(NAMES[0]))
    for file in model_folder.iterdir():
        (tmp_path / NAMES[0] / file.name).symlink_to(file)
    assert load_model(Path(NAMES[0])).sha256 == load_model(model_folder).sha256


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(DataError, match=NAMES[0]):
        load_model(Path(f"{NAMES[0]}x"))


def test_the_list_tells_of_each_what_it_takes_and_how_good_it_is(capsys) -> None:
    assert list_models([]) == 0
    text = capsys.readouterr().out
    for name in NAMES:
        known = pretrained.about(name)
        for part in (name, known.licence, known.citation, f"{max(known.dice.values()):.4f}"):
            assert part in text


@pytest.mark.parametrize(
    ("spacing", "shift", "is_warned"), [(1, 0, False), (6, 0, True), (1, -4000, True)], ids=str
)
def test_an_image_unlike_its_training_is_segmented_with_a_warning(
    spacing: float, shift: float, is_warned: bool, tmp_path: Path, capsys
) -> None:
    rng = np.random.default_rng(0)
    voxels = (rng.normal(300, 60, (36, 48, 32)).clip(0) + shift).astype(np.int16)
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.diag([spacing, spacing, spacing, 1])), scan)
    assert predict(["-m", "hippocampus", "-i", str(scan), "-o", str(tmp_path / "out")]) == 0
    assert ("unlike the images of training" in capsys.readouterr().err) == is_warned
