"""Label maps scored against true ones, matched by name and compared in the patient's space."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from medseg.data.dataset import Case, Dataset
from medseg.data.forms import look_at_dataset
from medseg.data.forms.form import refuse_faults
from medseg.data.reading import read_case_of
from medseg.errors import DataError, one_volume
from medseg.formatting import first_of
from medseg.metrics import score_case
from medseg.progress import shown
from medseg.record import METRICS
from medseg.volumes import Volume, case_id, find_volumes, on_grid_of, read_labels

_MOST_CLASSES = 256  # in label maps without a list of them
_PROBABILITIES = "_probabilities"  # files of `medseg predict` beside its label maps


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One case's label map beside the true one.

    Args:
        case_id: Its name.
        prediction: The label map's file.
        metrics: Class → metric → value, None where it is undefined.
        millilitres: Class → true volume and that of the prediction.
    """

    case_id: str
    prediction: Path
    metrics: dict[str, dict[str, float | None]]
    millilitres: dict[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All cases that could be scored, and what became of the others.

    Args:
        classes: Names of the foreground classes.
        tolerance_mm: Of surface Dice.
        scored: The cases, in order of their names.
        failures: File → why it could not be scored.
        without_prediction: Cases of the truth that nothing was predicted for.
        without_truth: Predictions of no case of the truth.
        truths: Case → its image and true labels, or the true labels alone.
    """

    classes: tuple[str, ...]
    tolerance_mm: float
    scored: tuple[Scored, ...]
    failures: dict[str, str]
    without_prediction: tuple[str, ...]
    without_truth: tuple[str, ...]
    truths: "dict[str, Truth]" = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row per case × class: metrics (NaN where undefined), volumes in ml, their error."""
        return pd.DataFrame(
            [
                {"case": case.case_id, "class": name}
                | {metric: case.metrics[name][metric] for metric in METRICS}
                | {"truth_ml": truth, "prediction_ml": found, "volume_error_ml": found - truth}
                for case in self.scored
                for name in self.classes
                for truth, found in [case.millilitres[name]]
            ],
            columns=[
                *("case", "class", *METRICS),
                *("truth_ml", "prediction_ml", "volume_error_ml"),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Where a case's true labels are: a case of a dataset, or a label map alone."""

    dataset: Dataset | None = None
    case: Case | None = None
    labels: Path | None = None

    def read(self) -> tuple[Volume | None, Volume]:
        """The image, where there is one, and the labels on its grid.

        Ignored voxels hold the number after the last class.

        Raises:
            DataError: a file that must not be used.
        """
        if self.dataset is None or self.case is None:
            assert self.labels is not None
            return None, read_labels(self.labels, num_classes=None)
        return read_case_of(self.dataset, self.case)


def evaluate(predictions: Path, truth: Path, *, tolerance_mm: float = 1.0) -> Evaluation:
    """Scores every label map that has a true one of the same name.

    A dataset's classes have their names and its label values are mapped, so that predictions hold
    the numbers 1, 2, … of its classes; of label maps alone, each value is a class.

    Args:
        predictions: A folder of label maps, or one.
        truth: A dataset of any form, a folder of label maps, or one.
        tolerance_mm: Distance up to which surfaces agree, for surface Dice.

    Raises:
        DataError: either is not there, no name is in both, or no case can be scored.
    """
    found = _label_maps(predictions)
    truths = _truths(truth)
    if predictions.is_file() and truth.is_file():  # two files mean each other
        found = dict(zip(truths, found.values(), strict=True))
    both = [name for name in truths if name in found]
    if not both:
        raise DataError(
            f"no label map of {predictions} is called as a case of {truth}: {first_of([*found])} "
            f"there, {first_of([*truths])} here; give them the same names"
        )
    dataset = next(iter(truths.values())).dataset
    scored, failures = [], {}
    for name in shown(both, "cases"):
        try:
            with one_volume(found[name]):
                scored.append(_scored(name, found[name], truths[name], tolerance_mm))
        except DataError as error:
            failures[str(found[name])] = str(error)
    if not scored:
        raise DataError(*failures.values())
    values = {name for case in scored for name in case.metrics}
    classes = dataset.classes if dataset else tuple(sorted(values, key=int))
    return Evaluation(
        classes=tuple(classes),
        tolerance_mm=tolerance_mm,
        scored=tuple(_with_all(case, classes) for case in scored),
        failures=failures,
        without_prediction=tuple(name for name in truths if name not in found),
        without_truth=tuple(name for name in found if name not in truths),
        truths=truths,
    )


def on_truth(prediction: Path, image: Volume | None, label: Volume) -> Volume:
    """Reads a label map in the axes of the true one, on whose grid it must lie.

    Raises:
        DataError: it cannot be read, or lies on another grid.
    """
    return on_grid_of(image or label, read_labels(prediction, num_classes=None, like=image))


def _label_maps(path: Path) -> dict[str, Path]:
    """Case → label map; the probabilities beside them are none.

    Raises:
        DataError: there are none, or two of one name.
    """
    found = find_volumes([path])
    if found.unusable:
        raise DataError(*found.unusable.values())
    names = {case_id(volume): volume for volume in found.volumes}
    return {
        name: volume
        for name, volume in names.items()
        if name.removesuffix(_PROBABILITIES) not in names or not name.endswith(_PROBABILITIES)
    }


def _truths(path: Path) -> dict[str, Truth]:
    """Case → its truth, of a dataset or of label maps."""
    faults: tuple[str, ...] = ()
    if path.is_dir():
        try:
            dataset = look_at_dataset(path)
        except DataError as error:
            faults = error.args
        else:
            if dataset.cases:
                refuse_faults(dataset)
                return {case.case_id: Truth(dataset=dataset, case=case) for case in dataset.cases}
            faults = dataset.faults
    try:
        return {name: Truth(labels=labels) for name, labels in _label_maps(path).items()}
    except DataError as error:
        raise DataError(*faults or error.args) from None


def _scored(name: str, path: Path, truth: Truth, tolerance_mm: float) -> Scored:
    image, label = truth.read()
    found = on_truth(path, image, label).array
    dataset = truth.dataset
    if dataset is None:
        values = sorted({*np.unique(label.array), *np.unique(found)} - {0})
        if len(values) > _MOST_CLASSES:
            raise DataError(
                f"{truth.labels} and {path} hold {len(values)} values: one of them is an image; "
                "name the label maps"
            )
        names = [str(value) for value in values]
        found, true = (np.searchsorted([0, *values], array) for array in (found, label.array))
    else:
        names, true = list(dataset.classes), label.array
        _require_classes(path, found, names)
    spacing = label.geometry.spacing
    millilitres = float(np.prod(spacing)) / 1000
    counted = [
        np.bincount(array[true <= len(names)].ravel(), minlength=len(names) + 1)[1:]
        for array in (true, found)
    ]
    return Scored(
        case_id=name,
        prediction=path,
        metrics=score_case(found, true, spacing=spacing, classes=names, tolerance_mm=tolerance_mm),
        millilitres={
            each: (float(of_truth) * millilitres, float(of_found) * millilitres)
            for each, of_truth, of_found in zip(names, *counted, strict=True)
        },
    )


def _require_classes(path: Path, found: np.ndarray, classes: Sequence[str]) -> None:
    """Refuses a label map of other classes, by its numbers or by the names beside it."""
    if found.max(initial=0) > len(classes):
        raise DataError(
            f"{path} holds the label {found.max()}, and the truth has the classes 1 to "
            f"{len(classes)} ({first_of(classes)}); a prediction holds their numbers"
        )
    for own in _named_beside(path):
        if own != list(classes):
            raise DataError(
                f"{path} was predicted with the classes {first_of(own)}, and the truth has "
                f"{first_of(classes)}: their numbers do not mean the same"
            )


def _named_beside(path: Path) -> Iterator[list[str]]:
    """The classes in the report that `medseg predict` wrote beside a label map, if it did."""
    try:
        report = json.loads((path.parent / f"{case_id(path)}.json").read_text("utf-8"))
        if report["output"] == path.name:
            yield [str(name) for name in report["classes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return


def _with_all(case: Scored, classes: Sequence[str]) -> Scored:
    """The case with the classes that neither of its label maps holds."""
    undefined = dict.fromkeys(METRICS)
    return Scored(
        case_id=case.case_id,
        prediction=case.prediction,
        metrics={name: case.metrics.get(name, undefined) for name in classes},
        millilitres={name: case.millilitres.get(name, (0.0, 0.0)) for name in classes},
    )
