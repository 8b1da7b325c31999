"""Networks that see the box around what is not 0: zeros around a volume change no label."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from medseg.checkerboard import Study
from medseg.checkerboard.decision import examine
from medseg.data.dataset import Scan
from medseg.errors import ConfigError
from medseg.export import segment
from medseg.export.program import Exported, card_of
from medseg.inference.ensemble import Ensemble, Member
from medseg.inference.predictor import Predictor
from medseg.inference.segment import Prediction, plan_memory
from medseg.models.weights import TrainedModel, load_model
from medseg.volumes import Volume, read_image, write_labels

from ..pairwise import covering

AsVolume = Callable[..., Volume]
Turn = Callable[..., tuple[np.ndarray, np.ndarray]]
MakeModel = Callable[..., Path]
PADS = [(0, 0), (3, 9), (0, 5), (7, 2)]  # of channels, and of each axis
OBLIQUE = np.array([[0.0, -1.25, 0.1, 3], [1.1, 0, 0, -7], [0, 0.1, 1.5, 2], [0, 0, 0, 1]])
EVERY = (0, 1, 2)


def two_channels(scan: np.ndarray) -> np.ndarray:
    """Each of which is 0 on a side; together they reach all sides."""
    image = np.stack([scan + 1, 2 - scan])
    image[0, :4], image[1, -4:], image[:, :, 0, 0] = 0, 0, 0
    return image


def regions_of(model: TrainedModel) -> TrainedModel:
    """Its three outputs as regions that overlap."""
    regions = {"regions": [[1, 2, 3], [2, 3], [3]], "regions_class_order": [1, 2, 3]}
    card = replace(model.card, classes=["whole", "core", "enhancing"], **regions)
    return replace(model, card=card)


@covering(
    dims=[2, 3],
    spacing=[None, (1.4, 0.9, None)],
    codes=["RAS", "LPS", "PIR", "SAL"],
    overlap=[False, True],
)
def test_zeros_around_a_volume_change_nothing(
    dims: int,
    spacing: tuple | None,
    codes: str,
    overlap: bool,
    make_model: MakeModel,
    scan: np.ndarray,
    as_volume: AsVolume,
    turn: Turn,
) -> None:
    options: dict[str, Any] = {"in_channels": 2, "spacing": spacing, "slice_axis": 1}
    image = two_channels(scan)

    def predicted(array: np.ndarray, **crop: str) -> Prediction:
        model = load_model(make_model(dims, **options, **crop))
        predictor = Predictor(regions_of(model) if overlap else model, device="cpu")
        ensemble = Ensemble([Member(predictor=predictor, shifts=[(0, 0, 0), (1, 1, 1)])])
        volume = as_volume(*turn(array, OBLIQUE, codes))
        return ensemble.predict(volume, probabilities=EVERY, uncertainty=True)

    wanted, found = predicted(image), predicted(np.pad(image, PADS), crop="nonzero")
    assert wanted.labels.any()
    inside, _ = turn(np.pad(np.ones(image.shape[1:], bool), PADS[1:]), OBLIQUE, codes)
    np.testing.assert_array_equal(found.labels[inside], wanted.labels.ravel())
    assert not found.labels[~inside].any()
    assert wanted.uncertainty is not None
    assert found.uncertainty is not None
    np.testing.assert_array_equal(found.uncertainty[inside], wanted.uncertainty.ravel())
    assert not found.uncertainty[~inside].any()
    assert wanted.probabilities is not None
    assert found.probabilities is not None
    pairs = zip(found.probabilities, wanted.probabilities, strict=True)
    for output, (whole, own) in enumerate(pairs):
        np.testing.assert_array_equal(whole[inside], own.ravel())
        assert (whole[~inside] == (output == 0 and not overlap)).all()


@pytest.fixture(scope="module")
def cropping(make_model: MakeModel) -> TrainedModel:
    return load_model(make_model(3, spacing=(1.2, 1.2, 1.7), crop="nonzero"))


def test_a_picture_and_arrays(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(2, crop="nonzero")
    grey = np.random.default_rng(0).integers(1, 255, (19, 22), np.uint8)
    padded = np.pad(grey, [(5, 1), (0, 8)])
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(padded).save(tmp_path / "padded.png")
    small, large = (read_image(tmp_path / name) for name in ("a.png", "padded.png"))
    predictor = Predictor.from_run(str(model), device="cpu")
    wanted = predictor.predict(small).labels
    assert len(np.unique(wanted)) > 1
    rows = np.s_[:, 5:-1] if large.array.shape[1] == 30 else np.s_[5:-1]
    found = predictor(large.array, affine=large.geometry.affine)
    assert np.count_nonzero(found) == np.count_nonzero(found[rows]) == np.count_nonzero(wanted)
    assert found.shape == large.array.shape[1:]


def test_nothing_but_zeros_is_segmented_whole(
    cropping: TrainedModel, model: TrainedModel, as_volume: AsVolume
) -> None:
    volume = as_volume(np.zeros((1, 9, 8, 7), np.float32))
    card = replace(cropping.card, preprocessing=model.card.preprocessing)
    plain = Predictor(replace(cropping, card=card), device="cpu").predict(volume).labels
    found = Predictor(cropping, device="cpu").predict(volume).labels
    assert found.shape == plain.shape


def test_a_plan_counts_what_is_seen_and_the_outputs_as_a_whole(
    cropping: TrainedModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    plain = replace(
        cropping,
        card=replace(
            cropping.card,
            preprocessing={k: v for k, v in cropping.card.preprocessing.items() if k != "crop"},
        ),
    )
    cpu = torch.device("cpu")

    def needed(model: TrainedModel, array: np.ndarray, kept: int = 0) -> int:
        view = Predictor(model, device="cpu").view
        return plan_memory([view], as_volume(array[None]), cpu, classes=3, kept=kept).needed

    padded = np.pad(scan + 1, 20)
    assert needed(cropping, scan + 1, 4) == needed(plain, scan + 1, 4)
    assert needed(cropping, scan + 1) <= needed(cropping, padded) < needed(plain, padded)
    kept = 1000  # float32 maps beside the labels, in the box and on the whole grid at once
    assert needed(cropping, padded, kept) > (4 * kept + 1) * (padded.size + scan.size)


def test_members_that_crop_and_members_that_do_not_are_refused(
    cropping: TrainedModel, model: TrainedModel
) -> None:
    members = [Member(predictor=Predictor(each, device="cpu")) for each in (cropping, model)]
    with pytest.raises(ConfigError, match="crop"):
        Ensemble(members)


def test_the_script_beside_an_onnx_file_crops_as_well(
    cropping: TrainedModel, scan: np.ndarray, as_volume: AsVolume, turn: Turn
) -> None:
    def network(windows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return cropping.network(torch.from_numpy(windows)).numpy()

    window = Exported(program=cast(Any, None), multiple=(2, 2, 2), is_dynamic=True)
    card = card_of(cropping, window)
    assert card["format"] > 2  # scripts that know 1 and 2 do not crop
    for array in (np.pad(scan[None] + 1, PADS), np.zeros((1, 9, 8, 7), np.float32)):
        volume = as_volume(*turn(array, OBLIQUE, "PIR"))
        wanted = Predictor(cropping, device="cpu").predict(volume).labels
        got = segment.segment(network, card, volume.array, volume.geometry.affine)
        assert got.dtype == wanted.dtype
        # where two classes are equally probable but for rounding, either may win
        assert np.count_nonzero(got != wanted) <= 1e-4 * wanted.size


def test_artifacts_are_measured_in_the_box(
    cropping: TrainedModel, scan: np.ndarray, save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    """With the labels of the network itself as truth, nothing is wrong on the volume's own grid."""
    predictor = Predictor(cropping, device="cpu")
    rows = []
    for name, array in (("small", scan + 1), ("large", np.pad(scan + 1, PADS[1:]))):
        source, label = save_scan(array, f"{name}.nii.gz"), tmp_path / f"{name}-label.nii.gz"
        image = read_image(source)
        write_labels(label, predictor.predict(image).labels, image)
        study = Study(predictor.network, cropping.card, shifts=2)
        case = Scan(case_id="a", images=(source,))
        spin = tmp_path / f"{name}-map.nii.gz"
        rows.append(examine(case, label, study=study, predictor=predictor, spin=spin))
        assert nib.load(spin).shape[:3] == array.shape
    assert rows[0].values["decision"]["dice"] == 1
    assert rows[0].values == rows[1].values
