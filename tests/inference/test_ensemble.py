"""The mean of several networks and of several views, by other ways than the product's."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from medseg.errors import ConfigError, DataError
from medseg.inference.ensemble import Ensemble, Member
from medseg.inference.mirroring import mirrored, mirrored_axes
from medseg.inference.predictor import Predictor
from medseg.models.members import load_members
from medseg.models.weights import TrainedModel, load_model
from medseg.volumes import Volume

AsVolume = Callable[..., Volume]
MakeModel = Callable[..., Path]
EVERY = (0, 1, 2)
OBLIQUE = np.array([[0.0, -1.25, 0.1, 3], [1.1, 0, 0, -7], [0, 0.1, 1.5, 2], [0, 0, 0, 1]])


def other_weights(model: TrainedModel, seed: int, **card: object) -> TrainedModel:
    """The same network with random weights of its own, trained on that card."""
    torch.manual_seed(seed)
    loaded = load_model(model.source)
    for parameter in loaded.network.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    return replace(loaded, card=replace(loaded.card, **card))


def member(model: TrainedModel, **options) -> Member:
    return Member(predictor=Predictor(model, device="cpu"), **options)


def alone(model: TrainedModel, volume: Volume) -> np.ndarray:
    found = Predictor(model, device="cpu").predict(volume, probabilities=True).probabilities
    assert found is not None
    return found


@pytest.mark.parametrize("affine", [np.diag([1.0, 1.25, 1.5, 1]), OBLIQUE])
def test_members_are_averaged_on_the_grid_of_the_volume_whatever_their_own(
    affine: np.ndarray, make_model: MakeModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    volume = as_volume(scan[None], affine)
    models = [
        load_model(make_model(3)),
        other_weights(load_model(make_model(3, spacing=(1.5, 1.0, 2.0))), 1),
        other_weights(load_model(make_model(2, patch_size=(12, 16))), 2),
    ]
    mean = np.mean([alone(model, volume) for model in models], axis=0)
    for order in (models, models[::-1]):
        found = Ensemble([member(model) for model in order]).predict(
            volume, probabilities=EVERY, uncertainty=True
        )
        np.testing.assert_allclose(found.probabilities, mean, atol=1e-5)
        best = np.sort(mean, axis=0)
        sure = best[-1] - best[-2] > 1e-4
        np.testing.assert_array_equal(found.labels[sure], mean.argmax(0)[sure])
        np.testing.assert_allclose(found.uncertainty, entropy(mean, base=2), atol=1e-4)


def test_members_of_one_grid_are_averaged_there_with_the_same_result(
    make_model: MakeModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    """Linear interpolation of a mean is the mean of what is interpolated."""
    volume = as_volume(scan[None])
    one = load_model(make_model(3, spacing=(1.5, 1.0, 2.0)))
    models = [one, other_weights(one, 3)]
    mean = np.mean([alone(model, volume) for model in models], axis=0)
    found = Ensemble([member(model) for model in models]).predict(volume, probabilities=EVERY)
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-5)


def test_classes_are_averaged_by_name(
    model: TrainedModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    volume = as_volume(scan[None])
    turned = other_weights(model, 4, classes=model.card.classes[::-1])
    mean = (alone(model, volume) + alone(turned, volume)[[0, 2, 1]]) / 2
    found = Ensemble([member(model), member(turned)]).predict(volume, probabilities=EVERY)
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-5)


def test_some_classes_are_returned_as_they_are_among_all(
    make_model: MakeModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    volume, model = as_volume(scan[None]), load_model(make_model(3, spacing=(2.0, 1.0, 2.0)))
    found = Ensemble([member(model)]).predict(volume, probabilities=[2])
    np.testing.assert_allclose(found.probabilities, alone(model, volume)[[2]], atol=1e-6)
    plain = Predictor(model, device="cpu").predict(volume)
    np.testing.assert_array_equal(found.labels, plain.labels)
    assert found.uncertainty is None


@pytest.mark.parametrize("dims", [2, 3])
def test_mirror_images_are_mirrored_back_before_they_are_averaged(
    dims: int, make_model: MakeModel
) -> None:
    patch = (8, 12, 16)[:dims]
    model = load_model(make_model(dims, patch_size=patch))
    names = ("left-right", "anterior-posterior", "head-foot")[:dims]
    window = torch.randn(2, 1, *patch)
    with torch.no_grad():
        found = mirrored(model, names).network(window)
        views = [
            model.network(window.flip(axes)).flip(axes)
            for n in range(dims + 1)
            for axes in itertools.combinations(range(2, dims + 2), n)
        ]
    torch.testing.assert_close(found, torch.stack(views).mean(0), atol=1e-5, rtol=1e-5)


def test_classes_named_by_side_are_swapped_where_left_and_right_are_mirrored(
    model: TrainedModel,
) -> None:
    sided = replace(model, card=replace(model.card, side_pairs=[[1, 2]]))
    window = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        plain, across = model.network(window), model.network(window.flip(2)).flip(2)
        up = model.network(window.flip(4)).flip(4)
        found = mirrored(sided, ["left-right"]).network(window)
        torch.testing.assert_close(found, (plain + across[:, [0, 2, 1]]) / 2, atol=1e-5, rtol=1e-5)
        found = mirrored(sided, ["head-foot"]).network(window)
        torch.testing.assert_close(found, (plain + up) / 2, atol=1e-5, rtol=1e-5)


def test_a_network_is_mirrored_only_as_training_mirrored(model: TrainedModel) -> None:
    def of(**card: object) -> TrainedModel:
        return replace(model, card=replace(model.card, **card))

    seen = of(mirrored=["left-right", "head-foot"])
    assert mirrored_axes(seen) == ["left-right", "head-foot"]
    assert mirrored_axes(seen, ["head-foot"]) == ["head-foot"]
    assert mirrored_axes(of(mirrored=None), ["left-right"]) == ["left-right"]
    refused = [
        (seen, ["anterior-posterior"]),
        (of(mirrored=[]), []),
        (of(mirrored=[]), ["head-foot"]),
        (of(mirrored=None), []),
        (of(mirrored=None, classes=["kidney left", "kidney right"]), ["left-right"]),
        (seen, ["diagonal"]),
    ]
    for other, axes in refused:
        with pytest.raises(ConfigError):
            mirrored_axes(other, axes)


def test_moved_images_are_moved_back(
    make_model: MakeModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    """Averaged by hand over the shifts."""
    model = load_model(make_model(3))
    volume = as_volume(scan[None])
    image = Predictor(model, device="cpu").preprocessing.image(volume)
    shifts = [(0, 0, 0), (1, 0, 2), (3, 1, 1)]
    found = Ensemble([member(model, shifts=shifts)]).predict(volume, probabilities=EVERY)
    predictor = Predictor(model, device="cpu")
    expected = []
    for a, b, c in shifts:
        padded = torch.nn.functional.pad(image, (c, 0, b, 0, a, 0))
        expected.append(predictor.logits(padded)[:, a:, b:, c:].softmax(0).numpy())
    np.testing.assert_allclose(found.probabilities, np.mean(expected, axis=0), atol=1e-5)


def test_a_folder_of_members_is_read_and_may_name_nothing_outside(
    make_model: MakeModel, tmp_path: Path
) -> None:
    models = [make_model(3), make_model(3, spacing=(1.0, 1.0, 2.0))]
    folder = tmp_path / "all of them"
    folder.mkdir()
    for number, one in enumerate(models):
        one.rename(folder / f"fold_{number}")
    listing = folder / "ensemble.json"
    listing.write_text(json.dumps({"format": 1, "members": ["fold_0", "fold_1"]}))
    found = load_members([folder, folder / "fold_0"])
    assert [model.source.parent.name for model in found] == ["fold_0", "fold_1", "fold_0"]
    folds = tmp_path / "folds"  # of a cross-validation: the runs lie beside their networks
    shutil.copytree(folder, folds / "ensemble")
    shutil.copytree(folder / "fold_0", folds / "fold=0" / "model")
    assert [model.source.parents[1].name for model in load_members([folds])] == ["ensemble"] * 2
    for text in (
        '{"format": 1, "members": ["../x"]}',
        '{"format": 1, "members": ["/etc"]}',
        '{"format": 1, "members": []}',
        '{"format": 2, "members": ["fold_0"]}',
        "[]",
        "{",
    ):
        listing.write_text(text)
        with pytest.raises(DataError, match=r"ensemble\.json"):
            load_members([folder])


def test_networks_of_other_classes_or_channels_do_not_predict_together(
    make_model: MakeModel,
) -> None:
    with pytest.raises(ConfigError, match="channels"):
        load_members([make_model(3), make_model(3, in_channels=2)])
