"""One volume examined: predicted while its windows are watched, and spun if that is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import softmax

from medseg.checkerboard.study.decision import (
    decision_effect,
    phase_shifts,
    spun_prediction,
    whole_shifts,
)
from medseg.checkerboard.study.study import Study
from medseg.errors import DataError
from medseg.inference.predictor import Predictor
from medseg.record import CaseRow
from medseg.volumes import Form, Volume, case_id, read_image, read_labels, write_probabilities


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A case and what examining it took.

    Args:
        case: Its numbers.
        network: Seconds of prediction, what watched it left out.
        watching: Seconds of summing up windows.
    """

    case: CaseRow
    network: float
    watching: float


def examine(
    source: Path,
    label: Path | None,
    *,
    study: Study,
    predictor: Predictor,
    spin: Path | None = None,
    prefer: Form = "sform",
) -> Examined:
    """Predicts a volume and scores it.

    Args:
        source: The volume.
        label: Its labels, or None.
        study: Collects its numbers.
        predictor: The network.
        spin: Folder for the map of the cycle-spin deviation; None leaves it and the effect on
            decisions out, which take as many predictions as there are shifts, twice with labels.
        prefer: Which orientation of a NIfTI header to believe.

    Raises:
        DataError: a volume that cannot be used, or labels on another grid.
    """
    card = predictor.card
    image = read_image(source, channels=card.in_channels, nonfinite="replace", prefer=prefer)
    truth = None if label is None else _truth(label, image, len(card.classes) + 1, prefer)
    watched = study.watch(None if truth is None else predictor.preprocessing.labels(truth))
    seconds = predictor.predict(image, observe=watched.start).seconds
    case = study.add(case_id(source), watched)
    if spin is not None:
        case = _spun(case, image, truth, study=study, predictor=predictor, folder=spin)
        study.amend(case)
    network = seconds["network"] - watched.seconds
    return Examined(case=case, network=network, watching=watched.seconds)


def labels_of(sources: Sequence[Path], labels: Sequence[Path]) -> dict[Path, Path | None]:
    """Each volume with the labels of the same case id, or None.

    Raises:
        DataError: labels are given, and none belongs to any volume.
    """
    by_case = {case_id(path): path for path in labels}
    pairs = {source: by_case.get(case_id(source)) for source in sources}
    if labels and not any(pairs.values()):
        raise DataError(
            f"{labels[0]}: no labels bear the name of a volume, such as {sources[0].name}; "
            "name them alike"
        )
    return pairs


def _truth(label: Path, image: Volume, classes: int, prefer: Form) -> Volume:
    truth = read_labels(label, num_classes=classes, prefer=prefer)
    if truth.array.shape != image.array.shape[-3:]:
        raise DataError(
            f"{label}: {truth.array.shape} voxels must be the {image.array.shape[-3:]} of "
            f"{image.path}; give labels on the volume's own grid"
        )
    return truth


def _spun(
    case: CaseRow,
    image: Volume,
    truth: Volume | None,
    *,
    study: Study,
    predictor: Predictor,
    folder: Path,
) -> CaseRow:
    grid = predictor.preprocessing.image(image)
    period = study.lattice.period
    spun = spun_prediction(predictor, grid, phase_shifts(period, study.shifts))
    deviation = predictor.preprocessing.restore_scores(spun.deviation, image)
    write_probabilities(folder / f"{case.case}_cycle_spin.nii.gz", deviation, image)
    if truth is None:
        return case
    control = spun_prediction(predictor, grid, whole_shifts(period, study.shifts))
    predictions = {
        "": softmax(predictor.logits(grid).cpu(), dim=0),
        "_spun": spun.probabilities,
        "_control": control.probabilities,
    }
    effect = decision_effect(predictor, image, truth, predictions)
    return replace(case, values=case.values | {"decision": effect})
