"""The folder of a rewritten network: checked before the work, written whole after it."""

import shutil
import tempfile
from pathlib import Path

from torch import nn

from medseg.errors import DataError, ResourceError
from medseg.models.weights import MODEL_FOLDER, ModelCard, TrainedModel, save_model

_OF_A_RUN = (MODEL_FOLDER, "checkpoints")


def check_output(folder: Path, source: TrainedModel, *, overwrite: bool) -> None:
    """Makes sure that a model may be written to a folder.

    Args:
        folder: Where it would go.
        source: The model that it is made from.
        overwrite: Whether a model that is there may be replaced.

    Raises:
        DataError: the folder is the source's own, a run's, or a file; or a model is there.
    """
    own = source.source.resolve().parent
    run = own.parent if own.name in _OF_A_RUN else None
    target = folder.resolve()
    if target == own or (run is not None and target.is_relative_to(run)):
        raise DataError(
            f"{folder}: holds the network that is converted, which stays as it is; "
            "choose another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file and a model is a folder; choose another name")
    if any((folder / name).exists() for name in _OF_A_RUN):
        raise DataError(f"{folder}: is a run, whose own network it holds; choose another folder")
    found = [path for path in (folder / name for name in _names()) if path.exists()]
    if found and not overwrite:
        raise DataError(f"{found[0]} exists; use --overwrite or choose another folder")


def save_whole(folder: Path, network: nn.Module, card: ModelCard) -> None:
    """Writes both files of a model beside `folder`, then moves them there: whole or absent.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".", suffix=".part") as beside:
            written = Path(beside) / MODEL_FOLDER
            save_model(written, network, card)
            if folder.exists():
                for name in _names():
                    (written / name).replace(folder / name)
            else:
                written.rename(folder)
    except OSError as error:
        raise ResourceError(
            f"cannot write {folder}: {error.strerror or error}; "
            f"{_free(folder)} MiB are free there; choose a folder that can be written"
        ) from error


def _names() -> tuple[str, str]:
    return "weights.safetensors", "model.json"


def _free(folder: Path) -> int:
    existing = next(path for path in [folder, *folder.resolve().parents] if path.is_dir())
    return shutil.disk_usage(existing).free // 2**20
