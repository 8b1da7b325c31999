"""What a form of dataset is, and how its faults are told: all at once, one line each."""

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from medseg.data.dataset import Case, CaseFault, Dataset
from medseg.errors import DataError
from medseg.volumes import case_id

_SHOWN = 20
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_LITTER = {".ds_store", "thumbs.db", "desktop.ini"}


class Form(ABC):
    """One way in which datasets lie on disk.

    Attributes:
        name: of the form, as `data.form` has it.
        title: of the form, as it is shown.
        layout: what lies where, in one line.
        described: whether a file of the dataset describes it, which goes before any layout.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    layout: ClassVar[str]
    described: ClassVar[bool] = False

    @abstractmethod
    def evidence(self, folder: Path) -> str:
        """What shows that `folder` is of this form, in words; empty if nothing does.

        Raises:
            DataError: the file that would describe it cannot be read.
        """

    @abstractmethod
    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """Reads the description of a folder of this form and looks for every file.

        What is wrong is in the dataset's `faults`, all of it; what is odd, in its `notes`.

        Args:
            folder: is read where it lies.
            label_values: `data.labels` of the configuration: label value of the files → class, or
                "ignore".

        Raises:
            DataError: the file that describes it cannot be read.
            ConfigError: `label_values` is something else.
        """


def refuse_faults(dataset: Dataset) -> None:
    """Raises all faults of a dataset at once, with what is odd about it, if there are any.

    Raises:
        DataError: one line for each.
    """
    if not dataset.faults:
        return
    count = f"{len(dataset.faults)} fault{'s' if len(dataset.faults) > 1 else ''}"
    head = (
        f"{dataset.folder} ({dataset.form}): {count} in the dataset; correct them "
        "(data/README.md shows what lies where)"
    )
    lines = [*dataset.faults, *(f"also: {note}" for note in dataset.notes)]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    raise DataError(head, *lines[:_SHOWN], *more)


def same_ids(cases: Iterable[Case]) -> list[CaseFault]:
    """Faults of cases that share an id."""
    ids = Counter(case.case_id for case in cases)
    return [
        CaseFault(f"{name}: {count} cases have this id", name)
        for name, count in ids.items()
        if count > 1
    ]


def is_litter(path: Path) -> bool:
    """Whether the system left it there: ._x, .DS_Store, Thumbs.db, desktop.ini, hidden files."""
    return path.name.startswith(".") or path.name.casefold() in _LITTER


def entries_of(folder: Path) -> list[Path]:
    """What lies in a folder in order of its names, without litter; empty if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not is_litter(path))


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder in order of its folders, links followed, without litter."""
    seen = {*Path(os.path.realpath(folder)).parents}  # links may lead round in circles
    for place, folders, names in os.walk(folder, followlinks=True):
        identity = Path(os.path.realpath(place))
        is_new = identity not in seen
        seen.add(identity)
        folders[:] = sorted(name for name in folders if is_new and not name.startswith("."))
        paths = (Path(place, name) for name in sorted(names) if is_new)
        yield from (path for path in paths if not is_litter(path))


def images_in(folder: Path) -> list[Path]:
    """Images and labels that lie in a folder, as their names end."""
    return [path for path in entries_of(folder) if is_image(path)]


def is_image(path: Path) -> bool:
    """Whether a name ends as that of an image; of a pair .hdr and .img, the header alone."""
    stem = stem_of(path)
    ending = path.name.removeprefix(stem)
    header = re.sub("(?i)img", lambda found: "HDR" if found[0].isupper() else "hdr", ending)
    return bool(ending) and (header == ending or not path.with_name(f"{stem}{header}").exists())


def stem_of(path: Path) -> str:
    """The name of an image or label without its ending; the whole name of anything else."""
    name = path.name
    ending = next((e for e in _PICTURES if name.lower().endswith(e) and name.lower() != e), "")
    return name[: -len(ending)] if ending else case_id(path)
