"""The folder of a run: what lies in it, and whether a new run may use it."""

from pathlib import Path

from medseg.errors import ConfigError, DataError
from medseg.files import require_writable
from medseg.models.weights import MODEL_FOLDER
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
