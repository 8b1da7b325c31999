"""Label maps scored against true ones, matched by name and compared in the patient's space."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medseg.data.forms import look_at_dataset
from medseg.data.forms.form import refuse_faults
from medseg.data.reading import read_case_of
from medseg.errors import DataError, one_volume
from medseg.formatting import first_of
from medseg.labelling import Labelling
from medseg.metrics import score_case
from medseg.progress import shown
from medseg.record import METRICS
from medseg.volumes import Volume, case_id, find_volumes, on_grid_of, read_labels

_MOST_CLASSES = 256  # in label maps without a list of them
_MAPS = ("_probabilities", "_uncertainty")  # of `medseg predict` beside its label maps


Truth = Callable[[], tuple[Volume | None, Volume]]
"""Reads the image, where there is one, and the true labels on its grid.

Ignored voxels hold the number after the last class.
"""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All cases that could be scored, and what became of the others.

    Args:
        classes: Names of the foreground classes.
        tolerance_mm: Of surface Dice.
        table: One row per case × class: metrics (NaN where undefined), volumes in ml, their error
            in ml and in percent of the truth.
        predictions: Case → its label map, of those that were scored.
        failures: File → why it could not be scored.
        without_prediction: Cases of the truth that nothing was predicted for.
        without_truth: Predictions of no case of the truth.
        truths: Case → its truth.
    """

    classes: tuple[str, ...]
    tolerance_mm: float
    table: pd.DataFrame
    predictions: dict[str, Path]
    failures: dict[str, str]
    without_prediction: tuple[str, ...]
    without_truth: tuple[str, ...]
    truths: dict[str, Truth] = field(repr=False)


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
    truths, labelling = _truths(truth)
    if predictions.is_file() and truth.is_file():  # two files mean each other
        found = dict(zip(truths, found.values(), strict=True))
    both = [name for name in truths if name in found]
    if not both:
        raise DataError(
            f"no label map of {predictions} is called as a case of {truth}: {first_of([*found])} "
            f"there, {first_of([*truths])} here; give them the same names"
        )
    rows, scored, failures = [], {}, {}
    for name in shown(both, "cases"):
        path = found[name]
        try:
            with one_volume(path):
                rows += _scored(name, path, truths[name], labelling, tolerance_mm)
                scored[name] = path
        except DataError as error:
            failures[str(path)] = str(error)
    if not scored:
        raise DataError(*failures.values())
    names = labelling.names if labelling else ()
    classes = names or tuple(sorted({row["class"] for row in rows}, key=int))
    return Evaluation(
        classes=classes,
        tolerance_mm=tolerance_mm,
        table=_table(rows, [*scored], classes),
        predictions=scored,
        failures=failures,
        without_prediction=tuple(name for name in truths if name not in found),
        without_truth=tuple(name for name in found if name not in truths),
        truths=truths,
    )


def _table(rows: list[dict[str, Any]], cases: list[str], classes: Sequence[str]) -> pd.DataFrame:
    """With the classes, too, that neither label map of a case holds."""
    volumes = ["truth_ml", "prediction_ml"]
    every = pd.MultiIndex.from_product([cases, classes], names=["case", "class"])
    found = pd.DataFrame(rows, columns=["case", "class", *METRICS, *volumes])
    table = found.set_index(["case", "class"]).reindex(every).astype(float)
    table[volumes] = table[volumes].fillna(0.0)
    table["volume_error_ml"] = table["prediction_ml"] - table["truth_ml"]
    known = table["truth_ml"].where(table["truth_ml"] > 0)
    table["volume_error_percent"] = 100 * table["volume_error_ml"] / known
    return table.reset_index()


def on_truth(prediction: Path, image: Volume | None, label: Volume) -> Volume:
    """Reads a label map in the axes of the true one, on whose grid it must lie.

    Raises:
        DataError: it cannot be read, or lies on another grid.
    """
    return on_grid_of(image or label, read_labels(prediction, num_classes=None, like=image))


def _label_maps(path: Path) -> dict[str, Path]:
    """Case → label map; probabilities and uncertainties beside them are none.

    Raises:
        DataError: there are none, or two of one name.
    """
    found = find_volumes([path])
    if found.unusable:
        raise DataError(*found.unusable.values())
    names = {case_id(volume): volume for volume in found.volumes}
    maps = {f"{name}{suffix}" for name in names for suffix in _MAPS}
    return {name: volume for name, volume in names.items() if name not in maps}


def _truths(path: Path) -> tuple[dict[str, Truth], Labelling | None]:
    """Case → its truth, of a dataset or of label maps; and what the labels of a dataset mean."""
    faults: tuple[str, ...] = ()
    if path.is_dir():
        try:
            dataset = look_at_dataset(path)
        except DataError as error:
            faults = error.args
        else:
            if dataset.cases:
                refuse_faults(dataset)
                cases = {c.case_id: partial(read_case_of, dataset, c) for c in dataset.cases}
                return {**cases}, dataset.labelling
            faults = dataset.faults
    try:
        return {name: partial(_alone, own) for name, own in _label_maps(path).items()}, None
    except DataError as error:
        raise DataError(*faults or error.args) from None


def _alone(path: Path) -> tuple[None, Volume]:
    return None, read_labels(path, num_classes=None)


def _scored(
    name: str, path: Path, truth: Truth, labelling: Labelling | None, tolerance_mm: float
) -> list[dict[str, Any]]:
    """A row for each class or region, or for each value where it is not known what they mean."""
    image, label = truth()
    found, true = on_truth(path, image, label).array, label.array
    if labelling:
        _require_classes(path, found, labelling)
    else:
        values = sorted({*np.unique(true), *np.unique(found)} - {0})
        if len(values) > _MOST_CLASSES:
            raise DataError(
                f"{label.path} and {path} hold {len(values)} values: one of them is an image; "
                "name the label maps"
            )
        labelling = Labelling(tuple(str(value) for value in values))
        found, true = (np.searchsorted([0, *values], array) for array in (found, true))
    spacing = label.geometry.spacing
    metrics = score_case(
        found, true, spacing=spacing, labelling=labelling, tolerance_mm=tolerance_mm
    )
    truths, predicted = (
        np.bincount(array[true < labelling.ignored].ravel(), minlength=labelling.ignored)
        * (float(np.prod(spacing)) / 1000)
        for array in (true, found)
    )
    rows = []
    for index, each in enumerate(labelling.names):
        own = list(labelling.members(index))
        volumes = {"truth_ml": truths[own].sum(), "prediction_ml": predicted[own].sum()}
        rows.append({"case": name, "class": each} | volumes | metrics[each])
    return rows


def _require_classes(path: Path, found: np.ndarray, labelling: Labelling) -> None:
    """Refuses a label map of other classes, by its numbers or by the names beside it."""
    classes = labelling.names
    if found.max(initial=0) >= labelling.ignored:
        raise DataError(
            f"{path} holds the label {found.max()}, and the truth has the classes 1 to "
            f"{labelling.ignored - 1} ({first_of(labelling.value_names)}); a prediction holds "
            "their numbers"
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
