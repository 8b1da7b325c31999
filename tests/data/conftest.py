from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.data.cache import PreparedCase


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., PreparedCase]:
    """Puts arrays into the form of a prepared case, indices of the label included."""

    def _store(
        label: np.ndarray, image: np.ndarray | None = None, indices: list | None = None
    ) -> PreparedCase:
        folder = tmp_path / f"case{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        image = label[None] if image is None else image
        if indices is None:
            indices = [np.flatnonzero(label == value) for value in range(3)]
        np.save(folder / "image.npy", image.astype(np.float32))
        np.save(folder / "label.npy", label.astype(np.uint8))
        np.savez(folder / "indices.npz", **{f"class_{c}": i for c, i in enumerate(indices)})
        return PreparedCase(case_id=folder.name, folder=folder, spacing=(1, 1, 1), notes=())

    return _store
