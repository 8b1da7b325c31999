"""The folder of a run: what lies in it, and whether a new run may use it."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.datamodule import SegmentationDataModule
from medseg.data.dataset import Case
from medseg.data.reading import read_case
from medseg.data.splits import NNUNET_FOLDS
from medseg.errors import ConfigError, DataError, MedsegError
from medseg.files import (
    atomic_path,
    list_as_own,
    lists_own_files,
    replacing,
    require_replaceable,
    require_writable,
)
from medseg.metrics import score_case
from medseg.models.weights import MODEL_FILES, MODEL_FOLDER, load_model
from medseg.record import FILE_NAME, PLAN_FILE, STATUS_FILE, RunRecord
from medseg.training.trainer import BEST, CHECKPOINTS, LAST, METRICS_FILE
from medseg.training.watching import PROGRESS_FILE
from medseg.volumes import read_labels

CONFIG = "config.yaml"
SPLIT = "split.json"
PREDICTIONS = "validation"
PICTURES = "pictures"
_NAMES = (
    *(CONFIG, FILE_NAME, STATUS_FILE, SPLIT, PREDICTIONS, PICTURES, MODEL_FOLDER, CHECKPOINTS),
    *(METRICS_FILE, PROGRESS_FILE, "train.log", ".hydra", PLAN_FILE, NNUNET_FOLDS),
)


def require_unused(folder: Path) -> None:
    """Checks that a new run finds no other's files, and none of the user's, under its names.

    Raises:
        ConfigError: one is there.
    """
    for path in (folder / name for name in _NAMES):
        if path.exists() or path.is_symlink():
            raise ConfigError(
                f"{path} exists, and a new run starts in a folder without one; choose another "
                f"hydra.run.dir, or continue the run that is there with resume={folder}"
            )


def require_own_results(folder: Path, data: SegmentationDataModule) -> None:
    """Checks that a run's model and label maps are as medseg wrote them, if they are there.

    Those from before medseg listed what it wrote (up to 0.1.0) are known by what they hold, and
    listed now.

    Args:
        folder: Of the run.
        data: Its data, set up.

    Raises:
        ConfigError: one that was changed, or put there, by others.
    """
    cases = data.validation_cases()
    targets = [folder / MODEL_FOLDER / name for name in MODEL_FILES]
    targets += label_maps(folder, [case.case_id for case in cases])
    older = [*_older_model(folder), *_older_label_maps(folder, cases, data)]
    require_replaceable(
        [target for target in targets if target not in older],
        remedy="the run would replace it: move it to another folder, then repeat the command",
    )
    list_as_own(older)


def _older_model(folder: Path) -> list[Path]:
    """The files of the model, if no list names them and it is that of the checkpoint."""
    model = folder / MODEL_FOLDER
    kept = folder / (BEST if (folder / BEST).is_file() else LAST)
    if not lists_own_files(model):
        with suppress(MedsegError):
            one, other = load_model(model), load_model(kept)
            states = one.network.state_dict(), other.network.state_dict()
            # of the card, what is told after training, and not in a checkpoint
            told = ("weights", "largest_component", "evidence")
            card = replace(other.card, **{key: getattr(one.card, key) for key in told})
            if one.card == card and all(v.equal(states[1][k]) for k, v in states[0].items()):
                return [model / name for name in MODEL_FILES]
    return []


def _older_label_maps(
    folder: Path, cases: Iterable[Case], data: SegmentationDataModule
) -> Iterator[Path]:
    """Label maps that no list names, with the Dice of every class that the record tells.

    The other metrics have changed since.
    """
    former = former_record(folder)
    if former is None or lists_own_files(folder / PREDICTIONS):
        return
    told = {case.case: case.metrics for case in former.cases}
    for case in cases:
        (path,) = label_maps(folder, [case.case_id])
        if path.is_file() and case.case_id in told:
            with suppress(DataError, ValueError):
                found = {name: own["dice"] for name, own in _scores(path, case, data).items()}
                if found == {name: own.get("dice", "") for name, own in told[case.case_id].items()}:
                    yield path


def _scores(path: Path, case: Case, data: SegmentationDataModule) -> Mapping[str, Any]:
    config = data.config
    labelling = data.dataset.labelling if data.dataset else config.labelling
    options = {"in_channels": config.in_channels, "num_classes": labelling.ignored}
    image, truth = read_case(case, data.preprocessing.label_values, **options)
    found = read_labels(path, num_classes=labelling.ignored, like=image).array
    spacing = image.geometry.spacing
    return score_case(found, truth.array, spacing=spacing, labelling=labelling, tolerance_mm=1.0)


def place_results(source: Path, folder: Path, cases: Iterable[str]) -> None:
    """Puts what lies below a folder into a run's, all of it or nothing, and removes the former.

    Args:
        source: Has model and label maps of the run.
        folder: Of the run.
        cases: Ids of all held-out cases: a label map of one that has none now is removed.

    Raises:
        ConfigError: a file would be replaced that medseg did not write.
    """
    new = {folder / p.relative_to(source): p for p in source.rglob("*") if p.is_file()}
    former = label_maps(folder, cases) if (source / PREDICTIONS).is_dir() else []
    with replacing([*new, *former]):
        for target, path in new.items():
            with atomic_path(target) as part:
                shutil.copyfile(path, part)
    shutil.rmtree(source)


def label_maps(folder: Path, cases: Iterable[str]) -> list[Path]:
    """Where a run's label maps of some cases are, or will be."""
    return [folder / PREDICTIONS / f"{case}.nii.gz" for case in cases]


def new_folder(wanted: Path) -> Path:
    """Makes the folder of a new run, with a number behind its name where another was faster.

    Raises:
        ResourceError: it cannot be made.
    """
    require_writable(wanted.parent)
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        else:
            return folder


def former_record(folder: Path) -> RunRecord | None:
    """The record that a run left in its folder; None if there is none that can be read."""
    try:
        return RunRecord.read(folder / FILE_NAME)
    except DataError:
        return None
