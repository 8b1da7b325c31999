"""Preprocessed cases on disk, so that a patch is read without its volume.

A case is prepared once per content and preprocessing: its key holds the sizes and times of the
source files, the preprocessing and the version of this file's format. Arrays are memory-mapped;
a 512×512×500 CT costs the pages a patch touches.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medseg.data.folder import Case
from medseg.data.preprocess import Preprocessing
from medseg.errors import DataError
from medseg.files import atomic_path
from medseg.volumes import Volume, check_same_grid, read_image, read_labels

log = logging.getLogger(__name__)

_FORMAT = 2
_INDICES_PER_CLASS = 20_000


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """A case on the network's grid, on disk.

    Args:
        case_id: The case's id.
        folder: Where its arrays lie.
        spacing: mm per axis of the grid.
        notes: What the readers found odd about the files.
        sha256: Of the voxels and places of image and label, however they are stored.
    """

    case_id: str
    folder: Path
    spacing: tuple[float, float, float]
    notes: tuple[str, ...]
    sha256: str = ""

    @property
    def image(self) -> Tensor:
        """Image `(channels, *grid)`, float32, memory-mapped."""
        return _mapped(self.folder / "image.npy")

    @property
    def label(self) -> Tensor:
        """Labels `(1, *grid)`, uint8, memory-mapped."""
        return _mapped(self.folder / "label.npy")[None]

    def class_indices(self) -> list[np.ndarray]:
        """Per class, flat indices of (at most 20 000 of) its voxels."""
        with np.load(self.folder / "indices.npz") as stored:
            return [stored[f"class_{c}"] for c in range(len(stored.files))]


def prepare_cases(
    cases: Sequence[Case],
    preprocessing: Preprocessing,
    *,
    in_channels: int,
    num_classes: int,
    cache: Path,
    workers: int = 4,
) -> list[PreparedCase]:
    """Prepares all cases that are not in the cache yet.

    Raises:
        DataError: some files cannot be used; the message lists every one of them.
    """

    def prepare(case: Case) -> PreparedCase | DataError:
        try:
            return _prepare(case, preprocessing, in_channels, num_classes, cache)
        except DataError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(prepare, cases))
    problems = [str(r) for r in results if isinstance(r, DataError)]
    if problems:
        raise DataError(
            "\n".join([f"{len(problems)} of {len(cases)} cases are unusable:", *problems])
        )
    prepared = [r for r in results if isinstance(r, PreparedCase)]
    for case in prepared:
        for note in case.notes:
            log.warning("%s: %s", case.case_id, note)
    return prepared


def _prepare(
    case: Case, preprocessing: Preprocessing, in_channels: int, num_classes: int, cache: Path
) -> PreparedCase:
    key = _key(case, preprocessing, in_channels, num_classes)
    folder = Path(cache).expanduser() / f"{case.case_id}-{key}"
    summary = folder / "case.json"
    if not summary.exists():  # written last: it shows that the others are whole
        _write(case, preprocessing, in_channels, num_classes, folder)
    content = json.loads(summary.read_text(encoding="utf-8"))
    return PreparedCase(
        case_id=case.case_id,
        folder=folder,
        spacing=(*content["spacing"],),
        notes=tuple(content["notes"]),
        sha256=content["sha256"],
    )


def _write(
    case: Case, preprocessing: Preprocessing, in_channels: int, num_classes: int, folder: Path
) -> None:
    image = read_image(case.image, channels=in_channels)
    label = read_labels(case.label, num_classes=num_classes)
    grid_note = check_same_grid(image, label)
    notes = [*image.notes, *label.notes, *([grid_note] if grid_note else [])]
    pixels = preprocessing.image(image).numpy()
    classes = preprocessing.labels(label).numpy()
    if not classes.any():
        notes.append("no foreground: patches are drawn from the background")
    _save(folder / "image.npy", pixels)
    _save(folder / "label.npy", classes)
    with atomic_path(folder / "indices.npz") as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **_indices(classes, num_classes))
    with atomic_path(folder / "case.json") as part:
        spacing = preprocessing.grid_spacing(image)
        summary = {"spacing": spacing, "notes": notes, "sha256": _sha256(image, label)}
        part.write_text(json.dumps(summary), encoding="utf-8")


def _sha256(image: Volume, label: Volume) -> str:
    digest = hashlib.sha256()
    for volume, dtype in ((image, np.float32), (label, np.uint16)):
        digest.update(str(volume.array.shape).encode())
        digest.update(np.ascontiguousarray(volume.geometry.affine, np.float64))
        digest.update(np.ascontiguousarray(volume.array, dtype))
    return digest.hexdigest()


def _indices(classes: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)  # the sample is part of the cached content, not of a run
    chosen = {}
    for index in range(num_classes):
        flat = np.flatnonzero(classes == index)
        if len(flat) > _INDICES_PER_CLASS:
            flat = np.sort(rng.choice(flat, _INDICES_PER_CLASS, replace=False))
        chosen[f"class_{index}"] = flat
    return chosen


def _key(case: Case, preprocessing: Preprocessing, in_channels: int, num_classes: int) -> str:
    stats = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in _sources(case)]
    content = [_FORMAT, stats, preprocessing.describe(), in_channels, num_classes]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _sources(case: Case) -> tuple[Path, Path]:
    for path in (case.image, case.label):
        if not path.is_file():
            raise DataError(f"{path}: there is no such file; restore it or remove the case")
    return case.image, case.label


def _save(target: Path, array: np.ndarray) -> None:
    with atomic_path(target) as part, part.open("wb") as stream:
        np.save(stream, array)


def _mapped(path: Path) -> Tensor:
    # copy-on-write: torch refuses to wrap a read-only map without a warning
    return torch.from_numpy(np.load(path, mmap_mode="c"))
