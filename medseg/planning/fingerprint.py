"""What a dataset is like: spacings, sizes, intensities and extents of its cases.

Cases are read side by side, each once and as many at a time as the memory holds; what is kept of a
case is small. The facts are kept in the cache as well, for the same files.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from medseg.data.dataset import Case, Dataset
from medseg.data.reading import read_case_of
from medseg.errors import DataError, one_volume
from medseg.files import own_text, replacing, write_text
from medseg.labelling import Labelling
from medseg.resources import available_memory_bytes, usable_cpus
from medseg.volumes import Box, Volume, files_of, to_ras

log = logging.getLogger(__name__)

_FORMAT = 1
_HU_WORDS = ("ct",)
_SAMPLES = 100_000  # intensities of the whole dataset that are kept of each channel
_BYTES_PER_FILE_BYTE = 20  # that a compressed case takes while it is read


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """What is kept of a case; axes are those of the body (RAS).

    Args:
        case_id: The case's id.
        spacing: mm per voxel.
        size: Voxels per axis.
        cropped: Voxels per axis of the box around all that is not 0 in some channel.
        extents: Class → mm from its first to its last voxel along each axis.
        voxels: Class → its voxels.
        intensities: Of each channel, a sample of the values inside the foreground.
        lowest: Of each channel, the smallest value anywhere.
    """

    case_id: str
    spacing: tuple[float, ...]
    size: tuple[int, ...]
    cropped: tuple[int, ...]
    extents: Mapping[str, tuple[float, ...]]
    voxels: Mapping[str, int]
    intensities: Sequence[Sequence[float]]
    lowest: Sequence[float]


def facts_of(
    case_id: str, image: Volume, labels: Volume, labelling: Labelling, *, samples: int
) -> CaseFacts:
    """The facts of one case.

    Args:
        case_id: Its id; the sample of its intensities is drawn from it.
        image: As read.
        labels: On the image's grid; values beyond the labelling's are ignored.
        labelling: What they mean.
        samples: Intensities that are kept of each channel, at most.
    """
    voxels = to_ras(image.array, image.geometry.affine)
    label = to_ras(labels.array, image.geometry.affine)
    spacing = image.geometry.ras_spacing
    by_value = ndimage.find_objects(label, max_label=labelling.ignored - 1)
    counts = np.bincount(label.ravel(), minlength=labelling.ignored)
    members = {name: labelling.members(index) for index, name in enumerate(labelling.names)}
    extents: dict[str, tuple[float, ...]] = {}
    for name, values in members.items():
        boxes = [box for value in values if (box := by_value[value - 1]) is not None]
        if boxes:
            sides = zip(*boxes, strict=True)
            ends = [(min(s.start for s in side), max(s.stop for s in side)) for side in sides]
            extents[name] = tuple((b - a) * mm for (a, b), mm in zip(ends, spacing, strict=True))
    foreground = np.flatnonzero((label > 0) & (label < labelling.ignored))
    if len(foreground) > samples:
        seed = int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:8], "big")
        foreground = np.random.default_rng(seed).choice(foreground, samples, replace=False)
    return CaseFacts(
        case_id=case_id,
        spacing=tuple(float(mm) for mm in spacing),
        size=voxels.shape[1:],
        cropped=Box.of_content(voxels).shape,
        extents=extents,
        voxels={name: int(counts[list(values)].sum()) for name, values in members.items()},
        intensities=[channel.ravel()[foreground].tolist() for channel in voxels],
        lowest=[float(channel.min()) for channel in voxels],
    )


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What all cases are like, as nnU-Net's fingerprint and beyond.

    Args:
        name: Of the dataset.
        channels: One name per image channel.
        classes: One name per foreground class.
        cases: The facts of each.
    """

    name: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    cases: tuple[CaseFacts, ...]

    @cached_property
    def spacings(self) -> np.ndarray:
        """`(cases, 3)`, mm."""
        return np.array([case.spacing for case in self.cases])

    @cached_property
    def sizes(self) -> np.ndarray:
        """`(cases, 3)`, voxels after cropping to what is not 0."""
        return np.array([case.cropped for case in self.cases])

    @property
    def relative_size(self) -> float:
        """Share of a median case that is left by cropping to what is not 0."""
        shares = [np.prod(case.cropped) / np.prod(case.size) for case in self.cases]
        return float(np.median(shares))

    def percentiles(self, channel: int, ranks: Sequence[float]) -> list[float]:
        """Percentiles of the intensities inside the foreground, each case counting alike."""
        values = np.concatenate([np.array(case.intensities[channel]) for case in self.cases])
        return [float(v) for v in np.percentile(values, ranks)] if len(values) else []

    def extents(self, name: str) -> np.ndarray:
        """`(cases that have the class, 3)`, mm."""
        found = [case.extents[name] for case in self.cases if name in case.extents]
        return np.array(found).reshape(-1, 3)

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Fingerprint":
        """Inverse of `plain`."""
        cases = tuple(CaseFacts(**case) for case in plain["cases"])
        names = {key: tuple(plain[key]) for key in ("channels", "classes")}
        return cls(name=plain["name"], cases=cases, **names)


KEPT = ".plans"
"""Folder in the cache of what is known of datasets as a whole; the others are prepared cases."""


def fingerprint(dataset: Dataset, *, cache: Path | None = None) -> Fingerprint:
    """Reads all cases of a dataset.

    Args:
        dataset: Its cases are read where they lie.
        cache: Folder that keeps the facts for the next time; None: nothing is kept.

    Raises:
        DataError: some cases cannot be read; a line for each.
    """
    kept = cache and Path(cache).expanduser() / KEPT / f"fingerprint-{files_key(dataset)}.json"
    if kept and (text := own_text(kept)) is not None:
        return Fingerprint.of(json.loads(text))
    samples = max(1, _SAMPLES // len(dataset.cases))

    def read(case: Case) -> CaseFacts | DataError:
        try:
            with one_volume(case.image):
                image, labels = read_case_of(dataset, case)
                return facts_of(case.case_id, image, labels, dataset.labelling, samples=samples)
        except DataError as error:
            return error

    log.info("reading the %d cases of %s", len(dataset.cases), dataset.name)
    with ThreadPoolExecutor(cases_at_once(dataset)) as pool:
        results = list(pool.map(read, dataset.cases))
    if problems := [str(result) for result in results if isinstance(result, DataError)]:
        raise DataError(f"{len(problems)} of {len(results)} cases are unusable:", *problems)
    found = Fingerprint(
        name=dataset.name,
        channels=dataset.modalities,
        classes=dataset.classes,
        cases=tuple(result for result in results if isinstance(result, CaseFacts)),
    )
    if kept:
        with replacing([kept], overwrite=True):
            write_text(kept, json.dumps(found.plain()))
    return found


def in_hounsfield_units(channels: Sequence[str]) -> bool:
    """Whether all channels are CT by their names, as nnU-Net has it."""
    return all(name.casefold() in _HU_WORDS for name in channels)


def cases_at_once(dataset: Dataset) -> int:
    """Cases that are read at a time: as many as there are cores, if the memory holds them."""
    sizes = (sum(f.stat().st_size for f in _files(case)) for case in dataset.cases)
    largest = max(sizes, default=0)
    held = available_memory_bytes() // 2 // max(1, _BYTES_PER_FILE_BYTE * largest)
    return max(1, min(usable_cpus(), held))


def _files(case: Case) -> list[Path]:
    return [f for path in (*case.images, case.label) for f in files_of(path) if f.is_file()]


def files_key(dataset: Dataset) -> str:
    """Sixteen hexadecimal digits of what the facts depend on: files, and what is read from them."""
    stats = [
        [case.case_id, *([str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns])]
        for case in dataset.cases
        for f in _files(case)
    ]
    values = sorted((str(value), str(to)) for value, to in (dataset.label_values or {}).items())
    meant = [_FORMAT, dataset.name, dataset.modalities, dataset.classes, values, stats]
    meant += [dataset.regions] if dataset.regions else []
    return hashlib.sha256(json.dumps(meant).encode()).hexdigest()[:16]
