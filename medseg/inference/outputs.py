"""The files that a case becomes: their names, and which of them are wanted."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.dataset import Scan
from medseg.inference.postprocess import Postprocessing
from medseg.volumes import Form
from medseg.volumes.writers import FORMATS, without_suffix

_UNSAFE = re.compile(r"[^\w .()+-]")  # in the name of a class, as the name of a file
_NAME_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is made of a volume, and how.

    Args:
        probabilities: Classes whose probabilities are written, in that order; 0 is background.
        uncertainty: Write the entropy of the probabilities, too.
        overlay: Draw the image with its classes, too.
        label_names: Write names and colours of the classes for viewers, too.
        split_classes: Write a mask of each class, too.
        postprocessing: What is done to the label map.
        prefer: Which orientation of a NIfTI header to believe.
    """

    probabilities: tuple[int, ...] = ()
    uncertainty: bool = False
    overlay: bool = False
    label_names: bool = False
    split_classes: bool = False
    postprocessing: Postprocessing = field(default_factory=Postprocessing)
    prefer: Form = "sform"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files one case can become.

    Args:
        file_format: Of the label map; a key of `medseg.volumes.writers.FORMATS`.
        labels: Label map, under the case's name.
        probabilities: Class probabilities.
        uncertainty: Their entropy in bits.
        overlay: The image with the outlines of its classes, as PNG.
        tables: Names and colours of the classes, for 3D Slicer and for ITK-SNAP.
        classes: A mask of each class, in a folder of the case's name.
        report: What was done.
    """

    file_format: str
    labels: Path
    probabilities: Path
    uncertainty: Path
    overlay: Path
    tables: tuple[Path, Path]
    classes: tuple[Path, ...]
    report: Path

    @classmethod
    def of(
        cls, scan: Scan, folder: Path, *, file_format: str = "nifti", classes: Sequence[str] = ()
    ) -> "Outputs":
        """Names derived from the case's; `classes` by label value from 1."""
        labels = folder / f"{scan.case_id}{FORMATS[file_format].suffixes[0]}"
        return cls._named(labels, scan.case_id, file_format, classes)

    @classmethod
    def at(cls, labels: Path, *, file_format: str, classes: Sequence[str] = ()) -> "Outputs":
        """Names derived from that of the label map."""
        return cls._named(labels, without_suffix(labels), file_format, classes)

    @classmethod
    def _named(cls, labels: Path, name: str, file_format: str, classes: Sequence[str]) -> "Outputs":
        folder, suffix = labels.parent, FORMATS[file_format].suffixes[0]
        return cls(
            file_format=file_format,
            labels=labels,
            probabilities=folder / f"{name}_probabilities.nii.gz",
            uncertainty=folder / f"{name}_uncertainty.nii.gz",
            overlay=folder / f"{name}_overlay.png",
            tables=(folder / f"{name}.ctbl", folder / f"{name}.label"),
            classes=tuple(folder / name / f"{each}{suffix}" for each in _file_names(classes)),
            report=folder / f"{name}.json",
        )

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them, whether they are there or not."""
        further = (self.probabilities, self.uncertainty, self.overlay)
        return self.labels, *further, *self.tables, *self.classes, self.report

    def written(self, wanted: Wanted) -> tuple[Path, ...]:
        """Those that a prediction writes."""
        asked = {
            self.probabilities: bool(wanted.probabilities),
            self.uncertainty: wanted.uncertainty,
            self.overlay: wanted.overlay,
            **dict.fromkeys(self.tables, wanted.label_names),
            **dict.fromkeys(self.classes, wanted.split_classes),
        }
        return tuple(path for path in self.paths if asked.get(path, True))


def _file_names(classes: Sequence[str]) -> list[str]:
    """Names of classes as those of files, no two alike; where two would be, all have numbers."""
    safe = [_UNSAFE.sub("_", name)[:_NAME_CHARACTERS].strip(" .") or "_" for name in classes]
    alike = max(Counter(map(str.casefold, safe)).values(), default=1) > 1
    return [f"{value}_{name}" for value, name in enumerate(safe, 1)] if alike else safe
