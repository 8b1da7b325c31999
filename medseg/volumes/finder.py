"""Which volumes the user means, and what each case is called."""

import os
from collections.abc import Iterable
from pathlib import Path

from medseg.errors import DataError
from medseg.volumes.container import refusal

_SUFFIXES = (".nii", ".hdr", ".img", ".nrrd", ".mha", ".mhd")
_SUFFIXES += tuple(f"{suffix}.gz" for suffix in (".nii", ".hdr", ".img"))


def find_volumes(inputs: Iterable[Path]) -> list[Path]:
    """The volumes that files and folders name, each once, no two with the same case id.

    Args:
        inputs: files, taken as they are; folders, of which the volumes are taken in order of
            their names, but no hidden files and no subfolders.

    Raises:
        DataError: an input is missing, a folder holds no volume, or two volumes share a case id.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, inputs):
        for volume in _volumes_of(path):
            found.setdefault(_identity(volume), volume)
    _require_distinct_cases(found.values())
    return list(found.values())


def case_id(path: Path) -> str:
    """The file name without its volume suffix: `la_003.nii.gz` is the case `la_003`."""
    name = Path(path).name
    suffix = _suffix(name)
    return name[: -len(suffix)] if suffix else name


def _volumes_of(path: Path) -> list[Path]:
    try:
        path.stat()
        if not path.is_dir():
            return [path]
        entries = sorted(path.iterdir())
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
        raise refusal(path, fault, "check the spelling and the permission") from error
    volumes = [entry for entry in entries if _is_visible_volume(entry)]
    if not volumes:
        remedy = f"name a folder with files that end in {', '.join(_SUFFIXES)}"
        raise refusal(path, "is a folder without volumes", remedy)
    return volumes


def _is_visible_volume(path: Path) -> bool:
    """A broken link counts: it is refused when read, rather than skipped without a word."""
    return not path.name.startswith(".") and bool(_suffix(path.name)) and not path.is_dir()


def _suffix(name: str) -> str:
    """The volume suffix of a name as it is spelled there, or nothing if only that were left."""
    endings = [s for s in _SUFFIXES if name.lower().endswith(s) and len(name) > len(s)]
    return name[-len(max(endings, key=len)) :] if endings else ""


def _identity(path: Path) -> Path:
    """The real path of a volume; the two files of a .hdr/.img pair are one volume."""
    suffix = _suffix(path.name)
    if suffix.lower().startswith(".img"):
        for other in (".hdr", ".hdr.gz"):
            header = path.with_name(case_id(path) + other)
            if header.exists():
                return _real(header)
    return _real(path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `resolve` raises on a symlink loop before Python 3.13


def _require_distinct_cases(paths: Iterable[Path]) -> None:
    first_with: dict[str, Path] = {}
    for path in paths:
        other = first_with.setdefault(case_id(path), path)
        if other != path:
            raise DataError(
                f"{path} and {other} are both called {case_id(path)!r}, so that their outputs "
                "would overwrite each other; rename one, or run them apart"
            )
