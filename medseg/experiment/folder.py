"""The folder of a run: what lies in it, and whether a new run may use it."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from medseg.errors import ConfigError, DataError
from medseg.files import atomic_path, replacing, require_replaceable, require_writable
from medseg.models.weights import MODEL_FILES, MODEL_FOLDER
from medseg.record import FILE_NAME, PLAN_FILE, STATUS_FILE, RunRecord
from medseg.training.trainer import CHECKPOINTS, METRICS_FILE

CONFIG = "config.yaml"
SPLIT = "split.json"
PREDICTIONS = "validation"
PICTURES = "pictures"
_NAMES = (
    *(CONFIG, FILE_NAME, STATUS_FILE, SPLIT, PREDICTIONS, PICTURES, MODEL_FOLDER, CHECKPOINTS),
    *(METRICS_FILE, "train.log", ".hydra", PLAN_FILE),
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


def require_own_results(folder: Path, cases: Iterable[str]) -> None:
    """Checks that a run's model and label maps are as medseg wrote them, if they are there.

    Args:
        folder: Of the run.
        cases: Ids of its held-out cases.

    Raises:
        ConfigError: one that was changed, or put there, by others.
    """
    require_replaceable(
        [*(folder / MODEL_FOLDER / name for name in MODEL_FILES), *_label_maps(folder, cases)],
        remedy="the run would replace it: move it to another folder, then repeat the command",
    )


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
    former = _label_maps(folder, cases) if (source / PREDICTIONS).is_dir() else []
    with replacing([*new, *former]):
        for target, path in new.items():
            with atomic_path(target) as part:
                shutil.copyfile(path, part)
    shutil.rmtree(source)


def _label_maps(folder: Path, cases: Iterable[str]) -> list[Path]:
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
