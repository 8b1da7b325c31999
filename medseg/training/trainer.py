"""A Lightning trainer with everything a run needs; checkpoints that are whole and hold no code."""

import csv
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
)
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.plugins.io import TorchCheckpointIO

from medseg.files import atomic_path
from medseg.hardware import choose_device, device_name, lightning_name
from medseg.models.weights import read_checkpoint
from medseg.progress import is_terminal
from medseg.training.average import AveragedWeights
from medseg.training.callbacks import (
    History,
    SeedEachEpoch,
    StopOnDivergence,
)
from medseg.training.ranks import Rank
from medseg.training.watching import StallNotice, TrainingBar

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
BEST = f"{CHECKPOINTS}/best.ckpt"
LAST = f"{CHECKPOINTS}/last.ckpt"
METRICS_FILE = "metrics.csv"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How long and on what a network is trained.

    Args:
        epochs: Epochs.
        validate_every: Epochs between validations.
        weights: Which are kept: `last`, or `best` by the Dice of the validation cases.
        ema: Decay of the average of the weights (`medseg.training.average`); None: no average.
        class_prior: Whether the last layer starts from the classes' shares of the voxels.
        patience: Validations without a better Dice after which training stops; None: never.
        gradient_clip: Largest norm of the gradient; None: not clipped.
        devices: Processes of each node that share every batch, on a GPU each or all on the CPU.
        nodes: Of a SLURM job, on which they are.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `bf16`, `fp16`, `tf32` or `fp32`; see `medseg.hardware.choose_precision`.
        execution: `auto` or a way of `medseg.training.execution`.
        deterministic: Only deterministic kernels, slower on a GPU.
        logger: Of `medseg.training.loggers`, which shows curves; None: only the table is written.
        max_seconds: Of training steps, after which training ends instead; `epochs` then only
            give the schedule its shape. None: epochs count.
    """

    epochs: int
    validate_every: int = 1
    weights: str = "last"
    ema: float | None = None
    class_prior: bool = False
    patience: int | None = None
    gradient_clip: float | None = 12.0
    devices: int = 1
    nodes: int = 1
    device: str = "auto"
    precision: str = "auto"
    execution: str = "auto"
    deterministic: bool = False
    logger: str | None = "tensorboard"
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", device_name(self.device, key="trainer.device"))

    @property
    def processes(self) -> int:
        """Those that share every batch."""
        return self.devices * self.nodes

    @property
    def hardware(self) -> torch.device:
        """The device that `device` names here.

        Raises:
            ResourceError: a GPU is asked for and there is none.
        """
        return choose_device(self.device, key="trainer.device")


def make_trainer(
    plan: TrainingPlan,
    *,
    folder: Path,
    precision: str,
    seed: int,
    history: History,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger],
    rank: Rank,
    validates: bool = True,
) -> pl.Trainer:
    """A trainer that writes checkpoints and tables into `folder`; of several, one does.

    Without cases that are held out it `validates` nothing.
    """
    _quieten()
    gpu = plan.hardware.index if plan.hardware.type == "cuda" else None
    checkpoints = folder / CHECKPOINTS
    whole: dict[str, Any] = {"dirpath": checkpoints, "enable_version_counter": False}
    kept = [ModelCheckpoint(filename=_stem(LAST), save_on_train_epoch_end=True, **whole)]
    if plan.weights == "best":
        best = ModelCheckpoint(filename=_stem(BEST), monitor="val/dice", mode="max", **whole)
        kept.insert(0, best)
    # after what looks at the network when a validation ends: it gives the raw weights back
    own = torch.device("cuda", rank.local) if gpu is not None and rank.count > 1 else plan.hardware
    average = [] if plan.ema is None else [AveragedWeights(plan.ema, own)]
    early = [_Patience("val/dice", patience=plan.patience, mode="max")] if plan.patience else []
    shows = is_terminal() and rank.number == 0
    bar = [TrainingBar(history, max_seconds=plan.max_seconds)] if shows else []
    on_cpu = plan.hardware.type == "cpu"
    return pl.Trainer(
        accelerator="gpu" if plan.hardware.type == "cuda" else "cpu",
        devices=plan.devices if on_cpu or rank.count > 1 else [gpu or 0],
        num_nodes=rank.nodes,
        strategy=rank.strategy(),
        use_distributed_sampler=False,  # the data module shares out
        sync_batchnorm=rank.count > 1 and not on_cpu,
        precision=lightning_name(precision),  # type: ignore[arg-type]
        max_epochs=plan.epochs if plan.max_seconds is None else -1,
        # a run shorter than that is validated at its end
        check_val_every_n_epoch=min(plan.validate_every, plan.epochs),
        limit_val_batches=1.0 if validates else 0,
        gradient_clip_val=plan.gradient_clip,
        deterministic=plan.deterministic,
        # patches are all of one size: cuDNN tries its kernels once
        benchmark=not on_cpu and not plan.deterministic,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        logger=[
            *loggers,
            _AppendingLogger(folder, name="", version="", flush_logs_every_n_steps=20),
        ],
        plugins=[AtomicCheckpointIO(), rank.environment()],
        callbacks=[
            SeedEachEpoch(seed),
            LearningRateMonitor(logging_interval="epoch"),
            StopOnDivergence(),
            history,
            StallNotice(history),
            *callbacks,
            *early,
            *bar,
            *average,
            *kept,
        ],
    )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; loads tensors and plain data only.

    Lightning's own moves from the temporary folder, which is a copy across file systems: a full
    disk leaves half a checkpoint under the final name, and a refused permission goes unnoticed.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Writes one checkpoint.

        Raises:
            ResourceError: the folder cannot be written or the disk is full.
        """
        with atomic_path(Path(path)) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:  # torch's word for a write that fell short
                raise OSError(f"the checkpoint was not written in full ({error})") from error

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads one checkpoint, as if `weights_only` were always true.

        Raises:
            DataError: there is none, it is not whole, or it would run code.
        """
        content = read_checkpoint(Path(path), map_location)
        for state in content.get("callbacks", {}).values():
            if isinstance(state, dict) and "best_model_path" in state:
                state |= _best_here(state, Path(path).resolve().parent)
        return content


def _stem(path: str) -> str:
    return Path(path).stem


def _best_here(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The state of `ModelCheckpoint` with the paths of now: a run may be moved, or foreign.

    Lightning forgets the best score when the folder has another name, and removes the file that
    was the best.
    """
    best = folder / Path(str(state["best_model_path"])).name
    score = state.get("best_model_score")
    own = best.name in (Path(BEST).name, Path(LAST).name)  # Lightning removes what it replaces
    is_kept = own and best.is_file() and score is not None
    path = str(best) if is_kept else ""
    return {
        "dirpath": str(folder),
        "best_model_path": path,
        "best_model_score": score if is_kept else None,
        "kth_best_model_path": path,
        "best_k_models": {path: score} if is_kept else {},
        "last_model_path": "",
    } | ({"kth_value": score} if is_kept else {})


class _Patience(EarlyStopping):
    """Keeps its own patience, which a checkpoint would overrule, and does not stop twice."""

    @property
    def state_key(self) -> str:
        """As Lightning's own, so that checkpoints from before go on."""
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over for how long the score has not risen."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Trains no further epoch in a run that has stopped already."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class _AppendingWriter(ExperimentWriter):
    """Goes on with the table that is there; Lightning's own deletes it.

    Its columns `epoch` and `step` are Lightning's and count from 0.
    """

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        with path.open("rb+") as table:  # a kill may have cut the last row, and its last number
            table.truncate(whole := table.read().rfind(b"\n") + 1)
        if not whole:
            path.unlink()
            return
        with path.open(newline="", encoding="utf-8") as table:
            self.metrics_keys = next(csv.reader(table), [])


class _AppendingLogger(CSVLogger):
    """Writes `metrics.csv`, of a run that goes on below the rows of before."""

    @property
    def experiment(self) -> Any:
        """What writes the table."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _AppendingWriter(self.log_dir)
        return self._experiment


def _quieten() -> None:
    """Silences what Lightning prints at every start; warnings about a run stay."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    known: list[dict[str, Any]] = [
        # torch's deprecation of a class that Lightning 2.6 uses
        {"message": ".*LeafSpec.*"},
        # a run that goes on without patience, say, does not need its state
        {"message": ".*callbacks used to create the checkpoint.*"},
        # whole volumes are few: one loader process is enough
        {"message": ".*does not have many workers.*"},
        # of several processes: gradients with their channels last are copied
        {"message": ".*Grad strides do not match bucket view strides.*"},
        # processes are started by the run, under SLURM too
        {"message": ".*`srun` command is available.*"},
        # a resumed run writes into the folder it had
        {"message": ".*Checkpoint directory .* exists and is not empty.*"},
        {"message": ".*Experiment logs directory .* exists and is not empty.*"},
    ]
    for entry in known:
        warnings.filterwarnings("ignore", **entry)
