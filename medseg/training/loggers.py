"""Where the curves of a training are shown: TensorBoard, MLflow or Weights & Biases."""

import logging
import os
import uuid
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from medseg.errors import ConfigError, ResourceError
from medseg.files import write_text

log = logging.getLogger(__name__)

_ID = "{}_id.txt"  # by which a run that goes on finds its curves


def require_logger(kind: str | None) -> None:
    """Checks that what shows curves is installed.

    Raises:
        ConfigError: it is not.
    """
    if kind in ("mlflow", "wandb"):
        try:
            import_module(kind)
        except ImportError as error:
            raise ConfigError(
                f"trainer.logger={kind}: {error.name} is not installed; "
                f"pip install 'medseg[{kind}]'"
            ) from error


def make_loggers(
    kind: str | None, folder: Path, name: str, config: Mapping[str, Any]
) -> list[Logger]:
    """What shows the curves of the run in a folder.

    Addresses and keys are those of the environment: `MLFLOW_TRACKING_URI`, `WANDB_MODE`,
    `WANDB_PROJECT` and so on; without them MLflow's files lie in the folder.

    Args:
        kind: `tensorboard`, `mlflow`, `wandb` or None.
        folder: Of the run.
        name: Of the experiment.
        config: Of the run.

    Raises:
        ResourceError: the server cannot be reached.
    """
    if kind is None:
        return []
    if kind == "tensorboard":
        return [TensorBoardLogger(folder, name="", version="")]
    kept = folder / _ID.format(kind)
    known = kept.read_text(encoding="utf-8").strip() if kept.is_file() else None
    try:
        if kind == "mlflow":
            place = (
                os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute()}/mlflow.db"
            )
            made, is_new = _MLflow(name, folder.name, place, run_id=known), known is None
            known = made.run_id
            if is_new:  # MLflow takes no other values than the first
                made.log_hyperparams(dict(config))
        else:
            known = known or uuid.uuid4().hex[:8]
            project = os.environ.get("WANDB_PROJECT") or "medseg"
            # its links lead out of its folder, which that of a run may not have
            made = WandbLogger(
                folder.name, folder.parent, id=known, resume="allow", project=project, group=name
            )
            made.log_hyperparams(dict(config))
    except Exception as error:  # of a library that is not medseg's, and of networks
        raise ResourceError(
            f"trainer.logger={kind}: {' '.join(str(error).split())[:300]}; set its environment "
            "variables right, or leave it out"
        ) from error
    assert known
    write_text(kept, known)
    return [made]


class _MLflow(MLFlowLogger):
    """Says once that curves do not arrive, which is no reason to lose a training."""

    _is_lost = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Sends numbers, unless earlier ones were lost."""
        if self._is_lost:
            return
        try:
            super().log_metrics(metrics, step)
        except Exception as error:
            self._is_lost = True
            log.warning("MLflow takes no more numbers: %s", " ".join(str(error).split())[:300])

    def finalize(self, status: str = "success") -> None:
        """Says how the run ended."""
        if not self._is_lost:
            super().finalize(status)
