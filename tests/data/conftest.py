from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.data import Folder, ZScore
from medseg.data.augmentation import Augmentation
from medseg.data.cache import PreparedCase
from medseg.data.chunks import ChunkedArray
from medseg.data.config import DataConfig
from medseg.data.datamodule import SegmentationDataModule
from medseg.record import ImageRange


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., PreparedCase]:
    """Puts arrays into the form of a prepared case, indices of the label included."""

    def _store(
        label: np.ndarray,
        image: np.ndarray | None = None,
        indices: list | None = None,
        **changes,
    ) -> PreparedCase:
        folder = tmp_path / f"case{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        image = label[None] if image is None else image
        if indices is None:
            indices = [np.flatnonzero(label == value) for value in range(3)]
        arrays = {
            "image": image.astype(np.float32),
            "label": label.astype(np.uint8),
            "centres": np.concatenate(indices),
        }
        stored = {
            name: ChunkedArray.write(folder / name, array, [5] * array.ndim)
            for name, array in arrays.items()
        }
        fields = {
            "case_id": folder.name,
            "folder": folder,
            "arrays": stored,
            "counts": tuple(map(len, indices)),
            "spacing": (1.0, 1.0, 1.0),
            "notes": (),
            "classes": tuple(v for v, flat in enumerate(indices) if v and len(flat)),
            "image_range": ImageRange(
                spacing=[[1.0, 1.0]] * 3,
                extent=[[float(size)] * 2 for size in label.shape],
                intensity=[float(image.min()), float(image.max())],
                tilt=0.0,
            ),
            "sha256": folder.name,
            "image_sha256": folder.name,
            "again": list,
        }
        return PreparedCase(**fields | changes)

    return _store


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(phantom: Path, cache: Path) -> Callable[..., SegmentationDataModule]:
    plain = {
        "name": "phantom",
        "root": str(phantom),
        "download": False,
        "source": Folder(root=phantom),
        "intensity": ZScore(),
        "spatial_dims": 3,
        "slice_axis": 2,
        "spacing": None,
        "in_channels": 1,
        "num_classes": 3,
        "patch_size": (8, 8, 8),
        "batch_size": 2,
        "batches_per_epoch": 3,
        "foreground_fraction": 0.5,
        "validation_fraction": 0.34,
        "patient": None,
        "split_file": None,
        "split_seed": 0,
        "folds": None,
        "fold": 0,
        "cache": cache,
        "num_workers": 0,
    }
    usual = Augmentation(flip_axes=("left-right",), affine=0.5, noise=0.5)

    def _make(*, seed: int = 0, augmentation: Augmentation | None = usual, **changes):
        config = DataConfig(**plain | changes)
        return SegmentationDataModule(config, augmentation=augmentation, seed=seed)

    return _make
