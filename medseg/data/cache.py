"""Preprocessed cases on disk, so that a patch is read without its volume.

A case is prepared once per content and preprocessing: its key holds the sizes and times of the
source files, the preprocessing and the version of this file's format. Its arrays are compressed in
chunks; a patch of a 512×512×500 CT costs the chunks that it touches, and each of them is checked
whenever it is read. What is damaged is said, and prepared again on the spot.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from threading import Condition
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from isal import isal_zlib
from torch import Tensor

from medseg.data.chunks import ChunkedArray, DamagedError
from medseg.data.dataset import Case
from medseg.data.preprocess import Preprocessing
from medseg.data.reading import read_case
from medseg.errors import DataError, ResourceError, one_volume
from medseg.files import require_writable, sweep_parts, write_text
from medseg.formatting import first_of
from medseg.progress import bar
from medseg.record import ImageRange, from_plain
from medseg.resources import available_memory_bytes, usable_cpus
from medseg.volumes import Volume, files_of, range_of, ras_affine, to_ras

log = logging.getLogger(__name__)

_FORMAT = 6
_SUMMARY = "case.json"
_CHUNKS = {2: (128, 128, 1), 3: (32, 32, 32)}  # voxels, by the axes of the network
_CENTRES_PER_CLASS, _CENTRES_PER_CHUNK = 20_000, 4096
_MOST_AT_ONCE = 8  # cases; more would wait for the disk
_MEMORY_SHARE = 0.5  # of what is free; the rest is for the volumes that wait
_SHOWN_AFTER = 2.0  # seconds


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """A case on the network's grid, on disk.

    Args:
        case_id: The case's id.
        folder: Where its arrays lie.
        arrays: `image` `(channels, *grid)`, float32; `label` `grid`, uint8 or int32, in which what
            is beyond the classes is ignored; `centres`, flat indices of voxels, class by class.
        counts: Centres of each class: its voxels, or 20 000 of them.
        spacing: mm per axis of the grid.
        notes: What the readers found odd about the files.
        classes: The foreground classes that its label has.
        image_range: What the image is like as it was read.
        sha256: Of the voxels and places of image and label, however they are stored.
        image_sha256: Of the image's voxels alone.
        again: Prepares the case again where an array is damaged.
        outside: Voxels of foreground that were cropped away.
    """

    case_id: str
    folder: Path
    arrays: dict[str, ChunkedArray]
    counts: tuple[int, ...]
    spacing: tuple[float, float, float]
    notes: tuple[str, ...]
    classes: tuple[int, ...]
    image_range: ImageRange
    sha256: str
    image_sha256: str
    again: Callable[[], list["PreparedCase"]] = field(compare=False, repr=False)
    outside: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and voxels along each axis of the grid."""
        return self.arrays["image"].shape

    @property
    def image(self) -> Tensor:
        """Image `(channels, *grid)`, float32."""
        return torch.from_numpy(self._read("image"))

    @property
    def label(self) -> Tensor:
        """Labels `(1, *grid)`, uint8 or int32; beyond the classes: ignored."""
        return torch.from_numpy(self._read("label"))[None]

    def region(self, region: Sequence[slice]) -> tuple[Tensor, Tensor]:
        """Image `(channels, *region)` and labels `(1, *region)` of a part of the grid.

        Args:
            region: Slices with a start and a stop inside the grid.

        Raises:
            MedsegError: the cache is damaged, and the case cannot be prepared again.
        """
        image = self._read("image", [slice(0, self.shape[0]), *region])
        return torch.from_numpy(image), torch.from_numpy(self._read("label", region))[None]

    def centre(self, label: int, number: int) -> int:
        """Flat index of a voxel of a class, on which a patch may be centred.

        Args:
            label: The class.
            number: Which of its `counts[label]`, from 0.
        """
        index = sum(self.counts[:label]) + number
        return int(self._read("centres", [slice(index, index + 1)])[0])

    def _read(self, name: str, region: Sequence[slice] | None = None) -> np.ndarray:
        try:
            return self.arrays[name].read(region)
        except (OSError, DamagedError) as error:
            (restored,) = self.again()  # which says what was damaged
            if restored.folder != self.folder:
                raise DataError(
                    f"{self.case_id}: was damaged in the cache, and its files were changed since; "
                    "start again"
                ) from error
        self.arrays.update(restored.arrays)  # the same voxels, perhaps compressed otherwise
        return self.arrays[name].read(region)


def prepare_cases(
    cases: Sequence[Case],
    preprocessing: Preprocessing,
    *,
    in_channels: int,
    num_classes: int,
    cache: Path,
    thorough: bool = False,
) -> list[PreparedCase]:
    """Prepares all cases that are not in the cache yet, several at a time.

    Those that were prepared stay when it is interrupted.

    Args:
        cases: The cases.
        preprocessing: What is done to them.
        in_channels: How many an image must have.
        num_classes: With background.
        cache: Folder of prepared cases.
        thorough: Whether every chunk of what is in the cache is checked, rather than its tables.

    Raises:
        DataError: some files cannot be used; the message lists every one of them.
        ResourceError: the cache cannot be written.
    """
    memory = _Memory(int(_MEMORY_SHARE * available_memory_bytes()))
    fixed = {"in_channels": in_channels, "num_classes": num_classes, "cache": cache}

    def prepare(case: Case) -> PreparedCase | DataError:
        again = partial(prepare_cases, [case], preprocessing, **fixed, thorough=True)
        try:
            with one_volume(case.image):
                preparation = _Preparation(case, preprocessing, in_channels, num_classes, memory)
                return preparation.prepare(cache, again, thorough=thorough)
        except DataError as error:
            return error
        except ResourceError as error:
            raise ResourceError(f"{error}: data.cache= or MEDSEG_CACHE names one") from error

    results = []
    with (
        bar(len(cases), "preparing", unit=" cases", delay=_SHOWN_AFTER) as step,
        _one_thread_each(min(usable_cpus(), _MOST_AT_ONCE)) as pool,
    ):
        for result in pool.map(prepare, cases):  # left early, it calls off what has not begun
            results.append(result)
            step()
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
    if outside := {case.case_id: case.outside for case in prepared if case.outside}:
        log.warning(
            "%s: data.crop=%s leaves %d voxels of foreground out, where the image is 0 in every "
            "channel: they are not trained on, and count as missed where they are scored",
            first_of(list(outside)), preprocessing.crop, sum(outside.values()),
        )  # fmt: skip
    return prepared


@contextmanager
def _one_thread_each(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of which each has torch for itself, so that what they compute is the same anywhere.

    The sum of an image depends on how many threads make it.
    """
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # the last setting is that of threads yet to come


class _Memory:
    """Lets as much be worked on at a time as there is memory for; one may always work."""

    def __init__(self, free: int):
        self._free = free
        self._taken: list[int] = []
        self._given_back = Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Waits until `size` bytes are free, and takes them during the block."""
        with self._given_back:
            self._given_back.wait_for(
                lambda: not self._taken or sum(self._taken) + size <= self._free
            )
            self._taken.append(size)
        try:
            yield
        finally:
            with self._given_back:
                self._taken.remove(size)
                self._given_back.notify_all()


@dataclass(frozen=True)
class _Preparation:
    """What is done to one case."""

    case: Case
    preprocessing: Preprocessing
    in_channels: int
    num_classes: int
    memory: _Memory

    def prepare(self, cache: Path, again: Callable, *, thorough: bool) -> PreparedCase:
        """What the cache holds of the case, prepared now if need be."""
        folder = Path(cache).expanduser() / f"{self.case.case_id}-{self._key()}"
        found = _stored(self.case.case_id, folder, again, thorough=thorough)
        if found is None:
            require_writable(folder)
            with FileLock(folder / ".lock"):
                sweep_parts(folder)
                # another process may have been faster
                found = _stored(self.case.case_id, folder, again, thorough=thorough)
                if found is None:
                    self._write(folder)
                    found = _stored(self.case.case_id, folder, again, thorough=thorough)
        if found is None:
            raise ResourceError(f"{folder}: does not hold what was written to it; check the disk")
        return found

    def _write(self, folder: Path) -> None:
        image, label = read_case(
            self.case,
            self.preprocessing.label_values,
            in_channels=self.in_channels,
            num_classes=self.num_classes,
        )
        notes = [*image.notes, *label.notes]
        box = self.preprocessing.box(image)
        seen, meant = box.cut(image), box.cut(label)
        with self.memory.taken(self.preprocessing.memory_bytes(seen)):
            pixels = self.preprocessing.image(seen).numpy()
            classes = self.preprocessing.labels(meant).numpy()
            centres = _centres(classes, self.num_classes)
            if not any(map(len, centres)):
                raise DataError(f"{self.case.label}: all that is left is ignored; remove the case")
            chunk = _CHUNKS[self.preprocessing.spatial_dims]
            arrays = {
                "image": (pixels, (1, *chunk)),
                "label": (classes, chunk),
                "centres": (np.concatenate(centres), (_CENTRES_PER_CHUNK,)),
            }
            stored = {
                name: ChunkedArray.write(folder / f"{name}.chunks", array, chunk).plain()
                for name, (array, chunk) in arrays.items()
            }
        present = [value for value in range(1, self.num_classes) if len(centres[value])]
        if not present:
            notes.append("no foreground: patches are drawn from the background")
        image_sha256 = voxels_sha256(image)
        content = {
            "arrays": stored,
            "counts": [len(flat) for flat in centres],
            "spacing": self.preprocessing.grid_spacing(image),
            "notes": notes,
            "classes": present,
            "image_range": asdict(range_of(image)),
            "sha256": _sha256_of(
                [image_sha256, _place(image), voxels_sha256(label), _place(label)]
            ),
            "image_sha256": image_sha256,
        }
        if self.preprocessing.crop:
            content["outside"] = self._foreground(label) - self._foreground(meant)
        checksum = _checksum_of(content)
        write_text(folder / _SUMMARY, json.dumps(content | {"checksum": checksum}))

    def _foreground(self, label: Volume) -> int:
        return int(np.count_nonzero((label.array > 0) & (label.array < self.num_classes)))

    def _key(self) -> str:
        stats = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in self._files()]
        stated = [] if self.case.spacing is None else [self.case.spacing]
        made = [self.preprocessing.describe(), self.in_channels, self.num_classes]
        return _sha256_of([_FORMAT, stats, *made, *stated])[:16]

    def _files(self) -> list[Path]:
        """The files of image and label: of a pair of header and voxels, both; of a series, all."""
        named = (*self.case.images, self.case.label)
        for path in named:
            if not path.exists():
                raise DataError(f"{path}: there is no such file; restore it or remove the case")
        return [file for path in named for file in files_of(path)]


def _stored(
    case_id: str, folder: Path, again: Callable, *, thorough: bool = False
) -> PreparedCase | None:
    """What the folder holds, if that is whole; a fault in it is logged."""
    summary = folder / _SUMMARY
    if not summary.exists():  # written last: nothing was finished here
        return None
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
        if content.pop("checksum") != _checksum_of(content):
            raise DamagedError(f"{_SUMMARY} has another checksum")
        arrays = {
            name: ChunkedArray.of(folder / f"{name}.chunks", stored)
            for name, stored in content.pop("arrays").items()
        }
        for array in arrays.values():
            array.check(thorough=thorough)
        image_range = from_plain(ImageRange, content.pop("image_range"))
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content.items()
        }
        return PreparedCase(
            case_id=case_id,
            folder=folder,
            arrays=arrays,
            image_range=image_range,
            again=again,
            **fields,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: damaged in the cache %s (%s); prepared again", case_id, folder, error)
        with suppress(OSError):  # writing to it is going to fail, which is said then
            summary.unlink()
        return None


def _centres(classes: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """Per class, flat indices of its voxels, or of a sample of them."""
    rng = np.random.default_rng(0)  # the sample is part of the cached content, not of a run
    centres = []
    for index in range(num_classes):
        flat = np.flatnonzero(classes == index)
        if len(flat) > _CENTRES_PER_CLASS:
            flat = np.sort(rng.choice(flat, _CENTRES_PER_CLASS, replace=False))
        centres.append(flat)
    return centres


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


def _checksum_of(summary: dict) -> int:
    return isal_zlib.crc32(json.dumps(summary, sort_keys=True).encode())
