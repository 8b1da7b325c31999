"""The script that is taken along, against the path of prediction that it must equal."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.data.preprocess import (
    _INTENSITIES,
    Intensity,
    MinMax,
    PerChannel,
    Preprocessing,
    Unchanged,
    Window,
    ZScore,
)
from medseg.export import segment
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel, load_model
from medseg.volumes import Volume, read_image

AsVolume = Callable[..., Volume]
Turn = Callable[..., tuple[np.ndarray, np.ndarray]]
MakeModel = Callable[..., Path]

OBLIQUE = nib.affines.from_matvec(
    np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.3, 1, 0.2], [0, -0.1, 1]]))[0] * [0.9, 1.3, 2.5],
    [5, -7, 11],
)
INTENSITIES = [
    ZScore(),
    ZScore(nonzero=True),
    Window(low=-0.5, high=1.5),
    MinMax(),
    Unchanged(),
    PerChannel(channels=[ZScore()]),
]


def by_script(model: TrainedModel, volume: Volume, **card: Any) -> np.ndarray:
    """The script with the network itself in place of its ONNX form."""

    def network(windows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.network(torch.from_numpy(windows)).numpy()

    own = {**model.card.plain(), "overlap": 0.5, "multiple": [2] * len(model.card.patch_size)}
    return segment.segment(network, own | card, volume.array.copy(), volume.geometry.affine)


def assert_equal(model: TrainedModel, volume: Volume) -> None:
    wanted = Predictor(model, device="cpu").predict(volume).labels
    got = by_script(model, volume)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    assert len(np.unique(wanted)) > 1
    # where two classes are equally probable but for rounding, either may win
    assert np.count_nonzero(got != wanted) <= 1e-4 * wanted.size


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR"])
def test_oblique_volumes_of_any_orientation(
    dims: int, codes: str, make_model: MakeModel, scan: np.ndarray, as_volume: AsVolume, turn: Turn
) -> None:
    model = load_model(make_model(dims, spacing=(1.1, 1.4, 1.9), slice_axis=1))
    assert_equal(model, as_volume(*turn(scan[None], OBLIQUE, codes)))


@pytest.mark.parametrize("shape", [(20, 22, 1), (5, 40, 3), (33, 17, 18)])
def test_grids_smaller_and_larger_than_the_window(
    shape: tuple[int, ...], make_model: MakeModel, as_volume: AsVolume
) -> None:
    model = load_model(make_model(3, patch_size=(16, 15, 9), spacing=(None, 0.8, 2.0)))
    noise = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    assert_equal(model, as_volume(noise, OBLIQUE))


@pytest.mark.parametrize("intensity", INTENSITIES, ids=repr)
def test_every_mapping_of_intensities(
    intensity: Intensity, model: TrainedModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    preprocessing = Preprocessing(intensity=intensity, spacing=(1.2, 1.2, 1.2)).describe()
    own = replace(model, card=replace(model.card, preprocessing=preprocessing))
    image = np.where(scan > np.median(scan), scan, 0)
    assert_equal(own, as_volume(image[None]))


@pytest.mark.parametrize("spacing", [(1.2, 0.7, 3.1), (0.6, None, 1.1)])
def test_images_that_are_interpolated_cubically(
    spacing: tuple, model: TrainedModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    own = Preprocessing(intensity=ZScore(), spacing=spacing, interpolation="cubic").describe()
    card = replace(model.card, preprocessing=own)
    assert_equal(replace(model, card=card), as_volume(scan[None], OBLIQUE))


def test_no_mapping_is_left_out() -> None:
    assert {type(each).__name__ for each in INTENSITIES} == set(_INTENSITIES)


def test_several_channels_each_with_its_own_mapping(
    make_model: MakeModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    model = load_model(make_model(3, in_channels=2))
    intensity = PerChannel(channels=[Window(low=-0.3, high=0.9), ZScore()])
    preprocessing = Preprocessing(intensity=intensity).describe()
    own = replace(model, card=replace(model.card, preprocessing=preprocessing))
    assert_equal(own, as_volume(np.stack([scan, 3 - scan])))


def test_a_constant_image_is_no_division_by_zero(model: TrainedModel, as_volume: AsVolume) -> None:
    volume = as_volume(np.full((1, 9, 9, 9), 1234.567, np.float32))
    labels = by_script(model, volume)
    assert np.array_equal(labels, Predictor(model, device="cpu").predict(volume).labels)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_headers_are_read_as_medseg_reads_them(
    code: int, save_scan: Callable[..., Path], scan: np.ndarray
) -> None:
    header = nib.Nifti1Header()
    header["xyzt_units"] = code
    scan[2, 3, 4] = np.nan
    path = save_scan(scan, affine=OBLIQUE, header=header)
    if code == 0:
        image = nib.load(path)
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        path = path.with_name("nowhere.nii")
        nib.save(image, path)
    _, array, affine = segment.read(path, 1)
    wanted = read_image(path, nonfinite="replace")
    np.testing.assert_array_equal(array, wanted.array)
    np.testing.assert_allclose(affine, wanted.geometry.affine, rtol=1e-5, atol=1e-5)
