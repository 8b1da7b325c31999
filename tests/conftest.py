"""Phantoms, tiny untrained networks, and volumes turned every way."""

import gc
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# OpenMP reads both once, when torch is imported: tiny networks are fastest on one thread, and
# threads that spin while they wait take the core from a busy neighbour
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from tests_support import SWAPS, arguments, the_run

from medseg.data.phantom import Phantom, phantom_case
from medseg.data.preprocess import Preprocessing, ZScore
from medseg.models.description import build_network
from medseg.models.weights import ModelCard, TrainedModel, load_model, save_model
from medseg.volumes import Geometry, Volume

# what is imported by now is never garbage, and looking at it again takes a sixth of the time
gc.freeze()
gc.set_threshold(50_000, 20, 20)

os.fsync = lambda fd: None  # a test needs no power cut survived, and a disk takes 5 ms a file

# time is never asserted: a busy machine is no fault of what is tested
# the same examples each time, so that a failure tells of the change; the long fuzz seeks new ones
settings.register_profile(
    "medseg", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("medseg")

PHANTOM_CLASSES = 2
PHANTOM_SHAPE = (20, 22, 18)
PHANTOM_SPACING = (1.0, 1.25, 1.5)
ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*axes)
]


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of six cases of one channel and two classes, stored in six orientations."""
    source = Phantom(
        root=tmp_path_factory.mktemp("phantom"),
        cases=6,
        shape=PHANTOM_SHAPE,
        spacing=PHANTOM_SPACING,
        classes=PHANTOM_CLASSES,
    )
    return source.prepare()


@pytest.fixture(autouse=True)
def _the_same_every_time() -> Iterator[None]:
    """One seed, and one thread: tiny networks are faster when threads do not wait for others."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def orientations() -> list[str]:
    """The 48 ways to name three axes, such as LPS."""
    return ORIENTATIONS


@pytest.fixture(scope="session")
def as_volume() -> Callable[..., Volume]:
    """Puts an array `(channels, i, j, k)` or labels `(i, j, k)` into the patient, in memory."""

    def _volume(array: np.ndarray, affine: np.ndarray | None = None) -> Volume:
        affine = np.diag([*PHANTOM_SPACING, 1.0]) if affine is None else affine
        header = nib.Nifti1Header()
        header.set_sform(affine, 1)
        return Volume(Path("memory.nii"), array, Geometry(affine, "sform"), header, ())

    return _volume


@pytest.fixture(scope="session")
def turn() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Stores an array whose last three axes are (i, j, k) in another orientation."""

    def _turn(array: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
        change = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
        turned = apply_orientation(np.moveaxis(array, (-3, -2, -1), (0, 1, 2)), change)
        moved = affine @ inv_ornt_aff(change, array.shape[-3:])
        return np.moveaxis(turned, (0, 1, 2), (-3, -2, -1)), moved

    return _turn


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a tiny untrained network of random weights; returns its folder."""

    def _make(
        spatial_dims: int = 3,
        *,
        in_channels: int = 1,
        patch_size: tuple[int, ...] = (16, 16, 16),
        **preprocessing: Any,
    ) -> Path:
        torch.manual_seed(7)
        description = _tiny_unet(spatial_dims, in_channels)
        settings = Preprocessing(intensity=ZScore(), spatial_dims=spatial_dims, **preprocessing)
        card = ModelCard(
            network=description,
            preprocessing=settings.describe(),
            dataset="Phantom",
            in_channels=in_channels,
            classes=[f"ellipsoid {value}" for value in range(1, PHANTOM_CLASSES + 1)],
            patch_size=list(patch_size[:spatial_dims]),
        )
        folder = tmp_path_factory.mktemp("model")
        save_model(folder, build_network(description), card)
        return folder

    return _make


@pytest.fixture(scope="session")
def model_folder(make_model: Callable[..., Path]) -> Path:
    """A saved 3-D model that keeps each case's spacing."""
    return make_model(3)


@pytest.fixture(scope="session")
def model(model_folder: Path) -> TrainedModel:
    """The network of `model_folder`."""
    return load_model(model_folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a completed run of two epochs, to read or to copy; data and cache lie above it."""
    from medseg.cli.train import main

    folder = tmp_path_factory.mktemp("finished")
    assert main(arguments(folder, *SWAPS)) == 0
    return the_run(folder)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are written without figures, which take most of their time."""
    import medseg.report.artifacts
    import medseg.report.write  # noqa: F401

    for name, module in list(sys.modules.items()):
        for key, value in vars(module).copy().items() if name.startswith("medseg.report.") else ():
            if getattr(value, "__module__", "").startswith("medseg.report.figures"):
                monkeypatch.setattr(module, key, lambda *_, **__: None)


@pytest.fixture
def scan() -> np.ndarray:
    """A phantom's image `(i, j, k)` along RAS axes, float32."""
    image, _ = phantom_case(0, shape=PHANTOM_SHAPE, spacing=PHANTOM_SPACING)
    return image[0]


@pytest.fixture
def save_scan(tmp_path: Path) -> Callable[..., Path]:
    """Saves an array `(i, j, k[, channels])` with nibabel."""

    def _save(
        array: np.ndarray,
        name: str = "scan.nii.gz",
        affine: np.ndarray | None = None,
        kind: type[nib.Nifti1Image] = nib.Nifti1Image,
        header: nib.Nifti1Header | None = None,
    ) -> Path:
        affine = np.diag([*PHANTOM_SPACING, 1.0]) if affine is None else affine
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = kind(array, affine, header)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        image.to_filename(path)
        return path

    return _save


def _tiny_unet(spatial_dims: int, in_channels: int) -> dict[str, Any]:
    stages = {"spatial_dims": spatial_dims, "channels": [4, 8], "strides": [1, 2], "depths": 1}
    blocks = {"conv": {"name": "blocks.conv.Standard"}, "unit": {"name": "blocks.unit.Plain"}}
    return {
        "name": "models.unet.UNet",
        "num_classes": PHANTOM_CLASSES + 1,
        "encoder": {
            "name": "models.encoder.Encoder",
            "in_channels": in_channels,
            "downsample": {"name": "blocks.downsample.MaxPool"},
            **stages,
            **blocks,
        },
        "decoder": {
            "name": "models.decoder.Decoder",
            "upsample": {"name": "blocks.upsample.Interpolate"},
            **stages,
            **blocks,
        },
    }
