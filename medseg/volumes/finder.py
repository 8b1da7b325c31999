"""Which volumes the user means, and what each case is called."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os.path import isdir
from pathlib import Path

from medseg.errors import DataError
from medseg.volumes.container import refusal, unreachable
from medseg.volumes.dicom import files_of_series
from medseg.volumes.dicom_files import starts_as_dicom
from medseg.volumes.itk import metaimage_files
from medseg.volumes.nifti import pair_files

_VOLUMES = (".nii", ".hdr", ".img", ".nrrd", ".mha", ".mhd")
_VOLUMES += tuple(f"{suffix}.gz" for suffix in (".nii", ".hdr", ".img"))
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm")
_A_PICTURE = "a picture beside volumes"
_A_SLICE = "a DICOM file beside volumes or pictures"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Everything that was named or lies in a named folder, in one of three ways.

    Attributes:
        volumes: each once, no two with the same case id.
        unusable: what was meant and cannot be used, with the message.
        skipped: what is no volume, or one of the volumes once more, with the reason.
    """

    volumes: list[Path]
    unusable: dict[Path, str]
    skipped: dict[Path, str]


def find_volumes(inputs: Iterable[Path], *, named: Callable[[Path], str] | None = None) -> Found:
    """The volumes that files and folders name, and what becomes of everything else there.

    Args:
        inputs: files, taken as they are; folders, of which the volumes are taken in order of
            their names, but no hidden files and no subfolders. A folder without volumes gives its
            pictures; one without those is itself the volume, if it holds one DICOM series.
        named: what a case is called; None: `case_id`.

    Raises:
        DataError: there are inputs and no volume can be used: why the first cannot.
    """
    found: dict[Path, Path] = {}
    unusable: dict[Path, str] = {}
    skipped: dict[Path, str] = {}
    for path in map(Path, inputs):
        try:
            volumes = _volumes_of(path, skipped)
        except DataError as error:
            unusable[path] = str(error)
            continue
        for volume in volumes:
            other = found.setdefault(_identity(volume), volume)
            if other != volume and volume not in files_of(other):
                skipped[volume] = f"the same volume as {other}"
    unusable |= dict(sharing_a_case(found.values(), named or case_id))
    volumes = [path for path in found.values() if path not in unusable]
    if unusable and not volumes:
        raise DataError(next(iter(unusable.values())))
    skipped = {path: why for path, why in skipped.items() if path not in found.values()}
    return Found(volumes=volumes, unusable=unusable, skipped=skipped)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that hold a volume: one, both of a pair such as .hdr and .img, or a DICOM series.

    A pair that lacks one of its files gives the other; a folder of masks, all its files.
    """
    try:
        if isdir(path) or starts_as_dicom(path):
            return files_of_series(path)
        return pair_files(path) or metaimage_files(path) or (path,)
    except DataError:
        if isdir(path):
            return tuple(sorted(entry for entry in path.iterdir() if entry.is_file()))
        return (path,)


def case_id(path: Path) -> str:
    """The file name without its volume suffix: `la_003.nii.gz` is the case `la_003`."""
    name = Path(path).name
    suffix = _suffix(name)
    return name[: -len(suffix)] if suffix else name


def _volumes_of(path: Path, skipped: dict[Path, str]) -> list[Path]:
    """The volumes that a path names; what else lies there is noted in `skipped`."""
    try:
        path.stat()
        if not isdir(path):
            return [path]
        entries = sorted(path.iterdir())
    except OSError as error:
        raise unreachable(path, error) from error
    # a broken link counts as a volume: it is refused when read, rather than skipped
    reasons = {entry: _no_volume(entry) for entry in entries}
    volumes = [entry for entry, reason in reasons.items() if not reason]
    pictures = [entry for entry, reason in reasons.items() if reason == _A_PICTURE]
    if not volumes and pictures:
        volumes = pictures
    elif not volumes and _A_SLICE in reasons.values():
        files_of_series(path)  # refuses several
        volumes = [path]
    parts = {part for volume in volumes for part in files_of(volume)}
    for entry, reason in reasons.items():
        hidden = entry.name.startswith(".") and not _suffix(entry.name)
        if reason and entry not in parts and not hidden:
            skipped[entry] = reason
    if not volumes:
        remedy = (
            f"name a folder with files that end in {', '.join(_VOLUMES + _PICTURES)}, or with the "
            "slices of a DICOM series"
        )
        raise refusal(path, "is a folder without volumes", remedy)
    return volumes


def _no_volume(path: Path) -> str:
    """Why an entry of a folder is not taken as a volume; empty where it is."""
    if os.path.isdir(path):
        return "a folder"
    if path.name.startswith(".") and _suffix(path.name):
        return "hidden"
    if starts_as_dicom(path) and not path.name.startswith("."):
        return _A_SLICE
    suffix = _suffix(path.name).lower()
    if suffix in _PICTURES:
        return _A_PICTURE
    return "" if suffix else "no volume by its name"


def _suffix(name: str) -> str:
    """The volume suffix of a name as it is spelled there, or nothing if only that were left."""
    endings = [s for s in _VOLUMES + _PICTURES if name.lower().endswith(s) and len(name) > len(s)]
    return name[-len(max(endings, key=len)) :] if endings else ""


def _identity(path: Path) -> Path:
    """The real path of a volume; the two files of a .hdr/.img pair are one volume."""
    return Path(os.path.realpath(files_of(path)[0]))  # `resolve` raises on loops before Python 3.13


def sharing_a_case(
    paths: Iterable[Path], named: Callable[[Path], str]
) -> Iterator[tuple[Path, str]]:
    """Volumes whose outputs would have the same names, each with the message."""
    bearers: dict[str, list[Path]] = {}
    for path in paths:
        bearers.setdefault(named(path), []).append(path)
    for case, (first, *others) in bearers.items():
        for path in (first, *others) if others else ():
            other = others[0] if path == first else first
            yield (
                path,
                f"{path} and {other} are both called {case!r}, so that their outputs would "
                "overwrite each other; rename one, or run them apart",
            )
