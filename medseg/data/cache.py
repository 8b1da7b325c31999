"""Preprocessed cases on disk, so that a patch is read without its volume.

A case is prepared once per content and preprocessing: its key holds the sizes and times of the
source files, the preprocessing and the version of this file's format. What is found is checked
against its checksums, and prepared again where it is damaged. Arrays are memory-mapped; a
512×512×500 CT costs the pages a patch touches.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from isal import isal_zlib
from torch import Tensor

from medseg.data.dataset import Case
from medseg.data.preprocess import Preprocessing
from medseg.data.reading import read_case
from medseg.errors import DataError, ResourceError, one_volume
from medseg.files import atomic_path, require_writable, sweep_parts, write_text
from medseg.formatting import first_of
from medseg.record import ImageRange, from_plain
from medseg.volumes import Volume, files_of, range_of, ras_affine, to_ras

log = logging.getLogger(__name__)

_FORMAT = 5
_SUMMARY, _IMAGE, _LABEL, _INDICES = "case.json", "image.npy", "label.npy", "indices.npz"
_INDICES_PER_CLASS = 20_000
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """A case on the network's grid, on disk.

    Args:
        case_id: The case's id.
        folder: Where its arrays lie.
        spacing: mm per axis of the grid.
        notes: What the readers found odd about the files.
        classes: The foreground classes that its label has.
        image_range: What the image is like as it was read.
        sha256: Of the voxels and places of image and label, however they are stored.
        image_sha256: Of the image's voxels alone.
    """

    case_id: str
    folder: Path
    spacing: tuple[float, float, float]
    notes: tuple[str, ...]
    classes: tuple[int, ...]
    image_range: ImageRange
    sha256: str
    image_sha256: str

    @property
    def image(self) -> Tensor:
        """Image `(channels, *grid)`, float32, memory-mapped."""
        return _mapped(self.folder / _IMAGE)

    @property
    def label(self) -> Tensor:
        """Labels `(1, *grid)`, uint8 or int32, memory-mapped; beyond the classes: ignored."""
        return _mapped(self.folder / _LABEL)[None]

    def class_indices(self) -> list[np.ndarray]:
        """Per class, flat indices of (at most 20 000 of) its voxels."""
        with np.load(self.folder / _INDICES) as stored:
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
            with one_volume(case.image):
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
    cases_of: dict[str, list[str]] = {}
    for case in prepared:
        for note in dict.fromkeys(case.notes):
            cases_of.setdefault(note, []).append(case.case_id)
    for note, own in cases_of.items():
        log.warning("%s: %s", first_of(own), note)
    return prepared


def _prepare(
    case: Case, preprocessing: Preprocessing, in_channels: int, num_classes: int, cache: Path
) -> PreparedCase:
    key = _key(case, preprocessing, in_channels, num_classes)
    folder = Path(cache).expanduser() / f"{case.case_id}-{key}"
    found = _read(case.case_id, folder)
    if found is None:
        require_writable(folder)
        with FileLock(folder / ".lock"):
            sweep_parts(folder)
            found = _read(case.case_id, folder)  # another process may have been faster
            if found is None:
                _write(case, preprocessing, in_channels, num_classes, folder)
                found = _read(case.case_id, folder)
    if found is None:
        raise ResourceError(f"{folder}: does not hold what was written to it; check the disk")
    return found


def _read(case_id: str, folder: Path) -> PreparedCase | None:
    """What the folder holds, if that is whole; a fault in it is logged."""
    summary = folder / _SUMMARY
    if not summary.exists():  # written last: nothing was finished here
        return None
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
        checksums = content.pop("checksums")
        found = {name: _checksum(folder / name) for name in (_IMAGE, _LABEL, _INDICES)}
        found[_SUMMARY] = _checksum_of(content)
        if wrong := [name for name, checksum in found.items() if checksums[name] != checksum]:
            raise ValueError(f"{wrong[0]} has another checksum")
        return PreparedCase(
            case_id=case_id,
            folder=folder,
            spacing=(*content.pop("spacing"),),
            notes=(*content.pop("notes"),),
            classes=(*content.pop("classes"),),
            image_range=from_plain(ImageRange, content.pop("image_range")),
            **content,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: damaged in the cache %s (%s); prepared again", case_id, folder, error)
        summary.unlink(missing_ok=True)
        return None


def _write(
    case: Case, preprocessing: Preprocessing, in_channels: int, num_classes: int, folder: Path
) -> None:
    image, label = read_case(
        case, preprocessing.label_values, in_channels=in_channels, num_classes=num_classes
    )
    notes = [*image.notes, *label.notes]
    pixels = preprocessing.image(image).numpy()
    classes = preprocessing.labels(label).numpy()
    indices = _indices(classes, num_classes)
    present = [value for value in range(1, num_classes) if len(indices[f"class_{value}"])]
    if not present:
        notes.append("no foreground: patches are drawn from the background")
    _save(folder / _IMAGE, pixels)
    _save(folder / _LABEL, classes)
    with atomic_path(folder / _INDICES) as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **indices)
    image_sha256 = voxels_sha256(image)
    content = {
        "spacing": preprocessing.grid_spacing(image),
        "notes": notes,
        "classes": present,
        "image_range": asdict(range_of(image)),
        "sha256": _sha256_of([image_sha256, _place(image), voxels_sha256(label), _place(label)]),
        "image_sha256": image_sha256,
    }
    checksums = {name: _checksum(folder / name) for name in (_IMAGE, _LABEL, _INDICES)}
    checksums[_SUMMARY] = _checksum_of(content)
    write_text(folder / _SUMMARY, json.dumps(content | {"checksums": checksums}))


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
    stated = [] if case.spacing is None else [case.spacing]
    return _sha256_of(
        [_FORMAT, stats, preprocessing.describe(), in_channels, num_classes, *stated]
    )[:16]


def _sources(case: Case) -> list[Path]:
    """The files of image and label: of a pair of header and voxels, both; of a series, all."""
    named = (*case.images, case.label)
    for path in named:
        if not path.exists():
            raise DataError(f"{path}: there is no such file; restore it or remove the case")
    return [file for path in named for file in files_of(path)]


def _sha256_of(content: list) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def voxels_sha256(volume: Volume) -> str:
    """SHA-256 of the voxels along RAS axes, however they are stored."""
    voxels = to_ras(volume.array, volume.geometry.affine)
    digest = hashlib.sha256(str(voxels.shape).encode())
    digest.update(np.ascontiguousarray(voxels).data.cast("B"))
    return digest.hexdigest()


def _place(volume: Volume) -> list:
    """Where the voxels along RAS axes lie, to a micrometre."""
    affine = ras_affine(volume.geometry.affine, volume.array.shape[-3:])
    return (affine.round(3) + 0.0).tolist()  # no negative zeros


def _checksum(path: Path) -> int:
    """CRC-32, which damage changes and which is as fast as reading."""
    checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK_BYTES):
            checksum = isal_zlib.crc32(block, checksum)
    return checksum


def _checksum_of(summary: dict) -> int:
    return isal_zlib.crc32(json.dumps(summary, sort_keys=True).encode())


def _save(target: Path, array: np.ndarray) -> None:
    with atomic_path(target) as part, part.open("wb") as stream:
        np.save(stream, array)


def _mapped(path: Path) -> Tensor:
    # copy-on-write: torch refuses to wrap a read-only map without a warning
    return torch.from_numpy(np.load(path, mmap_mode="c"))
